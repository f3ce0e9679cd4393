"""The graphs of an exact VAE as bits-back coding asks for them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from artifact.exact_latents import DECODE, ENCODE, INFER, ExactLatents
from artifact.sampling import Steps


class LatentNetworks:
    """The graphs of an exact VAE as bits-back coding asks for them; see `codec.bits_back.LatentModel`.

    Args:
        part: what the manifest says of it.
        contexts: logits of white by context.

    Attributes:
        sizes: how many latents each level has, top first.
        shape: H, W of a picture.
        contexts: as given.
    """

    def __init__(self, part: ExactLatents, contexts: Int32[np.ndarray, " contexts"]) -> None:
        self.sizes, self.contexts = part.sizes, contexts
        _, height, width, _ = part.graphs[ENCODE].inputs[0].shape
        self.shape = int(height), int(width)
        self._names = part.seen

    def encode(self, pictures: UInt8[np.ndarray, "N H W"]) -> Steps[list[np.ndarray]]:
        """Give what the posteriors see of pictures of 0 and 1."""
        seen = yield ENCODE, {"x": pictures[..., None] * np.uint8(255)}
        return [seen[name] for name in self._names if name != "z"]

    def infer(
        self, z: Int64[np.ndarray, "N D"], seen: Sequence[np.ndarray]
    ) -> Steps[tuple[Int64[np.ndarray, "N D"], Int64[np.ndarray, "N D"]]]:
        """Give means and scales of the posteriors."""
        given = [z.astype(np.int32)] * ("z" in self._names) + list(seen)
        feeds = dict(zip(self._names, given, strict=True))
        found = yield INFER, feeds
        return found["mean"].astype(np.int64), found["scale"].astype(np.int64)

    def decode(self, z: Int64[np.ndarray, "N D"]) -> Steps[Int32[np.ndarray, "N P"]]:
        """Give the logits of white."""
        found = yield DECODE, {"z": z.astype(np.int32)}
        return found["logits"].reshape(len(z), -1)
