"""Golden outputs at export: examples whose codes lie far from any tie, run by the written graphs."""

from collections.abc import Sequence

import numpy as np
import torch

from artifact.examples import example_inputs
from artifact.golden import Golden, Run, record
from models.bottleneck import DiscreteBottleneck
from models.model import LatentVariableModel
from training.graphs.discrete import level_downsampling
from training.graphs.spec import GraphSpec

_CANDIDATES = 64
"""Examples to choose from; another device rounds otherwise, and must give the codes of the chosen one all the same."""


def golden_outputs(
    name: str, model: LatentVariableModel, specs: Sequence[GraphSpec], multiple_of: int, run: Run
) -> Golden:
    """Run every written graph on a small input.

    Args:
        name: of the artifact.
        model: in evaluation mode.
        specs: the graphs.
        multiple_of: pixels or samples for one place of the coarsest grid.
        run: of the written graphs.

    Returns:
        What is to be kept beside them.
    """
    roles = {spec.role: spec for spec in specs}
    bottleneck = model.bottleneck
    if not isinstance(bottleneck, DiscreteBottleneck):
        return record(name, roles, multiple_of, run)
    downsamplings = [level_downsampling(multiple_of, bottleneck.strides, i) for i in range(len(bottleneck.strides))]
    seeds = {"encode": _farthest_from_ties(model, bottleneck, roles["encode"], multiple_of)}
    return record(name, roles, multiple_of, run, seeds=seeds, downsamplings=downsamplings)


@torch.inference_mode()
def _farthest_from_ties(
    model: LatentVariableModel, bottleneck: DiscreteBottleneck, encode: GraphSpec, multiple_of: int
) -> int:
    """Choose the seed of the example whose closest call between two codes is the least close."""

    def margin(seed: int) -> float:
        x = np.asarray(example_inputs(encode, multiple_of, seed)["x"])
        margins = bottleneck.margins(model.hidden(torch.from_numpy(x)))
        return min(float(level.min()) for level in margins.values())

    return max(range(_CANDIDATES), key=margin)
