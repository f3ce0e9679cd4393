"""Sounds of a decoder that draws them sample by sample, each given those before it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from artifact.noise import SOUND_STREAM, uniform
from media.mu_law import expanded
from service.conditions import Inputs
from service.engine.engine import Engine
from service.engine.lanes import as_caller, current_caller
from service.engine.opening import ServedModel
from service.errors import TooLargeError
from service.levels import Codes


@dataclass(frozen=True)
class Drawn:
    """How sounds are drawn; a decoder that gives all samples at once has no use for it.

    Attributes:
        seed: of the noise.
        temperature: divides the logits; 0 gives the most probable class of every sample.
        items: the index of each row, whose noise it gets; None for 0, 1, ...
    """

    seed: int = 0
    temperature: float = 1.0
    items: Sequence[int] | None = None


BY_DEFAULT = Drawn()
"""Always the same noise, so that the same codes are the same sound."""


def is_drawn(model: ServedModel) -> bool:
    """Tell whether a model's decoder draws sounds sample by sample."""
    return model.manifest.decoder == "autoregressive"


async def decode(
    engine: Engine, model: ServedModel, codes: Codes, conditions: Inputs, drawn: Drawn, *, admit: int | None = None
) -> Float32[np.ndarray, "B T"]:
    """Draw the sound of each row of codes.

    A class of the mu-law scale stands for the middle of its 16-bit values.

    Args:
        engine: that runs.
        model: whose decoder draws.
        codes: checked, or the model's own.
        conditions: of the decoder, of every row.
        drawn: how.
        admit: see `Engine.run`.

    Returns:
        Sounds, in [-1, 1]; one does not depend on those beside it.

    Raises:
        TooLargeError: they are longer than the model was tried with.
    """
    geometry = model.manifest.geometry
    (places,) = {grid.shape[-1] for grid in codes.values()}
    length = places * geometry.multiple_of
    if length > geometry.maximum:
        raise TooLargeError(
            f"the codes are of {length} samples, and {model.reference} draws at most {geometry.maximum}, one after the "
            "other; decode them in parts"
        )
    rows = len(next(iter(codes.values())))
    given = (await engine.run(model, "decode_given", dict(codes), admit=admit))["given"]
    items = range(rows) if drawn.items is None else drawn.items
    noise = np.stack([uniform(drawn.seed, item, length, stream=SOUND_STREAM) for item in items])
    asked = {"given": given, "uniform": noise, "temperature": np.full(rows, drawn.temperature), **conditions}
    caller = current_caller()
    # What is shown of the work are its codes, which classes of samples are not.
    unseen = replace(caller, progress=None, queue_s=0.0, compute_s=0.0)
    try:
        with as_caller(unseen):
            classes = await engine.draw_sound(model, asked, admit=0)
    finally:
        caller.queue_s += unseen.queue_s
        caller.compute_s += unseen.compute_s
    return expanded(classes)
