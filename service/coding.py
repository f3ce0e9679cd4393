"""Codes under a model's exact prior: from grids to a payload and back, by integers alone."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from artifact.code_prior import EXACT_PRIOR, link_role, step_roles
from artifact.coding import read_codes
from artifact.exact import ExactPrior
from codec.entropy import ChunkDecoder, encode_chunk
from codec.errors import CodecError
from codec.probabilities import TOTAL, frequencies, surprise_bits
from codec.range_coder import Decoder
from service.conditions import Inputs
from service.discrete import features, last_axis, taken
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import CapabilityError, InexactError, VerificationError

_TABLE_VALUES = 2**20
"""Frequencies that are computed at a time: 8 MB each for tables and sums."""

_RUN_VALUES = 2**22
"""Logits of one run of a graph, unless a single grid has more: 16 MB."""

_FIRST_RUN_S = 2e-4
"""What a run of a step is taken to last before one has been counted."""

_Grid = Int32[np.ndarray, "n *grid"]


@dataclass(frozen=True)
class Payload:
    """What the codes of a chunk came to.

    Attributes:
        data: the coded bytes.
        bits: -log2 of the probability of the codes.
    """

    data: bytes
    bits: float


@dataclass(frozen=True)
class _Intervals:
    """The parts of 0 .. T - 1 that the codes of a link own, in the order in which they are coded."""

    starts: Int64[np.ndarray, "n places"]
    sizes: Int64[np.ndarray, "n places"]


def exact_prior(model: ServedModel) -> ExactPrior:
    """Give the prior that a model codes under.

    Raises:
        CapabilityError: it has none.
    """
    prior = model.manifest.exact_prior
    if prior is None:
        raise CapabilityError(
            f"{model.reference} has no exact prior, so that its codes are stored as they are; ask for profile=raw, or "
            "choose another model"
        )
    return prior


def check_exact(model: ServedModel) -> None:
    """Refuse to code where the runtime does not compute what the exact prior is.

    Raises:
        InexactError: it does not.
    """
    if model.exact_fault is not None:
        raise InexactError(
            f"{model.reference} codes nothing here: {model.exact_fault}; ask for profile=raw, or run the service with "
            "another ONNX Runtime"
        )


async def write(
    engine: Engine, model: ServedModel, grids: Sequence[_Grid], conditions: Inputs, *, admit: int | None = 0
) -> list[Payload]:
    """Code grids of one shape, each item by itself.

    One pass over all places at once gives the logits of each link; the payload is read again by the same tables before
    it is given away.

    Args:
        engine: that runs.
        model: with an exact prior.
        grids: of each link that is coded, in the order of the chain; the first ones.
        conditions: of every row, by input.
        admit: see `Engine.run`.

    Returns:
        A payload an item.

    Raises:
        VerificationError: what was written does not read as what it was written for.
    """
    parts = [
        await _intervals(engine, model, index, grids[: index + 1], conditions, admit=0 if index else admit)
        for index in range(len(grids))
    ]
    return await asyncio.to_thread(_write_all, parts)


async def _intervals(
    engine: Engine, model: ServedModel, index: int, grids: Sequence[_Grid], conditions: Inputs, *, admit: int | None
) -> _Intervals:
    """Find the interval of every code of one link, the last of the grids, given the others; rows in slices."""
    codes, role = grids[-1], link_role(index, EXACT_PRIOR)
    places = codes[0].size
    starts, sizes = (np.empty((len(codes), places), dtype=np.int64) for _ in range(2))
    widest = max(last_axis(model, graph) for graph in (role, f"{role}_given"))
    rows = max(1, _RUN_VALUES // (places * widest))
    for first in range(0, len(codes), rows):
        part = slice(first, first + rows)
        given = await features(engine, model, index, [grid[part] for grid in grids[:-1]], EXACT_PRIOR)
        asked = {name: values[part] for name, values in conditions.items()}
        feeds = taken(model, role, {"codes": codes[part], **given, **asked})
        logits = (await engine.run(model, role, feeds, admit=0 if first else admit))["logits"]
        starts[part], sizes[part] = await asyncio.to_thread(_in_blocks, logits, codes[part])
    return _Intervals(starts, sizes)


def _in_blocks(
    logits: Float32[np.ndarray, "n *grid K"], codes: _Grid
) -> tuple[Int64[np.ndarray, "n places"], Int64[np.ndarray, "n places"]]:
    """Find the intervals of codes by their tables, some of them at a time."""
    K = logits.shape[-1]
    rows, symbols = logits.reshape(-1, K), codes.reshape(-1)
    step = max(1, _TABLE_VALUES // K)
    blocks = [_by_table(rows[at : at + step], symbols[at : at + step]) for at in range(0, len(symbols), step)]
    starts, sizes = (np.concatenate(part).reshape(len(codes), -1) for part in zip(*blocks, strict=True))
    return starts, sizes


def _by_table(
    logits: Float32[np.ndarray, "N K"], symbols: Int32[np.ndarray, " N"]
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """Find the interval of each symbol, and make sure that whatever lies within it reads as that symbol."""
    ends = frequencies(logits.astype(np.int32)).cumsum(axis=1)
    chosen = symbols[:, None].astype(np.int64)
    stops = np.take_along_axis(ends, chosen, axis=1)
    starts = np.where(chosen > 0, np.take_along_axis(ends, np.maximum(chosen - 1, 0), axis=1), 0)
    is_found = ((ends <= starts).sum(axis=1) == symbols) & ((ends < stops).sum(axis=1) == symbols)
    if not (is_found.all() and (ends[:, -1] == TOTAL).all()):
        raise VerificationError("a table of frequencies does not give the code back that it was asked for")
    return starts[:, 0], (stops - starts)[:, 0]


def _write_all(links: Sequence[_Intervals]) -> list[Payload]:
    """Write each item, its links one after the other, and read it again."""
    starts = np.concatenate([link.starts for link in links], axis=1)
    sizes = np.concatenate([link.sizes for link in links], axis=1)
    return [_write_one(*item) for item in zip(starts, sizes, strict=True)]


def _write_one(starts: Int64[np.ndarray, " N"], sizes: Int64[np.ndarray, " N"]) -> Payload:
    """Write the codes of an item, and read it: each part must hold what the decoder looks for."""
    payload = encode_chunk(starts, sizes)
    decoder = Decoder(payload)
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        if not start <= decoder.target() < start + size:
            raise VerificationError("what was coded reads as other codes")
        decoder.pop(start, size)
    return Payload(payload, surprise_bits(sizes))


async def read(
    engine: Engine,
    model: ServedModel,
    payloads: Sequence[bytes],
    shapes: Sequence[tuple[int, ...]],
    conditions: Inputs,
    *,
    admit: int | None = None,
) -> tuple[list[_Grid], list[CodecError | None]]:
    """Read grids of one shape, items side by side.

    Args:
        engine: that runs.
        model: with the exact prior that they were written under.
        payloads: of each item.
        shapes: of the grid of each link that was coded.
        conditions: of every item, by input.
        admit: see `Engine.run`.

    Returns:
        The codes of each link; and what is wrong with each payload, None where it is just what such codes are written
        as. Of a damaged payload they are other codes: checksums tell.
    """
    prior = exact_prior(model)
    coded = prior.model_copy(update={"links": prior.links[: len(shapes)]})
    decoders = [ChunkDecoder(payload) for payload in payloads]
    steps = read_codes(coded, shapes, decoders, conditions)
    seconds = seconds_of(engine, model, shapes)
    grids = await engine.follow(model, steps, rows=len(payloads), seconds=seconds, admit=admit)
    return grids, [_fault(decoder) for decoder in decoders]


def seconds_of(engine: Engine, model: ServedModel, shapes: Sequence[tuple[int, ...]]) -> float:
    """Tell how long it takes to read grids, by what the runs of each graph took so far.

    Args:
        engine: that counts its runs.
        model: with an exact prior.
        shapes: of the grid of each link that was coded.

    Returns:
        Seconds; items side by side take not many more.
    """
    total_s = 0.0
    for index, (link, shape) in enumerate(zip(exact_prior(model).links, shapes, strict=False)):
        *rows, places = step_roles(link, index, EXACT_PRIOR)
        for role, runs in ((places, math.prod(shape)), *((row, shape[0]) for row in rows)):
            load = engine.loads.get((model.reference, role))
            total_s += runs * (load.seconds / load.runs if load is not None and load.runs else _FIRST_RUN_S)
    return total_s


def _fault(decoder: ChunkDecoder) -> CodecError | None:
    """Say what is wrong with what was read."""
    try:
        decoder.finish()
    except CodecError as error:
        return error
    return None
