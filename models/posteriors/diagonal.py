"""The normal posterior whose dimensions are independent given x."""

from jaxtyping import Float
from torch import Tensor

from models.distributions import DiagonalGaussian
from models.posteriors.base import Posterior, Quantity


class DiagonalGaussianPosterior(Posterior):
    """N(z; mean(x), diag exp(log_variance(x))) (Kingma & Welling 2014, eq. 9).

    Args:
        dimensions: D of z.
    """

    limit = 15.0
    """The log-variance stays within +- this, where exp is far from overflow."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self.outputs = 2 * dimensions
        self.quantities = (
            Quantity("mean", (dimensions,), "latent"),
            Quantity("log_variance", (dimensions,), "log_latent_squared"),
        )

    def params(self, h: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B ..."]]:
        """Split the encoder's output into mean and log-variance."""
        mean, log_variance = h.float().chunk(2, dim=1)
        return {"mean": mean, "log_variance": log_variance.clamp(-self.limit, self.limit)}

    def distribution(self, params: dict[str, Float[Tensor, "B ..."]]) -> DiagonalGaussian:
        """Give the normal with these moments."""
        return DiagonalGaussian(params["mean"], params["log_variance"])
