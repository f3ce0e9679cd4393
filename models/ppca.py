"""Probabilistic PCA, x = W z + mu + noise, whose log p(x) is known; equations are those of Tipping & Bishop 1999."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from models.distributions import LOG_2PI
from models.likelihoods import GreyLevelGaussian
from models.model import LatentVariableModel
from models.posteriors import FullCovariancePosterior


@dataclass(frozen=True)
class LinearGaussian:
    """p(z) = N(0, I), p(x given z) = N(W z + mu, variance I), hence p(x) = N(mu, C) with C = W W^T + variance I.

    Everything that needs the inverse of C has it from the D x D matrix M = W^T W + variance I = L L^T, by the
    matrix-inversion lemma: C^-1 = (I - W M^-1 W^T) / variance.

    Attributes:
        weight: W.
        location: mu.
        variance: of the noise, > 0.
    """

    weight: Float64[Tensor, "P D"]
    location: Float64[Tensor, " P"]
    variance: Float64[Tensor, ""]

    def cholesky(self) -> Float64[Tensor, "D D"]:
        """Give L."""
        inner = self.weight.T @ self.weight
        factor: Tensor = torch.linalg.cholesky(inner + self.variance * torch.eye(len(inner)).to(inner))
        return factor

    def log_det(self, factor: Float64[Tensor, "D D"]) -> Float64[Tensor, ""]:
        """Give log |C| = (P - D) log variance + log |M|, of L."""
        pixels, dimensions = self.weight.shape
        return (pixels - dimensions) * self.variance.log() + 2.0 * factor.diagonal().log().sum()

    def mean_log_prob(self, covariance: Float64[Tensor, "P P"]) -> float:
        """Give the mean log p(x) of data whose mean is mu, in nats (eq. 4).

        -(P log 2 pi + log |C| + tr(C^-1 S)) / 2.

        Args:
            covariance: S of the data.
        """
        factor = self.cholesky()
        projected = torch.linalg.solve_triangular(factor, self.weight.T, upper=False)
        trace = (covariance.trace() - ((projected @ covariance) * projected).sum()) / self.variance
        return -0.5 * (len(self.location) * LOG_2PI + self.log_det(factor) + trace).item()


def closed_form(mean: Float64[Tensor, " P"], covariance: Float64[Tensor, "P P"], dimensions: int) -> LinearGaussian:
    """Give the most probable parameters: W = U (Lambda - variance I)^(1/2), R = I (eq. 7).

    Lambda are the largest eigenvalues of S and U their vectors; the variance is the mean of the others (eq. 8).

    Args:
        mean: of the data.
        covariance: S.
        dimensions: D of z, below P.

    Returns:
        The parameters.

    Raises:
        ValueError: there are as many dimensions as pixels, or no noise is left beside them.
    """
    if not dimensions < len(mean):
        raise ValueError(f"z has {dimensions} dimensions and a picture {len(mean)} values; give z fewer")
    values, vectors = torch.linalg.eigh(covariance)
    variance = values[:-dimensions].mean()
    if not variance > 0.0:
        raise ValueError(f"{dimensions} dimensions explain the data without noise; give z fewer")
    scales = (values[-dimensions:] - variance).clamp(min=0.0).sqrt()
    return LinearGaussian((vectors[:, -dimensions:] * scales).flip(1), mean, variance)


def em_step(now: LinearGaussian, covariance: Float64[Tensor, "P P"]) -> LinearGaussian:
    """Take an exact step of EM, after which log p of the data is no smaller (appendix B, eqs. 29 and 30).

    W' = S W (variance I + M^-1 W^T S W)^-1, variance' = tr(S - S W M^-1 W'^T) / P.

    Args:
        now: the parameters.
        covariance: S of the data, whose mean is `now.location`.

    Returns:
        The next ones.
    """
    moved, factor = covariance @ now.weight, now.cholesky()
    inner = torch.cholesky_solve(now.weight.T @ moved, factor)
    scale = now.variance * torch.eye(len(inner)).to(inner) + inner
    weight = torch.linalg.solve(scale, moved, left=False)
    explained = (torch.cholesky_solve(moved.T, factor).T * weight).sum()
    return LinearGaussian(weight, now.location, (covariance.trace() - explained) / len(now.location))


class ExactPosterior(FullCovariancePosterior):
    """p(z given x) of a linear Gaussian model, N(M^-1 W^T (x - mu), variance M^-1): it has nothing to learn (eq. 6).

    Args:
        dimensions: D of z.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self.outputs = dimensions * (1 + dimensions)

    def params(self, h: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B ..."]]:
        """Split what the model computed into the mean and L."""
        mean, factor = h.tensor_split((self.dimensions,), dim=1)
        return {"mean": mean, "factor": factor.reshape(-1, self.dimensions, self.dimensions)}


class LinearEncoder(nn.Module):
    """The mean of z as a linear function of x; what else the posterior wants is the same for every x.

    Args:
        pixels: P.
        dimensions: D of z.
        outputs: numbers that the posterior wants, of which the first D are the mean.
    """

    def __init__(self, pixels: int, dimensions: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Linear(pixels, dimensions)
        self.rest = nn.Parameter(torch.zeros(outputs - dimensions))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Give the posterior's numbers."""
        return torch.cat([self.mean(x.flatten(1)), self.rest.expand(x.shape[0], -1)], dim=1)


@dataclass(frozen=True)
class Solved:
    """What the posterior and log p(x) need of a linear Gaussian model, ready to be applied to any x.

    Attributes:
        location: mu.
        projection: L^-1 W^T, so that x^T C^-1 x = (|x|^2 - |projection x|^2) / variance.
        gain: M^-1 W^T, from x - mu to the posterior's mean.
        factor: of the posterior's covariance, variance M^-1, its Cholesky factor.
        variance: of the noise.
        log_normaliser: -(P log 2 pi + log |C|) / 2.
    """

    location: Float64[Tensor, " P"]
    projection: Float64[Tensor, "D P"]
    gain: Float64[Tensor, "D P"]
    factor: Float64[Tensor, "D D"]
    variance: Float64[Tensor, ""]
    log_normaliser: Float64[Tensor, ""]


def solve(given: LinearGaussian) -> Solved:
    """Invert what has to be inverted, once."""
    factor, pixels = given.cholesky(), len(given.location)
    return Solved(
        location=given.location,
        projection=torch.linalg.solve_triangular(factor, given.weight.T, upper=False),
        gain=torch.cholesky_solve(given.weight.T, factor),
        factor=torch.linalg.cholesky(given.variance * torch.cholesky_inverse(factor)),
        variance=given.variance,
        log_normaliser=-0.5 * (pixels * LOG_2PI + given.log_det(factor)),
    )


class PPCA(LatentVariableModel):
    """Probabilistic PCA over real-valued grey levels: a linear decoder and one variance for all pixels.

    Its posterior is the exact one, or a linear encoder learns one, as in a linear VAE; log p(x) is known either way. It
    is a density over grey levels, no code length.
    """

    solved: Solved | None = None

    @property
    def grey_levels(self) -> GreyLevelGaussian:
        """The likelihood by its own type."""
        return cast("GreyLevelGaussian", self.likelihood)

    @property
    def linear(self) -> nn.Linear:
        """The decoder's one layer."""
        return cast("nn.Linear", cast("nn.Sequential", self.decoder)[0])

    @property
    def is_exact(self) -> bool:
        """Whether its posterior is computed from the weights, and none is learned."""
        return isinstance(self.encoder, nn.Identity)

    def parameters_of_x(self) -> LinearGaussian:
        """Give W, mu and the variance in network units, with gradients."""
        log_scale = self.likelihood.params(self.linear.bias.new_zeros(1, 1, 1, 1))["log_scale"]
        return LinearGaussian(
            self.linear.weight.double(), self.linear.bias.double(), (2.0 * log_scale.double()).exp().squeeze()
        )

    @torch.no_grad()
    def put(self, found: LinearGaussian) -> None:
        """Take parameters.

        Args:
            found: in network units.
        """
        self.linear.weight.copy_(found.weight)
        self.linear.bias.copy_(found.location)
        self.grey_levels.set_scale(found.variance.sqrt().item() * self.grey_levels.half_range)

    def flat(self, x: Shaped[Tensor, "B H W C"]) -> Float64[Tensor, "B P"]:
        """Give pictures as vectors in network units, in the order of the decoder's outputs."""
        scaled = (x.double() - self.grey_levels.centre) / self.grey_levels.half_range
        return scaled.permute(0, 3, 1, 2).flatten(1)

    def hidden(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B K"]:
        """Give the moments of the exact posterior, or run the encoder where one is learned."""
        if not self.is_exact:
            return super().hidden(x)
        solved = self._solved()
        mean = (self.flat(x) - solved.location) @ solved.gain.T
        return torch.cat([mean, solved.factor.flatten().expand(x.shape[0], -1)], dim=1).float()

    def exact_log_prob(self, x: Shaped[Tensor, "B H W C"]) -> Float64[Tensor, " B"]:
        """Give log N(x; mu, W W^T + variance I) in nats, a density over grey levels (Tipping & Bishop 1999, eq. 4)."""
        solved = self._solved()
        residual = self.flat(x) - solved.location
        projected = residual @ solved.projection.T
        distance = (residual.square().sum(1) - projected.square().sum(1)) / solved.variance
        unit = residual.shape[1] * math.log(self.grey_levels.half_range)
        return solved.log_normaliser - 0.5 * distance - unit

    @torch.no_grad()
    def for_export(self) -> "PPCA":
        """Give the same model with everything inverted beforehand."""
        exported = cast("PPCA", super().for_export())
        exported.solved = self._solved()
        return exported

    def _solved(self) -> Solved:
        """Give what was inverted beforehand, or invert it."""
        return self.solved or solve(self.parameters_of_x())
