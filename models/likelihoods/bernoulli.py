"""The likelihood of pixels that are black or white."""

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from models.likelihoods.base import Likelihood, Params
from models.likelihoods.bernoulli_sum import BernoulliSum

_AXES = 5
"""Of examples, samples, rows, columns and channels."""


class Bernoulli(Likelihood):
    """Pixels that are either 0 or 255: log p = log sigmoid(+-logit)."""

    outputs_per_channel = 1
    values = (0, 255)

    def network_input(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Map 0 to -1 and 255 to 1."""
        return (x.float() / 127.5 - 1.0).permute(0, 3, 1, 2)

    def params(self, h: Float[Tensor, "B K H W"]) -> Params:
        """Take the decoder's output as logits of a white pixel."""
        return {"logits": h.float().permute(0, 2, 3, 1)}

    def element_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give log sigmoid((2 bit - 1) logit), in nats.

        Args:
            x: 0 or 255.
            params: `logits`, of any real value.

        Returns:
            Nats.
        """
        sign = x.float() / 127.5 - 1.0
        return -nn.functional.softplus(-sign * params["logits"])

    def log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float64[Tensor, "*batch"]:
        """Give log p(x given z) in nats; in training by a sum that knows its derivative."""
        logits = params["logits"]
        one_axis_of_samples = logits.dim() == x.dim() == _AXES and x.shape[1] == 1
        if not (torch.is_grad_enabled() and logits.requires_grad and one_axis_of_samples):
            return super().log_prob(x, params)
        signs = (x.float() / 127.5 - 1.0).flatten(1)
        total: Tensor = BernoulliSum.apply(signs, logits.flatten(2))  # type: ignore[no-untyped-call]
        return total.double()

    def mean(self, params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give 255 sigmoid(logit)."""
        return 255.0 * params["logits"].sigmoid()

    def sample(self, params: Params, noise: Float[Tensor, "*batch H W C"]) -> Shaped[Tensor, "*batch H W C"]:
        """Give 255 where the noise is below the probability of white, else 0."""
        return (noise < params["logits"].sigmoid()).to(torch.uint8) * 255
