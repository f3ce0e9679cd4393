"""Codes as containers and back, and the model that a container was written with."""

from collections.abc import Sequence

import numpy as np

from artifact.manifest import DiscreteLevel
from codec.codes import read_codes, write_codes
from codec.container import PREFIX_BYTES, Container, read_container
from codec.layout import Layout, LevelLayout
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import ParameterError, UnknownModelError
from service.faults import naming
from service.levels import ABSENT, Codes, check_size, input_sides, levels_of
from service.limits import longest_side
from service.settings import Settings


def write_all(
    model: ServedModel, codes: Codes, extents: Sequence[tuple[int, ...]], codebooks: int | None, settings: Settings
) -> list[bytes]:
    """Write a container for each picture or sound.

    Args:
        model: whose codes they are.
        codes: of the items.
        extents: the (height, width) in pixels or (length,) in samples of each original.
        codebooks: that are written of a level that has more, the first ones; None for all.
        settings: the limits.

    Returns:
        The containers.
    """
    layout, model_hash, levels = _layout(model, settings), model.manifest.model_hash, levels_of(model)
    return [
        write_codes(
            [_present(codes[name][index], level, codebooks) for name, level in levels.items()],
            layout=layout,
            model_hash=model_hash,
            extent=extent,
        )
        for index, extent in enumerate(extents)
    ]


def _present(codes: np.ndarray, level: DiscreteLevel, codebooks: int | None) -> np.ndarray:
    """Give the first codebooks of an item's level; a single one has no axis of its own."""
    if codebooks is None or codebooks >= level.num_codebooks:
        return codes
    return codes[0] if codebooks == 1 else codes[:codebooks]


def _completed(codes: np.ndarray, level: DiscreteLevel, axes: int) -> np.ndarray:
    """Give the codes of all codebooks of an item's level, `ABSENT` where the container has none."""
    if level.num_codebooks == 1:
        return codes
    present = codes.reshape(-1, *codes.shape[-axes:])
    whole = np.full((level.num_codebooks, *present.shape[1:]), ABSENT, dtype=np.int32)
    whole[: len(present)] = present
    return whole


def read_all(files: Sequence[bytes], model: ServedModel, settings: Settings) -> list[tuple[Container, Codes]]:
    """Read containers of one model.

    Args:
        files: the containers.
        model: that they should all be of.
        settings: the limits.

    Returns:
        Each container with its codes by level, `[*grid]` int32 or `[Q, *grid]`.

    Raises:
        CodecError: one is damaged, unknown, or not what the model writes.
        ParameterError: one is of another model.
        TooLargeError: they would decode to more than the limits.
    """
    layout, prefix, levels = _layout(model, settings), model_prefix(model), levels_of(model)
    found: list[tuple[Container, Codes]] = []
    total = 0
    for index, data in enumerate(files):
        with naming(index, len(files)):
            container = read_container(data)
            if container.model_prefix != prefix:
                raise ParameterError(
                    f"the container is of the model {container.model_prefix}, those before it are of {prefix} "
                    f"({model.reference}); send containers of one model at a time"
                )
            sides = tuple(side * layout.levels[0].downsampling for side in layout.grids(container.extent)[0].sides)
            total += int(np.prod(sides))
            check_size(settings, model, sides, total=total)
            codes = zip(levels.items(), read_codes(container, layout), strict=True)
        found.append((container, {name: _completed(grid, level, len(sides)) for (name, level), grid in codes}))
    return found


def find_model(engine: Engine, container: Container, wished: str | None) -> str:
    """Name the served model that a container was written with.

    Args:
        engine: whose models count.
        container: read, not yet held against a model.
        wished: the model that the caller named; None where the container alone decides.

    Returns:
        Its reference.

    Raises:
        UnknownModelError: no served model wrote it, or none has the name that the caller gave.
        ParameterError: the caller named another.
    """
    matching = [model for model in engine.models() if model_prefix(model) == container.model_prefix]
    if not matching:
        served = ", ".join(f"{model.reference} ({model_prefix(model)})" for model in engine.models()) or "none"
        raise UnknownModelError(
            f"the container was written with the model whose hash begins with {container.model_prefix}, which is not "
            f"served; there are: {served}"
        )
    named = matching[:1] if wished is None else [model for model in engine.named(wished) if model in matching]
    if not named:
        raise ParameterError(
            f"model is {wished!r}, and the container was written with {matching[0].reference}; leave model out"
        )
    return named[-1].reference


def model_prefix(model: ServedModel) -> str:
    """Give as much of a model's hash as a container keeps, in hexadecimal digits."""
    return model.manifest.model_hash[: 2 * PREFIX_BYTES]


def _layout(model: ServedModel, settings: Settings) -> Layout:
    """Tell the codec what grids a model makes of an input."""
    return Layout(
        levels=tuple(
            LevelLayout(level.num_embeddings, level.num_codebooks, level.downsampling)
            for level in levels_of(model).values()
        ),
        sizes=input_sides(model),
        multiple_of=model.manifest.geometry.multiple_of,
        maximum=longest_side(settings, model.manifest),
    )
