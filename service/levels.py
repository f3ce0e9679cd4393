"""The grids of codes that a model has: levels, codebooks, and which of them belong together."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int32, Integer

from artifact.manifest import AudioGeometry, DiscreteLevel, ImageGeometry, Link
from service.engine.opening import ServedModel
from service.errors import CapabilityError, ParameterError, TooLargeError
from service.limits import check_pixels, check_seconds, longest_run, longest_side
from service.settings import Settings

CODES, VECTORS = "codes", "z_q"

ABSENT = -1
"""Stands for the code of a codebook that is left out; every codebook but the first can be."""

Codes = dict[str, Int32[np.ndarray, "B *grid"]]
"""The codes of B items, an array a level by name, top first; `[B, Q, *grid]` where a level has several codebooks."""


def levels_of(model: ServedModel) -> dict[str, DiscreteLevel]:
    """Give the levels of a model of codes, top first, by the names of their codes: `codes`, or `codes_0` and so on.

    Raises:
        CapabilityError: the model has none.
    """
    levels = [level for level in model.manifest.latent if isinstance(level, DiscreteLevel)]
    if not levels:
        raise CapabilityError(f"{model.reference} has real-valued latents, not integer codes; choose another model")
    return {name_of(CODES, index, len(levels)): level for index, level in enumerate(levels)}


def name_of(stem: str, level: int, levels: int) -> str:
    """Name what there is one of for each level: the stem alone for a single level, else with the level's number."""
    return f"{stem}_{level}" if levels > 1 else stem


def names_of(model: ServedModel, stem: str) -> tuple[str, ...]:
    """Name what there is one of for each level of a model, top first."""
    levels = levels_of(model)
    return tuple(name_of(stem, index, len(levels)) for index in range(len(levels)))


def input_sides(model: ServedModel) -> tuple[int | None, ...]:
    """Give height and width in pixels, or the length in samples, of what a model takes; None for a free one."""
    geometry = model.manifest.geometry
    return (geometry.height, geometry.width) if isinstance(geometry, ImageGeometry) else (geometry.length,)


def grid_shapes(model: ServedModel, sides: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Give the shape of each level's codes for inputs of a size, by name and without B.

    Args:
        model: which.
        sides: height and width in pixels, or the length in samples, as the model takes them.

    Returns:
        `(*grid)`, or `(Q, *grid)` for several codebooks.
    """
    return {
        name: (*codebook_axis(level), *(side // level.downsampling for side in sides))
        for name, level in levels_of(model).items()
    }


def codebook_axis(level: DiscreteLevel) -> tuple[int, ...]:
    """Give the axis of the codebooks: none where there is one."""
    return (level.num_codebooks,) if level.num_codebooks > 1 else ()


def check_codes(settings: Settings, model: ServedModel, codes: Mapping[str, Integer[np.ndarray, "..."]]) -> Codes:
    """Check that codes are ones that the model can decode.

    Args:
        settings: the limits.
        model: which.
        codes: of every level by name, supposedly of its grid, each 0 .. K - 1, or -1 for an absent codebook.

    Returns:
        The codes.

    Raises:
        ParameterError: another grid, or a code that the codebook does not have.
        TooLargeError: they would decode to more than the limits.
    """
    _check_grids(settings, model, codes)
    for name, level in levels_of(model).items():
        check_range(codes[name], level, name, f"{model.reference} has a codebook of {level.num_embeddings}")
    return {name: array.astype(np.int32, copy=False) for name, array in codes.items()}


def check_range(
    codes: Integer[np.ndarray, "B *grid"], level: DiscreteLevel, name: str, reason: str, *, least: int = 0
) -> None:
    """Refuse codes that a level does not have.

    Args:
        codes: of the level's shape.
        level: whose codebooks count.
        name: of the array, for the message.
        reason: likewise.
        least: the least number that may stand in the first codebook.

    Raises:
        ParameterError: there is another one.
    """
    lowest = np.full(codes.shape[1:], least)
    if level.num_codebooks > 1:
        lowest[1:] = ABSENT
    wrong = (codes >= level.num_embeddings) | ((codes < 0) & (codes.astype(np.int64) < lowest))
    if wrong.any():
        place = np.unravel_index(int(wrong.argmax()), codes.shape)
        raise ParameterError(
            f"{name}{[int(index) for index in place]} is {int(codes[place])}, expected "
            f"{int(lowest[place[1:]])} .. {level.num_embeddings - 1}: {reason}"
        )


def _check_grids(settings: Settings, model: ServedModel, codes: Mapping[str, Integer[np.ndarray, "..."]]) -> None:
    """Refuse grids that belong to no input that the model takes, or to too large a one."""
    levels = levels_of(model)
    name, level = next(iter(levels.items()))
    batch, *grid = codes[name].shape[:1] + codes[name].shape[1 + len(codebook_axis(level)) :]
    sides = tuple(places * level.downsampling for places in grid)
    if batch == 0 or not _takes(settings, model, sides):
        raise ParameterError(_misfit(settings, model, name, level, codes[name].shape))
    for other, shape in grid_shapes(model, sides).items():
        if codes[other].shape != (batch, *shape):
            raise ParameterError(
                f"{other} is {list(codes[other].shape)}, expected {[batch, *shape]}"
                + (f" beside {name} {list(codes[name].shape)}" if other != name else f": {model.reference}")
            )
    check_size(settings, model, sides, total=batch * math.prod(sides))


def check_size(settings: Settings, model: ServedModel, sides: tuple[int, ...], *, total: int) -> None:
    """Refuse what is too large to decode, by itself or together.

    Args:
        settings: the limits.
        model: which.
        sides: of an item, in pixels or samples.
        total: pixels or samples of all items of the request that are known so far.

    Raises:
        TooLargeError: it is.
    """
    geometry = model.manifest.geometry
    if isinstance(geometry, AudioGeometry):
        check_seconds(settings, sides[0], geometry.sample_rate_hz, total=total)
    else:
        height, width = sides
        check_pixels(settings, height, width, total=total)


def _takes(settings: Settings, model: ServedModel, sides: tuple[int, ...]) -> bool:
    """Tell whether a model takes inputs of a size."""
    fixed, limit = input_sides(model), longest_side(settings, model.manifest)
    return all(
        side == size if size is not None else 0 < side <= limit and side % model.manifest.geometry.multiple_of == 0
        for side, size in zip(sides, fixed, strict=True)
    )


def _misfit(settings: Settings, model: ServedModel, name: str, level: DiscreteLevel, shape: tuple[int, ...]) -> str:
    """Say which grids there are."""
    scale, fixed = level.downsampling, input_sides(model)
    axes = axis_names(len(fixed))
    step, limit = (
        max(1, side // scale) for side in (model.manifest.geometry.multiple_of, longest_side(settings, model.manifest))
    )
    sides = [str(size // scale) if size else axis for axis, size in zip(axes, fixed, strict=True)]
    listed = ", ".join([*map(str, codebook_axis(level)), *sides])
    free = f", {' and '.join(axes)} {f'multiples of {step}' if step > 1 else 'from 1'} up to {limit}"
    told = f"{model.reference} takes [B, {listed}] with B at least 1{free if None in fixed else ''}"
    return f"{name} {'are' if name == CODES else 'is'} {list(shape)}, {told}"


def axis_names(axes: int) -> tuple[str, ...]:
    """Name the axes of a grid: `h` and `w`, or `t`."""
    return ("h", "w") if axes == 2 else ("t",)


def check_codebooks(model: ServedModel, codebooks: int | None) -> None:
    """Check how many codebooks are wanted.

    Args:
        model: which.
        codebooks: so many, at least 1; None for all.

    Raises:
        ParameterError: the model has not so many, or no level with several.
    """
    most = max(level.num_codebooks for level in levels_of(model).values())
    if codebooks is not None and most == 1:
        raise ParameterError(f"{model.reference} has one codebook a level; leave codebooks out")
    if codebooks is not None and codebooks > most:
        raise ParameterError(f"codebooks is {codebooks}, expected 1 .. {most}, those of {model.reference}")


def take_first(model: ServedModel, codes: Codes, codebooks: int | None) -> Codes:
    """Leave all but the first codebooks of each level out.

    Args:
        model: which.
        codes: of all codebooks.
        codebooks: how many to keep of a level that has more; None for all.

    Returns:
        The codes, `ABSENT` where a codebook is left out.
    """
    kept = dict(codes)
    for name, level in levels_of(model).items():
        if codebooks is not None and level.num_codebooks > codebooks:
            kept[name] = codes[name].copy()
            kept[name][:, codebooks:] = ABSENT
    return kept


def link_grid(model: ServedModel, codes: Codes, link: Link) -> Int32[np.ndarray, "B *grid"]:
    """Give the codes of one link of the prior."""
    name = names_of(model, CODES)[link.level]
    return codes[name][:, link.codebook] if levels_of(model)[name].num_codebooks > 1 else codes[name]


def has_prior_over(model: ServedModel, sides: tuple[int, ...]) -> bool:
    """Tell whether the model has a learned prior over the codes of inputs of a size, in pixels or samples."""
    prior, levels = model.manifest.prior, list(levels_of(model).values())
    return prior is not None and all(
        link.any_size or link.grid == tuple(side // levels[link.level].downsampling for side in sides)
        for link in prior.links
    )


def check_run(model: ServedModel, sides: tuple[int, ...], runner: str, cure: str) -> None:
    """Refuse what can be run in pieces alone, where it would be run whole.

    Args:
        model: which.
        sides: of an input, in pixels or samples.
        runner: what would run it, for the message.
        cure: likewise.

    Raises:
        TooLargeError: a free side is longer than one run takes.
    """
    most = longest_run(model.manifest)
    if any(side > most for side, fixed in zip(sides, input_sides(model), strict=True) if fixed is None):
        raise TooLargeError(f"{_measures(sides)} is more than {runner} takes at once, sides up to {most}; {cure}")


def check_draw_sides(settings: Settings, model: ServedModel, sides: tuple[int, ...]) -> tuple[int, ...]:
    """Check that a prior draws items of a size.

    Args:
        settings: the limits.
        model: with a learned prior.
        sides: height and width in pixels, or the length in samples.

    Returns:
        The sides.

    Raises:
        ParameterError: it does not.
    """
    own = draw_sides(model)
    if sides == own:
        return sides
    if not all(link.any_size and link.order == "raster" for link in model.prior.links):
        raise ParameterError(
            f"{_measures(sides)} is wanted, and the prior of {model.reference} draws {_measures(own)} alone; leave "
            "height and width out"
        )
    if not _takes(settings, model, sides):
        raise ParameterError(
            f"{_measures(sides)} is wanted, and {model.reference} takes sides that are multiples of "
            f"{model.manifest.geometry.multiple_of} up to {longest_side(settings, model.manifest)}"
        )
    return sides


def _measures(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


def draw_sides(model: ServedModel) -> tuple[int, ...]:
    """Give the size of what is drawn from the prior, in pixels or samples."""
    link = model.prior.links[0]
    scale = list(levels_of(model).values())[link.level].downsampling
    return tuple(places * scale for places in link.grid)
