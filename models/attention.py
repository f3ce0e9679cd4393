"""One place that looks back at those before it, whose keys and values are kept."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def look_back(
    own: tuple[Float[Tensor, "B 1 C"], Float[Tensor, "B 1 C"], Float[Tensor, "B 1 C"]],
    position: Int[Tensor, " B"],
    keys: Float[Tensor, "B N C"],
    values: Float[Tensor, "B N C"],
    heads: int,
) -> Float[Tensor, "B 1 C"]:
    """Give what a place sees of itself and of all places before it (Vaswani et al. 2017, eq. 1, a row of it).

    Args:
        own: the place's query, key and value; of their C channels each head has as many, one head after the other.
        position: its number.
        keys: of all places, of which those before `position` count.
        values: likewise.
        heads: that each look for themselves.

    Returns:
        What each head sees, one beside the other.
    """
    query, key, value = own
    channels = query.shape[2] // heads
    of_head = torch.arange(query.shape[2], device=query.device) // channels
    is_own = (of_head == torch.arange(heads, device=query.device)[:, None]).to(query.dtype)
    # A query of zeros but for its head's channels: so all heads read the caches as they lie, and nothing of them is
    # copied into another order.
    queries = query * is_own / math.sqrt(channels)
    is_later = torch.arange(keys.shape[1], device=query.device) >= position[:, None]
    scores = (queries @ keys.transpose(1, 2)).float().masked_fill(is_later[:, None], -torch.inf)
    shares = torch.cat([scores, (queries @ key.transpose(1, 2)).float()], dim=2).softmax(2).to(query.dtype)
    seen = shares[:, :, :-1] @ values + shares[:, :, -1:] * value
    return (seen * is_own).sum(1, keepdim=True)
