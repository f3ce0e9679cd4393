"""What a manifest says of an exact decoder, under which pictures are stored bit by bit."""

from typing import Final

from pydantic import model_validator

from artifact.exact import ExactParity, ExactPart
from artifact.graph import FileName

EXACT_DECODE: Final = "decode_exact"
"""Role: `codes -> mean`, an integer for every value in units of 1/16, 0 .. 4080."""
DECODER_GOLDEN_FILE: Final = "decoder_exact.npz"
DECODER_WEIGHTS_FILE: Final = "decoder_exact.data"


class ExactDecoder(ExactPart):
    """The decoder of a model of pictures in exact integers; docs/format.md says how pictures are coded with it.

    Attributes:
        float_mse: of the model's decoder on held-out pictures, the mean square of what it leaves, in grey levels.
        exact_mse: likewise of this one.
        parity: what was compared before publication; its grids are pictures.
    """

    golden: FileName = DECODER_GOLDEN_FILE
    float_mse: float
    exact_mse: float
    parity: ExactParity

    @model_validator(mode="after")
    def _has_its_graph(self) -> "ExactDecoder":
        if EXACT_DECODE not in self.graphs:
            raise ValueError(f"the exact decoder lacks the graph {EXACT_DECODE!r}")
        return self
