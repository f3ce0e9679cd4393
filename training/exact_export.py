"""Export of a prior in exact integers: the proof of its sums, its graphs beside torch, its golden integers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from artifact import exact_golden
from artifact import manifest as schema
from artifact.coding import Grid, Logits, weigh_by_steps, weigh_codes
from artifact.exact import ExactParity
from artifact.exact_golden import integers_of
from artifact.golden import Run as GraphRun
from artifact.noise import batch_uniform, codes_stream
from artifact.sampling import complete
from models.chain import Chain
from models.exact.canonical import canonical_hash
from models.exact.layers import InexactError
from models.exact.prior import ExactPrior
from training import checkpoint
from training.description import described_graphs
from training.draft import Draft
from training.errors import ExportError
from training.graphs import prior as prior_graphs
from training.graphs.exact import EXACT_OPSET, write_exact_graphs
from training.graphs.spec import GraphSpec
from training.parity import Graphs
from training.run import Run

_TOKENS = 2**16
"""Codes of the held-out grids of one size that are compared, unless a single grid has more."""
_STEPPED = 8
"""Of these, grids that are gone through step by step."""
_LARGEST = 2**14
"""Places of a grid; larger ones are coded in parts."""
_GOLDEN_SIDE = 6
"""Places a side of the coarsest golden grid, of a prior over any size."""


def export_exact_prior(draft: Draft, run: Run, stage: Path) -> schema.ExactPrior | None:
    """Write the prior in exact integers, where there is one, and hold it against torch.

    Args:
        draft: what is exported.
        run: that it is of, where its figures are.
        stage: the folder to write to.

    Returns:
        What the manifest says of it; None where there is none.

    Raises:
        ExportError: its sums are not proven to be exact, a graph has operations that are not, or its integers differ
            from torch's.
    """
    if draft.exact is None:
        return None
    check_sums(draft.exact)
    specs = draft.exact_specs()
    write_exact_graphs(specs, stage / schema.EXACT_PRIOR_WEIGHTS_FILE)
    classes = {name: draft.splits.conditions[name] for name in draft.exact.conditions}
    prior = describe_exact(draft.exact, specs, stage, any_size=draft.any_size, conditions=classes)
    graphs, batches = Graphs(specs, stage, threads=1).run, list(_batches(draft))  # steps are many and small
    parity = measure_exact(prior, draft.exact, graphs, batches)
    golden = exact_golden.record(prior, *golden_grids(draft.exact, prior, batches[0].codes), graphs)
    golden.check(graphs)
    exact_golden.write(golden, stage / prior.golden)
    return prior.model_copy(update={"parity": parity, **bits_per_token(run)})


def bits_per_token(run: Run) -> dict[str, float]:
    """Read what `fit-exact` measured of all links together, by the names in the manifest."""
    found = [checkpoint.read(link.exact).counters for link in run.links]
    tokens = sum(figures["tokens"] for figures in found)
    names = "float_bits_per_token", "exact_bits_per_token"
    return {name: sum(figures["tokens"] * figures[name] for figures in found) / tokens for name in names}


def check_sums(chain: Chain) -> None:
    """Prove that every sum of every link is exact in float32, in any order.

    Raises:
        ExportError: one is not, or a link is not in exact integers.
    """
    for index, link in enumerate(chain):
        if not isinstance(link, ExactPrior):
            raise ExportError(
                f"link {index} is a {type(link).__name__}, which is not in exact integers; run fit-exact first"
            )
        try:
            link.accumulator_bounds()
        except InexactError as error:
            raise ExportError(f"link {index} of the exact prior: {error}") from error


@dataclass(frozen=True)
class Batch:
    """Held-out codes of one size.

    Attributes:
        codes: of each link.
        classes: made up, none among them, by the names of conditions.
    """

    codes: Sequence[Grid]
    classes: Mapping[str, Int64[np.ndarray, " n"]]

    def first(self, count: int) -> "Batch":
        """Give the first grids."""
        return Batch([grid[:count] for grid in self.codes], {name: c[:count] for name, c in self.classes.items()})

    @property
    def inputs(self) -> dict[str, Int64[np.ndarray, " n"]]:
        """The classes by the names of inputs."""
        return {schema.condition_input(name): classes for name, classes in self.classes.items()}


def measure_exact(prior: schema.ExactPrior, chain: Chain, graphs: GraphRun, batches: Sequence[Batch]) -> ExactParity:
    """Compare written graphs, at once and step by step, with the torch modules in float64.

    Args:
        prior: as the manifest describes it.
        chain: the modules.
        graphs: runs the written graphs.
        batches: held-out codes.

    Returns:
        What was compared.

    Raises:
        ExportError: an integer differs.
    """
    reference = deepcopy(chain).double()
    exactly, grids, integers = integers_of(graphs), 0, 0
    for batch in batches:
        expected = _weigh_in_torch(reference, batch)
        found = complete(weigh_codes(prior, batch.codes, batch.inputs), exactly)
        few = batch.first(_STEPPED)
        stepped = complete(weigh_by_steps(prior, few.codes, few.inputs), exactly)
        for index, (wanted, at_once, by_steps) in enumerate(zip(expected, found, stepped, strict=True)):
            _check_equal(index, "at once", at_once, wanted)
            _check_equal(index, "step by step", by_steps, wanted[: len(by_steps)])
            grids, integers = grids + len(at_once), integers + at_once.size + by_steps.size
    return ExactParity(grids=grids, integers=integers)


@torch.inference_mode()
def _weigh_in_torch(chain: Chain, batch: Batch) -> list[Logits]:
    """Give the logits of each link, computed in float64."""
    conditions = {name: torch.from_numpy(classes) for name, classes in batch.classes.items()}
    grids, found = [torch.from_numpy(codes) for codes in batch.codes], []
    for index, link in enumerate(chain):
        logits = cast("Tensor", link(grids[index], link.given(grids[:index]), conditions))
        if not torch.equal(logits, logits.floor()):
            raise ExportError(f"link {index} of the exact prior gives logits in torch that are no integers")
        found.append(logits.movedim(1, -1).int().numpy())
    return found


def _check_equal(index: int, way: str, found: Logits, expected: Logits) -> None:
    if (differing := int((found != expected).sum())) > 0:
        raise ExportError(
            f"of {found.size} integers that link {index} of the exact prior gives {way} {differing} differ from "
            "torch's in float64; expected none, nothing was published"
        )


def _batches(draft: Draft) -> Iterator[Batch]:
    """Choose held-out codes; grids that would be coded in parts are left out."""
    for grids in draft.grids:
        finest = max(grid[0].size for grid in grids)
        count = min(len(grids[0]), max(1, _TOKENS // finest))
        if finest <= _LARGEST:
            conditions = cast("Chain", draft.exact).conditions
            classes = {name: np.arange(count) % (number + 1) for name, number in conditions.items()}
            yield Batch([grid[:count].astype(np.int32) for grid in grids], classes)


def describe_exact(
    chain: Chain,
    specs: tuple[GraphSpec, ...],
    stage: Path,
    *,
    any_size: bool,
    conditions: Mapping[str, tuple[str, ...]],
) -> schema.ExactPrior:
    """Describe a written prior, of which nothing has been measured.

    Args:
        chain: in exact integers.
        specs: its graphs.
        stage: the folder that they lie in.
        any_size: whether the model takes data of any size.
        conditions: names of the classes of each.

    Returns:
        What the manifest says of it, but for what is measured.
    """
    forms = [cast("ExactPrior", link).canonical() for link in chain]
    return schema.ExactPrior(
        graphs=described_graphs(specs, stage, EXACT_OPSET),
        canonical_hash=canonical_hash({"links": forms}),
        links=prior_graphs.links(chain, any_size=any_size),
        conditions=dict(conditions),
        float_bits_per_token=1.0,
        exact_bits_per_token=1.0,
        parity=ExactParity(grids=0, integers=0),
    )


def golden_grids(
    chain: Chain, prior: schema.ExactPrior, held_out: Sequence[Grid]
) -> tuple[list[Grid], dict[str, Int64[np.ndarray, " n"]]]:
    """Choose golden grids: part of a held-out one of the first class, and one of even noise without a class.

    Args:
        chain: in exact integers.
        prior: as the manifest describes it.
        held_out: codes of each link.

    Returns:
        Two small grids of each link side by side, and their classes by the names of inputs.
    """
    grids = []
    for index, (grid, link, codes) in enumerate(zip(chain.grids, prior.links, held_out, strict=True)):
        sides = codes.shape[1:]
        if link.any_size:
            sides = tuple(min(side, _GOLDEN_SIDE * grid.factor) for side in sides)
        known = codes[(slice(1), *map(slice, sides))]
        noise = batch_uniform(0, 0, 1, math.prod(sides), stream=codes_stream(index)).reshape(known.shape)
        grids.append(np.concatenate([known, (noise * grid.num_embeddings).astype(np.int32)]))
    classes = {schema.condition_input(name): np.array([0, number]) for name, number in chain.conditions.items()}
    return grids, classes
