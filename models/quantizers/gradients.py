"""How gradients get from code vectors to the vectors that they replace."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

Gradient = Literal["straight_through", "rotation"]

_LEAST_NORM = 1e-6


def replace(
    z: Float[Tensor, "*batch D"], embedded: Float[Tensor, "*batch D"], gradient: Gradient
) -> Float[Tensor, "*batch D"]:
    """Give code vectors, through which gradients reach the vectors that they replace.

    Args:
        z: what the encoder gave.
        embedded: the code vectors, which no gradient reaches.
        gradient: `straight_through` copies the gradient (van den Oord et al. 2017, section 3.2); `rotation` turns and
            scales it as the code vector is turned and scaled against z (Fifty et al. 2024, section 4.2).

    Returns:
        The code vectors.
    """
    embedded = embedded.detach()
    moved = z if gradient == "straight_through" else _rotate(z, embedded)
    return moved + (embedded - moved).detach()


def _rotate(z: Float[Tensor, "*batch D"], embedded: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
    """Give lambda R z with lambda R constant, the rotation and scaling that takes z to its code vector.

    lambda = |q| / |z|, R = I - 2 r r' + 2 q^ z^' with r the direction of z^ + q^, and ^ for unit length.
    """
    with torch.no_grad():
        scale = embedded.norm(dim=-1, keepdim=True) / z.norm(dim=-1, keepdim=True).clamp(min=_LEAST_NORM)
        source, target = normalize(z, dim=-1), normalize(embedded, dim=-1)
        middle = normalize(source + target, dim=-1)
    turned = z - 2.0 * (z * middle).sum(-1, keepdim=True) * middle + 2.0 * (z * source).sum(-1, keepdim=True) * target
    return scale * turned
