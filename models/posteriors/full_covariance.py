"""The normal posterior whose dimensions depend on each other given x."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from models.distributions import Distribution, Draw, standard_normal_log_prob
from models.posteriors.base import Posterior, Quantity
from models.posteriors.diagonal import DiagonalGaussianPosterior


@dataclass(frozen=True)
class FullCovarianceGaussian(Distribution):
    """N(z; mean, L L^T) for each example of a batch; L is lower triangular with a positive diagonal."""

    mean: Float[Tensor, "B D"]
    factor: Float[Tensor, "B D D"]

    def draw(self, noise: Float[Tensor, "B S D"]) -> Draw:
        """Give z = mean + L noise, whose density is that of the noise over det L (Kingma & Welling 2019, 2.5.1)."""
        z = self.mean.unsqueeze(1) + noise @ self.factor.mT
        return Draw(z, standard_normal_log_prob(noise) - self._log_det())

    def log_prob(self, z: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """Give log q(z) in nats, from the noise that solves L noise = z - mean."""
        residual = (z - self.mean.unsqueeze(1)).mT
        noise = torch.linalg.solve_triangular(self.factor, residual, upper=False).mT
        return standard_normal_log_prob(noise) - self._log_det()

    def kl_from_standard_normal(self) -> Float[Tensor, "B 1"]:
        """Give KL(q || N(0, I)) in nats.

        KL = (|mean|^2 + |L|^2 - D) / 2 - log det L, with the squares of all elements of L.
        """
        squares = self.mean.square().sum(1) + self.factor.square().sum((1, 2))
        return 0.5 * (squares.unsqueeze(1) - self.mean.shape[1]) - self._log_det()

    def detach(self) -> Self:
        """Cut the distribution from the graph that made its parameters."""
        return type(self)(self.mean.detach(), self.factor.detach())

    def _log_det(self) -> Float[Tensor, "B 1"]:
        """Give log det L."""
        return self.factor.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)


class FullCovariancePosterior(Posterior):
    """N(z; mean(x), L(x) L(x)^T) (Kingma & Welling 2019, section 2.5.1).

    Args:
        dimensions: D of z.
    """

    below_diagonal: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self.outputs = 2 * dimensions + dimensions * (dimensions - 1) // 2
        self.quantities = (
            Quantity("mean", (dimensions,), "latent"),
            Quantity("factor", (dimensions, dimensions), "latent"),
        )
        # Where each element below the diagonal stands among the encoder's outputs, from 1; all others take a zero.
        places = torch.zeros(dimensions, dimensions, dtype=torch.int64)
        rows, columns = torch.tril_indices(dimensions, dimensions, offset=-1)
        places[rows, columns] = torch.arange(1, len(rows) + 1)
        self.register_buffer("below_diagonal", places, persistent=False)

    def params(self, h: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B ..."]]:
        """Split the encoder's output into mean, the logarithms of L's squared diagonal, and what lies below it.

        What lies below is in units of the diagonal's element in its row, so that it starts small where z is precise.
        """
        dimensions, limit = self.dimensions, DiagonalGaussianPosterior.limit
        mean, log_variance, below = h.float().tensor_split((dimensions, 2 * dimensions), dim=1)
        below = torch.nn.functional.pad(below, (1, 0))[:, self.below_diagonal]
        diagonal = (0.5 * log_variance.clamp(-limit, limit)).exp()
        return {"mean": mean, "factor": diagonal.unsqueeze(2) * below + diagonal.diag_embed()}

    def distribution(self, params: dict[str, Float[Tensor, "B ..."]]) -> FullCovarianceGaussian:
        """Give the normal with these parameters."""
        return FullCovarianceGaussian(params["mean"], params["factor"])
