"""Parity of a prior: its written graphs against the model's, and its steps against its parallel pass, link by link."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from numpy.typing import NDArray

from artifact import manifest as schema
from artifact.codes import Arrays, draw_codes
from artifact.golden import Run
from artifact.sampling import complete, sample, step_roles
from models.chain import Chain
from training.errors import ExportError
from training.graphs.prior import Asked, Grid, features, links
from training.parity import NEAR_TIE, Comparison

_TOKENS = 2**15
"""Codes of a grid in a batch."""
_DRAWN_GRIDS = 32

Grids = Sequence[Grid]
"""The codes of each link, of examples of one size."""


@dataclass(frozen=True)
class _Draw:
    """Codes drawn step by step, beside those that the parallel pass would draw from the same noise.

    Attributes:
        codes: that were drawn.
        error: of the steps' logits.
        differs: which codes differ.
        close: which noise lies next to the border between two codes.
    """

    codes: Int32[np.ndarray, "N *grid"]
    error: float
    differs: Bool[np.ndarray, " places"]
    close: Bool[np.ndarray, " places"]


@torch.inference_mode()
def measure_prior_parity(comparison: Comparison, chain: Chain, held_out: Sequence[Grids]) -> schema.PriorParity:
    """Compare the written prior with the model's on held-out codes, and its steps with its parallel pass on drawn ones.

    Args:
        comparison: of its graphs.
        chain: the prior.
        held_out: codes, those of one entry of one size.

    Returns:
        What was measured.

    Raises:
        ExportError: a difference is beyond tolerance.
    """
    limits = comparison.limits
    errors = [_held_out_error(comparison, chain, grids) for grids in held_out]
    drawn = [one for run in comparison.runs for one in _draw_all(comparison, run, chain)]
    logits_error, incremental_error = float(np.max(errors)), float(np.max([one.error for one in drawn]))
    if not (logits_error <= limits.tensor and incremental_error <= limits.tensor):
        raise ExportError(
            f"the exported prior differs: from the model by {logits_error:.2e}, and its steps from its parallel pass "
            f"by {incremental_error:.2e} (at most {limits.tensor:g}); {limits.consequence}"
        )
    differs, close = (np.concatenate(parts) for parts in zip(*((one.differs, one.close) for one in drawn), strict=True))
    comparison.check_codes("the steps of the exported prior draw other codes than its parallel pass", differs, close)
    return schema.PriorParity(
        examples=sum(len(grids[0]) for grids in held_out),
        logits_error=logits_error,
        incremental_error=incremental_error,
        drawn=differs.size,
        differing=int(differs.sum()),
    )


def _held_out_error(comparison: Comparison, chain: Chain, grids: Grids) -> float:
    """Give the largest error of features and logits of all links, on codes of one size."""
    size = max(1, _TOKENS // max(grid[0].size for grid in grids))
    errors = []
    for first in range(0, len(grids[0]), size):
        batch = [grid[first : first + size] for grid in grids]
        classes = _classes(chain, first, len(batch[0]))
        conditions = {schema.condition_input(name): given for name, given in classes.items()}
        for index, codes in enumerate(batch):
            role, earlier = schema.link_role(index), batch[:index]
            given = features(comparison.expected, comparison.reference, index, earlier)
            if given:
                names = {f"codes_{i}": grid for i, grid in enumerate(earlier)}
                errors.append(comparison.tensor_error(f"{role}_given", names))
            errors.append(comparison.tensor_error(role, {"codes": codes, **given, **conditions}))
    return float(np.max(errors))


def _draw_all(comparison: Comparison, run: Run, chain: Chain) -> Iterator[_Draw]:
    """Draw the grids of all links by the steps of a run."""
    asked = Asked(seed=0, count=_DRAWN_GRIDS, conditions=_classes(chain, 0, _DRAWN_GRIDS))
    earlier: list[Grid] = []
    for index, (link, grid) in enumerate(zip(links(chain, any_size=False), chain.grids, strict=True)):
        rows = asked.rows(index, grid) | features(run, comparison.reference, index, earlier)
        drawn = _draw(comparison, run, link, index, rows)
        earlier.append(drawn.codes)
        yield drawn


def _draw(
    comparison: Comparison,
    run: Run,
    link: schema.Link,
    index: int,
    rows: Mapping[str, NDArray[np.generic]],
) -> _Draw:
    """Draw the grids of a link by its steps, and see what its parallel pass makes of them."""
    told: list[NDArray[np.generic]] = []

    def step(role: str, feeds: Arrays) -> Arrays:
        answer = run(role, feeds)
        if role == step_roles(link, index)[-1]:
            told.append(answer["logits"])
        return answer

    codes = complete(sample(comparison.reference, link, rows, index=index), step)
    size = max(1, _TOKENS // codes[0].size)
    parts, besides = [], {name: array for name, array in rows.items() if name != "uniform"}
    for first in range(0, len(codes), size):
        part = {name: array[first : first + size] for name, array in besides.items()}
        parts.append(run(schema.link_role(index), {"codes": codes[first : first + size], **part})["logits"])
    parallel = np.concatenate(parts).reshape(codes.size, -1).astype(np.float32)
    stepwise = np.stack(told, axis=1).reshape(codes.size, -1)
    noise = rows["uniform"].astype(np.float64).ravel()
    again = draw_codes(parallel, noise)
    return _Draw(
        codes, comparison.limits.error(stepwise, parallel), again != codes.ravel(), _near_border(parallel, noise)
    )


def _near_border(logits: Float32[np.ndarray, "N K"], uniform: Float64[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Tell draws whose number lies next to the border between two codes."""
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    borders = weights.cumsum(axis=1) / weights.sum(axis=1, keepdims=True)
    near: NDArray[np.bool_] = np.abs(borders - uniform[:, None]).min(axis=1) <= NEAR_TIE
    return near


def _classes(chain: Chain, first: int, batch: int) -> dict[str, Int64[np.ndarray, " B"]]:
    """Give classes of every condition, none among them."""
    return {name: np.arange(first, first + batch) % (classes + 1) for name, classes in chain.conditions.items()}
