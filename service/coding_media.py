"""Pictures and sounds of the codes that containers held."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.geometry import Placement
from service import discrete
from service.by_sample import Drawn
from service.coding_reading import Read
from service.conditions import NO_CLASS, Asked, Conditions, to_conditions
from service.engine.engine import Engine
from service.engine.opening import ServedModel


async def decode_all(
    engine: Engine, model: ServedModel, read: Sequence[Read], asked: Asked, *, admit: int | None = None
) -> list[NDArray[Any]]:
    """Decode codes of any sizes, those of one size together.

    Args:
        engine: that runs.
        model: that they are of.
        read: what containers held.
        asked: classes that the decoder is conditioned on; what nobody asks for is as the container has it.
        admit: rows of the request that have not been let in yet; None for all, 0 for none.

    Returns:
        A picture or sound a container, cropped to its original's extent.
    """
    conditions = to_conditions(model, _with_kept(model, read, asked), len(read), with_prior=False)
    places: dict[tuple[int, ...], list[int]] = {}
    for index, one in enumerate(read):
        places.setdefault(next(iter(one.codes.values())).shape, []).append(index)
    decoded: dict[int, NDArray[Any]] = {}
    for indices in places.values():
        joined = {name: np.stack([read[index].codes[name] for index in indices]) for name in read[0].codes}
        own = Conditions({name: values[indices] for name, values in conditions.decoder.items()})
        let_in = 0 if decoded or admit == 0 else len(read)
        items = await discrete.decode(engine, model, joined, own, drawn=Drawn(items=indices), admit=let_in)
        for index, item in zip(indices, items, strict=True):
            decoded[index] = Placement(read[index].header.extent, padded=True).restore(item)
    return [decoded[index] for index in range(len(read))]


def _with_kept(model: ServedModel, read: Sequence[Read], asked: Asked) -> Asked:
    """Add the classes that containers keep and the decoder knows to those that are asked for."""
    kept = {
        name: [NO_CLASS if (index := one.classes.get(name)) is None else index for one in read]
        for name in model.manifest.conditions
        if asked.get(name) is None
    }
    return {**asked, **kept}
