"""Codes as containers and back, and the model that a container was written with."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from artifact.manifest import ImageGeometry
from codec.codes import read_codes, write_codes
from codec.container import PREFIX_BYTES, Container, read_container
from codec.layout import Layout, LevelLayout
from service.discrete import level_of
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import ParameterError, UnknownModelError
from service.faults import naming
from service.limits import check_pixels
from service.settings import Settings


def write_all(model: ServedModel, codes: Int32[np.ndarray, "B h w"], extents: Sequence[tuple[int, ...]]) -> list[bytes]:
    """Write a container for each picture.

    Args:
        model: whose codes they are.
        codes: of the pictures.
        extents: the (height, width) of each original, in pixels.

    Returns:
        The containers.
    """
    layout, model_hash = _layout(model), model.manifest.model_hash
    return [
        write_codes([one], layout=layout, model_hash=model_hash, extent=extent)
        for one, extent in zip(codes, extents, strict=True)
    ]


def read_all(files: Sequence[bytes], model: ServedModel, settings: Settings) -> list[tuple[Container, np.ndarray]]:
    """Read containers of one model.

    Args:
        files: the containers.
        model: that they should all be of.
        settings: the limits.

    Returns:
        Each container with its codes, `[h, w]` int32.

    Raises:
        CodecError: one is damaged, unknown, or not what the model writes.
        ParameterError: one is of another model.
        TooLargeError: they would decode to more pixels than the limits.
    """
    layout, prefix = _layout(model), model_prefix(model)
    found: list[tuple[Container, np.ndarray]] = []
    pixels = 0
    for index, data in enumerate(files):
        with naming(index, len(files)):
            container = read_container(data)
            if container.model_prefix != prefix:
                raise ParameterError(
                    f"the container is of the model {container.model_prefix}, those before it are of {prefix} "
                    f"({model.reference}); send containers of one model at a time"
                )
            (grid,) = layout.grids(container.extent)
            height, width = (side * layout.levels[0].downsampling for side in grid.sides)
            pixels += height * width
            check_pixels(settings, height, width, total=pixels)
            (codes,) = read_codes(container, layout)
        found.append((container, codes))
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


def _layout(model: ServedModel) -> Layout:
    """Tell the codec what grids a model makes of a picture."""
    level, geometry = level_of(model), model.manifest.geometry
    if not isinstance(geometry, ImageGeometry):
        raise ParameterError(f"{model.reference} is a model of sound; choose a model of pictures")
    return Layout(
        levels=(LevelLayout(level.num_embeddings, level.num_codebooks, level.downsampling),),
        sizes=(geometry.height, geometry.width),
        multiple_of=geometry.multiple_of,
        maximum=geometry.maximum,
    )
