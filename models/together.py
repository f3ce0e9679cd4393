"""What processes that train one model together must agree upon; alone, a process agrees with itself."""

from collections.abc import Iterable

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed


def _alone() -> bool:
    """Tell whether no other process trains the same model."""
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


@torch.no_grad()
def gathered(part: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "M ..."]:
    """Give the parts of all processes one after the other, in the order of their ranks.

    Args:
        part: of this process; everywhere of the same size.

    Returns:
        The same in every process, without gradient.
    """
    if _alone():
        return part
    parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, part.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def agree(tensors: Iterable[Tensor]) -> None:
    """Give every process the first one's values, which chance may have made others."""
    if not _alone():
        for tensor in tensors:
            distributed.broadcast(tensor.data, src=0)
