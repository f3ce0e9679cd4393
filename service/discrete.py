"""What a model of integer codes does, without a word of HTTP: arrays and numbers in, arrays out."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numpy.typing import NDArray

from artifact.bounds import bits_per_dim
from artifact.code_prior import PRIOR
from artifact.codes import surprise_nats
from artifact.manifest import Link, link_role
from service import by_sample, windows
from service.by_sample import BY_DEFAULT, Drawn, is_drawn
from service.conditions import Conditions, Inputs
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.engine.work import Arrays
from service.errors import ParameterError
from service.levels import (
    ABSENT,
    CODES,
    VECTORS,
    Codes,
    codebook_axis,
    grid_shapes,
    has_prior_over,
    input_sides,
    levels_of,
    link_grid,
    names_of,
    take_first,
)
from service.operations import to_pixels, to_samples

_SLICE_VALUES = 2**22
"""Logits that are turned into surprise at a time: in float64, with what the sum needs, about 100 MB."""

_IMAGE_AXES = 4

NO_CONDITIONS = Conditions()
"""Of a model that takes none."""


@dataclass(frozen=True)
class CodesBound:
    """The bound of B items under a model whose posterior is one set of codes: log p(x given codes) + log p(codes).

    Attributes:
        reconstruction_nats: log p(x given codes), over the pixels or samples of the original.
        surprise_nats: of each level, top first, -log p of each code given those drawn before it; of the shape of its
            codes.
        dimensions: values of each original.
        is_learned: whether the learned prior gave the surprise; else every code is equally probable.
    """

    reconstruction_nats: Float64[np.ndarray, " B"]
    surprise_nats: tuple[Float64[np.ndarray, "B *grid"], ...]
    dimensions: Int64[np.ndarray, " B"]
    is_learned: bool

    @property
    def kl_nats(self) -> Float64[np.ndarray, " B"]:
        """-log p(codes): the divergence of a posterior that is certain."""
        return np.add.reduce([nats.sum(axis=_item_axes(nats)) for nats in self.surprise_nats])

    @property
    def elbo_nats(self) -> Float64[np.ndarray, " B"]:
        """The bound on log p(x)."""
        return self.reconstruction_nats - self.kl_nats

    @property
    def bits_per_dim(self) -> Float64[np.ndarray, " B"]:
        """The bound as bits for each value of the original."""
        return bits_per_dim(self.elbo_nats, 1) / self.dimensions

    @property
    def bits_per_token(self) -> Float64[np.ndarray, " B"]:
        """The mean surprise of a code of any level, in bits."""
        weights = [nats[0].size for nats in self.surprise_nats]
        return np.average(self.bits_per_token_of_levels, axis=0, weights=weights)

    @property
    def bits_per_token_of_levels(self) -> tuple[Float64[np.ndarray, " B"], ...]:
        """The mean surprise of a code of each level, in bits."""
        return tuple(nats.mean(axis=_item_axes(nats)) / math.log(2.0) for nats in self.surprise_nats)


def _item_axes(array: NDArray[Any]) -> tuple[int, ...]:
    """Give all axes but that of the items."""
    return tuple(range(1, array.ndim))


async def encode(engine: Engine, model: ServedModel, x: NDArray[Any], codebooks: int | None = None) -> Codes:
    """Give the codes of images or sounds.

    Args:
        engine: that runs.
        model: which.
        x: checked.
        codebooks: see `take_first`.

    Returns:
        Codes, 0 .. K - 1.
    """
    levels_of(model)
    return take_first(model, await windows.encode(engine, model, x), codebooks)


async def embed(engine: Engine, model: ServedModel, codes: Codes) -> dict[str, Float32[np.ndarray, "B *grid D"]]:
    """Give the vectors that codes stand for, of each level by name; the codes are those of an admitted request."""
    outputs = await engine.run(model, "embed", dict(codes), admit=0)
    return {name: outputs[name] for name in names_of(model, VECTORS)}


async def decode(
    engine: Engine,
    model: ServedModel,
    codes: Codes,
    conditions: Conditions = NO_CONDITIONS,
    *,
    drawn: Drawn = BY_DEFAULT,
    admit: int | None = None,
) -> NDArray[Any]:
    """Give the likelihood's mean as images or sounds, or sounds drawn sample by sample where the decoder does so.

    Args:
        engine: that runs.
        model: which.
        codes: checked, or the model's own.
        conditions: of every row.
        drawn: how sounds are drawn, of a decoder that does so.
        admit: see `Engine.run`.

    Returns:
        Images `[B, H, W, C]`, uint8: the mean, rounded to even and clipped to 0 .. 255. Or sounds `[B, T]`, float32:
        the mean, clipped to -1 .. 1.
    """
    if is_drawn(model):
        return await by_sample.decode(engine, model, codes, conditions.decoder, drawn, admit=admit)
    finish = to_pixels if model.manifest.geometry.modality == "image" else to_samples
    return await windows.decode(engine, model, dict(codes), conditions.decoder, finish, admit=admit)


async def reconstruct(
    engine: Engine,
    model: ServedModel,
    x: NDArray[Any],
    conditions: Conditions = NO_CONDITIONS,
    codebooks: int | None = None,
    drawn: Drawn = BY_DEFAULT,
) -> NDArray[Any]:
    """Encode and decode."""
    return await decode(engine, model, await encode(engine, model, x, codebooks), conditions, drawn=drawn, admit=0)


async def codebook(
    engine: Engine, model: ServedModel, *, level: int = 0, codebook: int = 0
) -> Float32[np.ndarray, "K D"]:
    """Give the vector of every code of one codebook, as the `embed` graph has it.

    Args:
        engine: that runs.
        model: which.
        level: index of the level, top first.
        codebook: index of its codebook.

    Returns:
        The codebook.

    Raises:
        CapabilityError: the model has no codes.
        ParameterError: it has no such level or codebook.
    """
    levels = levels_of(model)
    if level >= len(levels):
        raise ParameterError(f"level is {level}, expected 0 .. {len(levels) - 1}, the levels of {model.reference}")
    name, asked = list(levels.items())[level]
    if codebook >= asked.num_codebooks:
        raise ParameterError(
            f"codebook is {codebook}, expected 0 .. {asked.num_codebooks - 1}, those of the level in {model.reference}"
        )
    rows = _grids_of_all(model, name, codebook)
    vectors = (await engine.run(model, "embed", dict(rows)))[names_of(model, VECTORS)[level]]
    return vectors.reshape(-1, vectors.shape[-1])[: asked.num_embeddings]


def _grids_of_all(model: ServedModel, name: str, codebook: int) -> Codes:
    """Lay all codes of one codebook out on grids, as many as it takes; what is left over is the first code."""
    level, step = levels_of(model)[name], model.manifest.geometry.multiple_of
    *others, last = input_sides(model)
    sides = [side or step for side in others]
    across = math.prod(side // level.downsampling for side in sides)
    # Where any size is taken, one row that is long enough will do.
    needed = -(-level.num_embeddings // across) * level.downsampling
    shapes = grid_shapes(model, (*sides, last or -(-needed // step) * step))
    places = math.prod(shapes[name][len(codebook_axis(level)) :])
    batch = -(-level.num_embeddings // places)
    grids = {other: np.zeros((batch, *shape), dtype=np.int32) for other, shape in shapes.items()}
    codes = np.zeros(batch * places, dtype=np.int32)
    codes[: level.num_embeddings] = np.arange(level.num_embeddings)
    if level.num_codebooks == 1:
        grids[name] = codes.reshape(grids[name].shape)
    else:
        grids[name][:] = ABSENT
        grids[name][:, codebook] = codes.reshape(grids[name][:, codebook].shape)
    return grids


async def likelihood(
    engine: Engine,
    model: ServedModel,
    x: NDArray[Any],
    extents: Sequence[tuple[int, ...]],
    conditions: Conditions = NO_CONDITIONS,
) -> CodesBound:
    """Bound log p(x) by the one set of codes that the encoder gives it.

    Pixels are independent given the codes, so those that padding added are left out of the sum, and the bound is one
    on the original. The codes that padding added are paid for.

    Args:
        engine: that runs.
        model: which.
        x: images or sounds, checked.
        extents: (height, width) or (length,) of each original, at the beginning of `x`; what lies beyond is padding.
        conditions: of every row.

    Returns:
        The bounds of every item.
    """
    codes = await encode(engine, model, x)
    reconstruction_nats = await windows.log_likelihood(engine, model, x, dict(codes), conditions.decoder, extents)
    surprise_of = await surprise(engine, model, codes, conditions)
    channels = x.shape[3] if x.ndim == _IMAGE_AXES else 1
    return CodesBound(
        reconstruction_nats=reconstruction_nats,
        surprise_nats=tuple(surprise_of.values()),
        dimensions=np.array([math.prod(extent) * channels for extent in extents]),
        is_learned=has_prior_over(model, x.shape[1 : 1 + len(extents[0])]),
    )


async def surprise(
    engine: Engine, model: ServedModel, codes: Codes, conditions: Conditions = NO_CONDITIONS
) -> dict[str, Float64[np.ndarray, "B *grid"]]:
    """Give -log p of each code given those before it, under the learned prior where there is one for the grids.

    Args:
        engine: that runs.
        model: which.
        codes: of an admitted request, none of them absent.
        conditions: of every row.

    Returns:
        Nats, of each level by the name of its codes; log K everywhere without a prior.
    """
    levels = levels_of(model)
    nats = {name: np.full(codes[name].shape, math.log(level.num_embeddings)) for name, level in levels.items()}
    name, level = next(iter(levels.items()))
    grid = codes[name].shape[1 + len(codebook_axis(level)) :]
    if not has_prior_over(model, tuple(places * level.downsampling for places in grid)):
        return nats
    names = list(levels)
    grids = [link_grid(model, codes, link) for link in model.prior.links]
    for index, link in enumerate(model.prior.links):
        part = await _link_surprise(engine, model, index, grids[: index + 1], conditions.prior)
        target = nats[names[link.level]]
        target[_of_codebook(target, grids[index], link)] = part
    return nats


def _of_codebook(level: NDArray[Any], grid: NDArray[Any], link: Link) -> tuple[Any, ...]:
    """Give the index of a link's codes in those of its level."""
    return (slice(None), link.codebook) if level.ndim > grid.ndim else (slice(None),)


async def _link_surprise(
    engine: Engine, model: ServedModel, index: int, grids: Sequence[Int32[np.ndarray, "B *grid"]], conditions: Inputs
) -> Float64[np.ndarray, "B *grid"]:
    """Give -log p of the codes of one link, the last of the grids, given the others; rows in slices."""
    codes, role = grids[-1], link_role(index)
    nats = np.empty(codes.shape)
    widest = max(last_axis(model, graph) for graph in (role, f"{role}_given"))
    rows = max(1, _SLICE_VALUES // (codes[0].size * widest))
    for start in range(0, len(codes), rows):
        part = slice(start, start + rows)
        given = await features(engine, model, index, [grid[part] for grid in grids[:-1]])
        asked = {name: values[part] for name, values in conditions.items()}
        feeds = taken(model, role, {"codes": codes[part], **given, **asked})
        logits = (await engine.run(model, role, feeds, admit=0))["logits"]
        nats[part] = await asyncio.to_thread(_in_slices, logits, codes[part])
    return nats


def _in_slices(
    logits: Float32[np.ndarray, "B *grid K"], codes: Int32[np.ndarray, "B *grid"]
) -> Float64[np.ndarray, "B *grid"]:
    """Give -log p of codes from their logits, of so many at a time that little memory is taken."""
    K = logits.shape[-1]
    rows, flat = logits.reshape(-1, K), codes.reshape(-1)
    step = max(1, _SLICE_VALUES // K)
    parts = [
        surprise_nats(rows[start : start + step], flat[start : start + step]) for start in range(0, len(flat), step)
    ]
    return np.concatenate(parts).reshape(codes.shape)


def last_axis(model: ServedModel, role: str) -> int:
    """Give the values that a graph of a prior gives at a place; 1 where the model has no such graph."""
    return int(model.manifest.graph(role).outputs[0].shape[-1]) if _has(model, role) else 1


def _has(model: ServedModel, role: str) -> bool:
    """Tell whether a model has a graph."""
    return role in model.manifest.graphs or role in model.manifest.exact_graphs


async def features(
    engine: Engine, model: ServedModel, index: int, earlier: Sequence[Int32[np.ndarray, "B *grid"]], prior: str = PRIOR
) -> Arrays:
    """Give what the grids before a link say of each of its places.

    Args:
        engine: that runs.
        model: which.
        index: of the link.
        earlier: the grids of the links before it, of an admitted request.
        prior: how the roles of the link's prior begin.

    Returns:
        The input `given [B, *grid, G]`; nothing where the link depends on none of them.
    """
    role = f"{link_role(index, prior)}_given"
    if not _has(model, role):
        return {}
    feeds = taken(model, role, {f"{CODES}_{before}": grid for before, grid in enumerate(earlier)})
    return {"given": (await engine.run(model, role, feeds, admit=0))["given"]}


def taken(model: ServedModel, role: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Choose the arrays that a graph takes."""
    names = {tensor.name for tensor in model.manifest.graph(role).inputs}
    return {name: array for name, array in arrays.items() if name in names}
