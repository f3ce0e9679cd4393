"""Networks whose answers are kept, so that an archive is read again under the tables that it was written under."""

import numpy as np
from jaxtyping import Int32, Int64

from codec.bits_back import LatentModel, Latents, Pictures, Seen, Steps
from codec.errors import MalformedContainerError

Moments = tuple[Int64[np.ndarray, "N D"], Int64[np.ndarray, "N D"]]
Logits = Int32[np.ndarray, "N P"]


class Recorded:
    """A model that keeps, of each picture that is written, its latents, their posterior and the logits.

    Args:
        model: that is asked.
    """

    def __init__(self, model: LatentModel) -> None:
        self._model = model
        self.sizes, self.shape, self.contexts = model.sizes, model.shape, model.contexts
        self._moments: list[Moments] = []
        self._kept: list[tuple[Latents, Moments, Logits]] = []

    def encode(self, pictures: Pictures) -> Steps[Seen]:
        """Ask."""
        return (yield from self._model.encode(pictures))

    def infer(self, z: Latents, seen: Seen) -> Steps[Moments]:
        """Ask; the answer before the latents are decoded is that for all levels."""
        self._moments = [(yield from self._model.infer(z, seen))]
        return self._moments[0]

    def decode(self, z: Latents) -> Steps[Logits]:
        """Ask, and keep all that belongs to the picture."""
        logits = yield from self._model.decode(z)
        self._kept.append((z.copy(), self._moments[0], logits))
        return logits

    def replay(self) -> "Replay":
        """Give a model that reads, once, what was written under this one."""
        return Replay(self._model, self._kept)


class Replay:
    """A model that gives again what it gave, from the picture that was written last.

    Args:
        model: that was asked.
        kept: of each picture, in the order of writing.
    """

    def __init__(self, model: LatentModel, kept: list[tuple[Latents, Moments, Logits]]) -> None:
        self.sizes, self.shape, self.contexts = model.sizes, model.shape, model.contexts
        self._kept = kept

    def encode(self, pictures: Pictures) -> Steps[Seen]:
        """Give nothing: the posterior is known."""
        del pictures
        yield from ()
        return ()

    def infer(self, z: Latents, seen: Seen) -> Steps[Moments]:
        """Give the posterior of the picture that was decoded, which is then done."""
        del z, seen
        yield from ()
        return self._kept.pop()[1]

    def decode(self, z: Latents) -> Steps[Logits]:
        """Give the logits, if the latents are those that were written.

        Raises:
            MalformedContainerError: they are others.
        """
        yield from ()
        if not self._kept or not np.array_equal(z, self._kept[-1][0]):
            raise MalformedContainerError("the latents that were read are not those that were written")
        return self._kept[-1][2]
