"""What a model's codes leave out of an original, by what the original is: pictures around a decoder, and sounds."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray

from artifact.exact_decoder import EXACT_DECODE
from artifact.manifest import AudioGeometry, Manifest
from codec.residual_payload import Residual, read_residual, write_residual
from codec.sound_residual import read_sound, write_sound
from service import windows
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import CapabilityError, ParameterError, TooLargeError, VerificationError
from service.levels import Codes
from service.pictures import Pictures
from service.sounds import Sounds

MOST_VALUES = 2**22
"""Of a picture, all channels: 1.4 million pixels in colour, which take about a quarter of a minute."""
MOST_SAMPLES = 2**19
"""Of a sound: 65 s at 8 kHz, which take about as long."""

_FULL_SCALE = 32768

Original = NDArray[Any]
"""`[H, W, C]` uint8, or `[T]` int16."""


class Residuals(ABC):
    """How originals of one kind are stored to the bit beside their codes.

    Args:
        model: that has the exact networks for it.
    """

    axes: int
    """Of an extent."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model

    @property
    @abstractmethod
    def canonical_hash(self) -> str:
        """Of the exact network that a container names."""

    @abstractmethod
    def check(self, extent: Sequence[int]) -> None:
        """Refuse what would take too long.

        Args:
            extent: height and width, or length.

        Raises:
            TooLargeError: it would.
        """

    @abstractmethod
    def originals(self, given: Pictures | Sounds) -> list[Original]:
        """Give what is to be stored.

        Raises:
            ParameterError: it is not as it was sent, but made of that.
        """

    @abstractmethod
    async def around(
        self, engine: Engine, codes: Codes, extents: Sequence[Sequence[int]], *, admit: int | None
    ) -> list[Any]:
        """Give what writing and reading need to know of each original besides the residual.

        Args:
            engine: that runs.
            codes: of all originals.
            extents: of each.
            admit: see `Engine.run`.
        """

    @abstractmethod
    def write(self, original: Original, known: Any) -> Residual:
        """Write what is left, given `around`, and read it again.

        Raises:
            VerificationError: it reads as something else.
        """

    @abstractmethod
    def read(self, data: bytes, known: Any) -> Original:
        """Read what `write` wrote.

        Raises:
            MalformedContainerError: it is damaged.
        """

    @abstractmethod
    def answered(self, original: Original) -> NDArray[Any]:
        """Give an original as models give pictures and sounds."""


class PictureResiduals(Residuals):
    """Around the means of the exact decoder."""

    axes = 2

    @property
    def canonical_hash(self) -> str:
        """Of the exact decoder."""
        decoder = self.model.manifest.exact_decoder
        if decoder is None:
            raise CapabilityError(f"{self.model.reference} stores nothing to the bit; choose another model")
        return decoder.canonical_hash

    def check(self, extent: Sequence[int]) -> None:
        """Refuse a picture with more than `MOST_VALUES`."""
        channels = int(self.model.manifest.graphs["decode"].outputs[0].shape[-1])
        if (found := math.prod(extent) * channels) > MOST_VALUES:
            raise TooLargeError(
                f"the picture has {found} values, expected at most {MOST_VALUES} where it is stored to the bit; "
                "send it in parts"
            )

    def originals(self, given: Pictures | Sounds) -> list[Original]:
        """Give pictures without their padding."""
        if isinstance(given, Sounds):
            raise ParameterError(f"{self.model.reference} is a model of pictures; send it some")
        return [one.restore(x) for one, x in zip(given.placements, given.images, strict=True)]

    async def around(
        self, engine: Engine, codes: Codes, extents: Sequence[Sequence[int]], *, admit: int | None
    ) -> list[Int32[np.ndarray, "H W C"]]:
        """Decode exactly."""
        means = await windows.decode(engine, self.model, codes, {}, _kept, role=EXACT_DECODE, admit=admit)
        return [mean[:height, :width] for mean, (height, width) in zip(means, extents, strict=True)]

    def write(self, original: Original, known: Any) -> Residual:
        """Write what the means leave out."""
        residual = write_residual(original, known)
        _check_same(read_residual(residual.data, known), original)
        return residual

    def read(self, data: bytes, known: Any) -> Original:
        """Read a picture."""
        return read_residual(data, known)

    def answered(self, original: Original) -> NDArray[Any]:
        """Give the picture."""
        return original


class SoundResiduals(Residuals):
    """Under what the samples before say of the next: a decoder's means would tell no more."""

    axes = 1

    @property
    def canonical_hash(self) -> str:
        """Of the exact prior, the only exact network that is needed."""
        prior = self.model.manifest.exact_prior
        if prior is None:
            raise CapabilityError(f"{self.model.reference} stores nothing to the bit; choose another model")
        return prior.canonical_hash

    def check(self, extent: Sequence[int]) -> None:
        """Refuse a sound of more than `MOST_SAMPLES`."""
        if extent[0] > MOST_SAMPLES:
            raise TooLargeError(
                f"the sound has {extent[0]} samples, expected at most {MOST_SAMPLES} where it is stored to the bit; "
                "send it in parts"
            )

    def originals(self, given: Pictures | Sounds) -> list[Original]:
        """Give sounds as 16-bit values, without their padding; they must have been sent as such."""
        if isinstance(given, Pictures):
            raise ParameterError(f"{self.model.reference} is a model of sounds; send it some")
        for source in given.sources:
            if (source.sample_rate_hz, source.channels) != (given.sample_rate_hz, 1):
                channels = f"{source.channels} channel{'s' if source.channels > 1 else ''}"
                raise ParameterError(
                    f"the sound has {channels} at {source.sample_rate_hz} Hz, expected one at "
                    f"{given.sample_rate_hz} Hz, which {self.model.reference} stores to the bit; convert it first"
                )
        return [_levels(one.restore(x)) for one, x in zip(given.placements, given.samples, strict=True)]

    async def around(
        self, engine: Engine, codes: Codes, extents: Sequence[Sequence[int]], *, admit: int | None
    ) -> list[int]:
        """Give the lengths: nothing is run."""
        del engine, codes, admit
        return [length for (length,) in extents]

    def write(self, original: Original, known: Any) -> Residual:
        """Write a sound."""
        residual = write_sound(original)
        _check_same(read_sound(residual.data, known), original)
        return residual

    def read(self, data: bytes, known: Any) -> Original:
        """Read a sound."""
        return read_sound(data, known)

    def answered(self, original: Original) -> NDArray[Any]:
        """Give the sound in -1 .. 1."""
        return original.astype(np.float32) / np.float32(_FULL_SCALE)


def has_residuals(manifest: Manifest) -> bool:
    """Tell whether a model has the exact networks that storing to the bit needs, beside codes."""
    if isinstance(manifest.geometry, AudioGeometry):
        return manifest.exact_prior is not None
    return manifest.exact_decoder is not None


def residuals_of(model: ServedModel) -> Residuals:
    """Give the way to store what a model's codes leave out."""
    is_sound = isinstance(model.manifest.geometry, AudioGeometry)
    return SoundResiduals(model) if is_sound else PictureResiduals(model)


def _levels(sound: NDArray[np.float32]) -> NDArray[np.int16]:
    """Give the 16-bit values of a sound.

    Raises:
        ParameterError: it has others.
    """
    levels = sound * np.float32(_FULL_SCALE)
    found: NDArray[np.int16] = np.clip(levels, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    if not np.array_equal(found, levels):
        raise ParameterError(
            "the sound has samples that are no 16-bit values, expected such where it is stored to the bit; "
            "convert it to 16-bit PCM first"
        )
    return found


def _kept(mean: NDArray[Any]) -> NDArray[Any]:
    return mean


def _check_same(found: Original, original: Original) -> None:
    """Compare what was read with what was written."""
    if not np.array_equal(found, original):
        raise VerificationError("what was written to the bit reads as something else")
