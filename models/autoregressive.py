"""A model whose decoder gives each sample of a sound from those before it: p(x given z) = prod p(x_t given x_<t, z)."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.code_priors import Conditions
from models.likelihoods import Params
from models.model import LatentVariableModel
from models.wavenet_decoder import WaveNetDecoder

_SEED = 0


class AutoregressiveModel(LatentVariableModel):
    """A model of sounds that is fitted and weighed in parallel, with the samples before each one as they really were.

    Without a sound there are no parameters, since each sample's depend on what was drawn before it: `decode` raises a
    TypeError. What stands in for the mean is a draw, from noise that is always the same.
    """

    decoder: WaveNetDecoder

    def decode(self, z: Float[Tensor, "*batch_latent"], conditions: Conditions | None = None) -> Params:
        """Refuse: see the class."""
        del z, conditions
        raise TypeError("an autoregressive decoder has no parameters without a sound: use `weighing` or `mean`")

    def weighing(
        self, x: Float[Tensor, "B T"], z: Float[Tensor, "*batch D t"], conditions: Conditions | None = None
    ) -> Params:
        """Give the parameters of each sample given those before it in x; see `LatentVariableModel.weighing`."""
        batch = self.batch_shape(z)
        before = x.reshape(-1, *(1,) * (len(batch) - 1), x.shape[-1]).expand(*batch, x.shape[-1])
        flat = before.flatten(0, len(batch) - 1), z.flatten(0, len(batch) - 1)
        params = self.likelihood.params(self.decoder.logits(*flat, self.spread(conditions, z)))
        return {name: value.reshape(*batch, *value.shape[1:]) for name, value in params.items()}

    @torch.no_grad()
    def mean(self, z: Float[Tensor, "*batch D t"], conditions: Conditions | None = None) -> Float[Tensor, "*batch T"]:
        """Draw a sound for each z."""
        batch, flat = self.batch_shape(z), z.flatten(0, -3)
        length = self.decoder(flat[:1]).shape[-1]
        noise = torch.rand(len(flat), length, generator=torch.Generator().manual_seed(_SEED)).to(z.device)
        drawn: Tensor = self.decoder.draw(flat, noise, self.spread(conditions, z))
        return drawn.reshape(*batch, length)
