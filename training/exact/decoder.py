"""Making a fitted decoder of codes exact: integers by rounding alone, without a fit, and their export."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from artifact import decoder_golden
from artifact import exact_decoder as schema
from artifact.codes import Arrays
from artifact.exact import ExactParity
from artifact.golden import Run
from codec.logistic import MEAN_STEPS
from models.exact.convert import NotExactError
from models.exact.decoder import ExactDecoder
from models.exact.layers import InexactError, calibrating, freeze
from models.model import LatentVariableModel
from training import codes
from training.data import Examples
from training.description import described_graphs
from training.draft import Draft
from training.errors import ExportError
from training.graphs.exact import EXACT_OPSET, write_exact_graphs
from training.graphs.exact_decoder import exact_decoder_graph
from training.graphs.spec import GraphSpec
from training.parity import Graphs, Images

_CALIBRATED = 16
"""Pictures whose numbers decide the steps."""
_VALUES = 2**20
"""Of held-out pictures of one size that are compared, unless a single one has more."""
_GOLDEN_SIDE = 8
"""Places a side of the coarsest golden grid."""


def export_exact_decoder(draft: Draft, specs: Sequence[GraphSpec], stage: Path) -> schema.ExactDecoder | None:
    """Write the decoder in exact integers, of a model of pictures whose codes are coded exactly.

    Args:
        draft: what is exported.
        specs: the model's graphs.
        stage: the folder to write to.

    Returns:
        What the manifest says of it; None where there is none, or no exact prior.

    Raises:
        ExportError: its sums are not proven to be exact, a graph has operations that are not, or its integers differ
            from torch's.
    """
    if draft.exact is None:
        return None
    try:
        network = exact_decoder(draft.model, draft.splits.train)
    except NotExactError:
        return None
    except InexactError as error:
        raise ExportError(f"the exact decoder: {error}") from error
    graph = exact_decoder_graph(network, next(spec for spec in specs if spec.role == "decode"))
    write_exact_graphs((graph,), stage / schema.DECODER_WEIGHTS_FILE)
    run = Graphs((graph,), stage).run
    small = {name: grids[:1] for name, grids in _held_out(draft, draft.images[0]).items()}
    decoder_golden.record(
        {name: _cut(grid, small) for name, grid in small.items()}, run, stage / schema.DECODER_GOLDEN_FILE
    )
    parity, float_mse, exact_mse = _measure(draft, network, run)
    return schema.ExactDecoder(
        graphs=described_graphs((graph,), stage, EXACT_OPSET),
        canonical_hash=network.canonical_hash(),
        float_mse=float_mse,
        exact_mse=exact_mse,
        parity=parity,
    )


def exact_decoder(model: LatentVariableModel, examples: Examples) -> ExactDecoder:
    """Make the exact counterpart of a model's decoder.

    Args:
        model: fitted.
        examples: some of whose codes decide the steps of its integers.

    Returns:
        The decoder, frozen.

    Raises:
        NotExactError: the model is of a kind that has none.
        InexactError: a sum could leave the integers that float32 has.
    """
    network = ExactDecoder(model).eval()
    encoding = codes.encode(model, examples.fixed(_CALIBRATED))
    with torch.no_grad(), calibrating(network):
        network(*(torch.from_numpy(encoding[name]) for name in network.names))
    freeze(network)
    return network


@torch.inference_mode()
def _measure(draft: Draft, network: ExactDecoder, run: Run) -> tuple[ExactParity, float, float]:
    """Compare the written graph with torch in float64, and both decoders with held-out pictures.

    Raises:
        ExportError: an integer differs.
    """
    reference, pictures, integers = deepcopy(network).double(), 0, 0
    squares = np.zeros(2)
    for x in _batches(draft.images):
        encoding = _held_out(draft, x)
        grids = {name: torch.from_numpy(grid) for name, grid in encoding.items()}
        found = run(schema.EXACT_DECODE, encoding)["mean"]
        expected = reference(*(grids[name] for name in network.names)).numpy()
        if (differing := int((found != expected).sum())) > 0:
            raise ExportError(
                f"of {found.size} integers of the exact decoder {differing} differ from torch's in float64; expected "
                "none, nothing was published"
            )
        floating = draft.model.mean(draft.model.bottleneck.point(grids)).numpy()
        squares += [
            np.square(mean - x.astype(np.float64)).sum() for mean in (floating, found.astype(np.float64) / MEAN_STEPS)
        ]
        pictures, integers = pictures + len(x), integers + found.size
    float_mse, exact_mse = (float(square) for square in squares / integers)
    return ExactParity(grids=pictures, integers=integers), float_mse, exact_mse


def _batches(images: Sequence[Images]) -> Iterator[Images]:
    """Give some of the pictures of each size; those that are too large to be compared at once are left out."""
    for x in images:
        if x[0].size <= _VALUES:
            yield x[: max(1, _VALUES // x[0].size)]


def _held_out(draft: Draft, x: Images) -> Arrays:
    """Give the codes of pictures."""
    return dict(codes.encode(draft.model, x))


def _cut(grid: NDArray[np.generic], beside: Arrays) -> NDArray[np.generic]:
    """Give the corner of a grid that belongs to a small part of the coarsest one beside it."""
    coarsest = min(other.shape[1] for other in beside.values())
    side = min(_GOLDEN_SIDE, coarsest) * grid.shape[1] // coarsest
    return grid[:, :side, :side]
