"""The likelihood that gives each of the 256 values of a pixel a probability of its own."""

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from models.likelihoods.base import Likelihood, Params

_VALUES = 256


class Categorical(Likelihood):
    """uint8 pixels, log p(x) = logit_x - log sum_v exp(logit_v) (van den Oord et al. 2016, section 2.2)."""

    outputs_per_channel = _VALUES

    def network_input(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Map 0 to -1 and 255 to 1."""
        return (x.float() / 127.5 - 1.0).permute(0, 3, 1, 2)

    def params(self, h: Float[Tensor, "B K H W"]) -> Params:
        """Take the decoder's output as `logits`, 256 for each channel of each pixel."""
        h = h.float().permute(0, 2, 3, 1)
        return {"logits": h.reshape(*h.shape[:-1], -1, _VALUES)}

    def element_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float64[Tensor, "*batch H W C"]:
        """Give the log-probability of every value, in nats: at most 0.

        Args:
            x: 0 .. 255.
            params: `logits`, `[*batch, H, W, C, 256]`.

        Returns:
            Nats, float64.
        """
        log_p = params["logits"].double().log_softmax(-1)
        return log_p.gather(-1, x.long().expand(log_p.shape[:-1]).unsqueeze(-1)).squeeze(-1)

    def mean(self, params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give E[x given z]: the values, each times its probability."""
        values = torch.arange(_VALUES, dtype=torch.float32, device=params["logits"].device)
        return params["logits"].softmax(-1) @ values

    def sample(self, params: Params, noise: Float[Tensor, "*batch H W C"]) -> Shaped[Tensor, "*batch H W C"]:
        """Give the first value whose cumulative probability is above the noise."""
        above = params["logits"].double().softmax(-1).cumsum(-1)
        return (above <= noise.double().unsqueeze(-1)).sum(-1).clamp(max=_VALUES - 1).to(torch.uint8)
