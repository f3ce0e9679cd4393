"""Models whose decoder gives each element of x from those before it: p(x given z) = prod p(x_i given x_<i, z)."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from models.code_priors import Conditions
from models.likelihoods import Params
from models.model import LatentVariableModel
from models.pixelcnn_decoder import PixelCNNDecoder
from models.wavenet_decoder import WaveNetDecoder

_SEED = 0


class TeacherForcedModel(LatentVariableModel, ABC):
    """A model that is fitted and weighed in parallel, with the elements before each one as they really were.

    Without data there are no parameters, since each element's depend on what was drawn before it: `decode` raises a
    TypeError. What stands in for the mean is a draw, from noise that is always the same.
    """

    def decode(self, z: Float[Tensor, "*batch_latent"], conditions: Conditions | None = None) -> Params:
        """Refuse: see the class."""
        del z, conditions
        raise TypeError("an autoregressive decoder has no parameters without data: use `weighing` or `mean`")

    def weighing(
        self, x: Shaped[Tensor, "B *data"], z: Float[Tensor, "*batch_latent"], conditions: Conditions | None = None
    ) -> Params:
        """Give the parameters of each element given those before it in x; see `LatentVariableModel.weighing`."""
        batch = self.batch_shape(z)
        before = x.reshape(-1, *(1,) * (len(batch) - 1), *x.shape[1:]).expand(*batch, *x.shape[1:])
        flat = before.flatten(0, len(batch) - 1), z.flatten(0, len(batch) - 1)
        params = self.likelihood.params(self.outputs(*flat, self.spread(conditions, z)))
        return {name: value.reshape(*batch, *value.shape[1:]) for name, value in params.items()}

    @torch.no_grad()
    def mean(self, z: Float[Tensor, "*batch_latent"], conditions: Conditions | None = None) -> Float[Tensor, "..."]:
        """Draw data for each z, `[*batch, *data]`."""
        batch = self.batch_shape(z)
        drawn = self.drawn(z.flatten(0, len(batch) - 1), self.spread(conditions, z))
        return drawn.reshape(*batch, *drawn.shape[1:])

    @abstractmethod
    def outputs(
        self, x: Shaped[Tensor, "N *data"], z: Float[Tensor, "N *latent"], conditions: Conditions
    ) -> Float[Tensor, "N K *places"]:
        """Give what the likelihood reads of each element given those before it, all at once."""

    @abstractmethod
    def drawn(self, z: Float[Tensor, "N *latent"], conditions: Conditions) -> Float[Tensor, "N *data"]:
        """Draw data one element after the other, from noise that is always the same."""


def _uniform(*shape: int) -> Float[Tensor, "..."]:
    """Give the noise of a draw."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(_SEED))


class AutoregressiveModel(TeacherForcedModel):
    """A model of sounds, sample by sample."""

    decoder: WaveNetDecoder

    def outputs(
        self, x: Float[Tensor, "N T"], z: Float[Tensor, "N D t"], conditions: Conditions
    ) -> Float[Tensor, "N 256 T"]:
        """Give the logits of the class of every sample."""
        return self.decoder.logits(x, z, conditions)

    def drawn(self, z: Float[Tensor, "N D t"], conditions: Conditions) -> Float[Tensor, "N T"]:
        """Draw a sound for each z."""
        length = self.decoder(z[:1]).shape[-1]
        sounds: Tensor = self.decoder.draw(z, _uniform(len(z), length).to(z.device), conditions)
        return sounds


class AutoregressivePictures(TeacherForcedModel):
    """A model of grey pictures, pixel by pixel."""

    decoder: PixelCNNDecoder

    def outputs(
        self, x: UInt8[Tensor, "N H W 1"], z: Float[Tensor, "N D"], conditions: Conditions
    ) -> Float[Tensor, "N K H W"]:
        """Give the likelihood's numbers of every pixel."""
        del conditions
        return self.decoder.outputs(x, z)

    def drawn(self, z: Float[Tensor, "N D"], conditions: Conditions) -> Float[Tensor, "N H W 1"]:
        """Draw a picture for each z."""
        del conditions
        noise = _uniform(len(z), *self.decoder(z[:1]).shape[2:], 1).to(z.device)
        pictures: Tensor = self.decoder.draw(z, noise, self.likelihood)
        return pictures.float()
