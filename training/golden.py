"""Golden outputs at export: examples whose codes lie far from any tie, run by the written graphs."""

from collections.abc import Sequence

import numpy as np
import torch

from artifact.examples import example_inputs
from artifact.golden import Golden, Run, record
from models.bottleneck import VectorQuantizedBottleneck
from models.model import LatentVariableModel
from training.graphs.spec import GraphSpec

_CANDIDATES = 64
"""Pictures to choose from; another device rounds otherwise, and must give the codes of the chosen one all the same."""


def golden_outputs(
    name: str, model: LatentVariableModel, specs: Sequence[GraphSpec], multiple_of: int, run: Run
) -> Golden:
    """Run every written graph on a small input.

    Args:
        name: of the artifact.
        model: in evaluation mode.
        specs: the graphs.
        multiple_of: pixels of an image of any size for one place of its grid.
        run: of the written graphs.

    Returns:
        What is to be kept beside them.
    """
    roles = {spec.role: spec for spec in specs}
    seeds = {}
    if isinstance(model.bottleneck, VectorQuantizedBottleneck):
        seeds["encode"] = _farthest_from_ties(model, model.bottleneck, roles["encode"], multiple_of)
    return record(name, roles, multiple_of, run, seeds=seeds)


@torch.inference_mode()
def _farthest_from_ties(
    model: LatentVariableModel, bottleneck: VectorQuantizedBottleneck, encode: GraphSpec, multiple_of: int
) -> int:
    """Choose the seed of the picture whose closest call between two codes is the least close."""

    def margin(seed: int) -> float:
        x = np.asarray(example_inputs(encode, multiple_of, seed)["x"])
        return float(bottleneck.quantizer.margins(model.hidden(torch.from_numpy(x)).permute(0, 2, 3, 1)).min())

    return max(range(_CANDIDATES), key=margin)
