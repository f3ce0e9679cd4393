"""Family `ppca`: probabilistic PCA (Tipping & Bishop 1999), and the linear VAE that has it as its optimum."""

from typing import Literal

from pydantic import Field
from torch import nn

from models.continuous import VectorBottleneck
from models.families.family import ImageFamily
from models.families.parts import LikelihoodPart
from models.likelihoods import GreyLevelGaussian
from models.networks import ImageShape
from models.posteriors import DiagonalGaussianPosterior, FullCovariancePosterior
from models.ppca import PPCA, ExactPosterior, LinearEncoder
from models.priors import StandardNormal


class GreyLevelGaussianConfig(LikelihoodPart):
    """Pixels as real numbers under a normal density with one learned scale, which starts at `scale` grey levels."""

    kind: Literal["grey-level-gaussian"] = "grey-level-gaussian"
    scale: float = Field(default=32.0, ge=0.2, le=255.0)

    def build(self) -> GreyLevelGaussian:
        """Make the likelihood."""
        return GreyLevelGaussian("shared", self.scale)


class PPCAConfig(ImageFamily):
    """The `[model]` table of a recipe for pPCA; `latent` is D of z.

    Attributes:
        posterior: `exact` computes it from the weights; the others learn it with a linear encoder.
    """

    family: Literal["ppca"]
    latent: int = Field(default=16, gt=0)
    posterior: Literal["exact", "diagonal", "full-covariance"] = "exact"
    likelihood: GreyLevelGaussianConfig = GreyLevelGaussianConfig()

    def build(self, data: ImageShape) -> PPCA:
        """Compose the model.

        Args:
            data: shape of an image.

        Returns:
            The model, freshly initialised from torch's global generator.

        Raises:
            ValueError: z has no fewer dimensions than an image has values.
        """
        if not self.latent < data.size:
            raise ValueError(f"latent is {self.latent}, but an image has {data.size} values; use fewer dimensions")
        decoder = nn.Sequential(nn.Linear(self.latent, data.size), nn.Unflatten(1, tuple(data)))
        prior, likelihood = StandardNormal(self.latent), self.likelihood.build()
        if self.posterior == "exact":
            bottleneck = VectorBottleneck(ExactPosterior(self.latent), prior)
            return PPCA(nn.Identity(), bottleneck, decoder, likelihood)
        kind = DiagonalGaussianPosterior if self.posterior == "diagonal" else FullCovariancePosterior
        posterior = kind(self.latent)
        encoder = LinearEncoder(data.size, self.latent, posterior.outputs)
        return PPCA(encoder, VectorBottleneck(posterior, prior), decoder, likelihood)
