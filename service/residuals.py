"""What a model's codes leave out of an original, by what the original is: pictures around a decoder, and sounds."""

import asyncio
import math
from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray

from artifact.exact import ExactPart
from artifact.exact_decoder import EXACT_DECODE
from artifact.manifest import AudioGeometry, Manifest
from codec.residual_payload import Residual, read_residual, write_residual
from codec.sound_residual import reading_sound, writing_sound
from service import windows
from service.engine.engine import Engine
from service.engine.lanes import Lane, in_lane
from service.engine.opening import ServedModel
from service.errors import CapabilityError, ParameterError, TooLargeError
from service.levels import Codes
from service.pictures import Pictures
from service.sounds import Sounds

MOST_VALUES = 2**22
"""Of a picture, all channels: 1.4 million pixels in colour, which take about a quarter of a minute."""
MOST_SAMPLES = 2**19
"""Of all sounds of a request: 65 s at 8 kHz, which are written in about 20 s and read in half of that."""
_SAMPLE_S = 2e-5
"""What a sample takes, for the queue."""
_FULL_SCALE = 32768
_INTEGERS = ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24")
"""Encodings of files that floating point in single precision holds to the bit, and clips nothing of."""

T = TypeVar("T")
Original = NDArray[Any]
"""`[H, W, C]` uint8, or `[T]` int16."""


class Residuals(Protocol):
    """How originals of one kind are stored to the bit beside their codes.

    Attributes:
        axes: of an extent.
        needs_codes: whether codes are needed to read what is left.
        model: whose codes they are.
        canonical_hash: of the exact network that containers name.
    """

    axes: int
    needs_codes: bool
    model: ServedModel
    canonical_hash: str

    def check(self, extents: Sequence[Sequence[int]]) -> None:
        """Refuse, with `TooLargeError`, what would take too long."""

    def originals(self, given: Pictures | Sounds) -> list[Original]:
        """Give what is to be stored; refuse, with `ParameterError`, what would not come back as it was sent."""

    async def write(self, engine: Engine, original: Original, codes: Codes) -> Residual:
        """Write what is left of an original, given its codes `[1, *grid]` by name."""

    async def read(
        self, engine: Engine, data: bytes, extent: Sequence[int], codes: Codes, *, admit: int | None
    ) -> Original:
        """Read what `write` wrote; refuse, with `MalformedContainerError`, what it does not write."""


class PictureResiduals:
    """Around the means of the exact decoder; see `Residuals`."""

    axes, needs_codes = 2, True

    def __init__(self, model: ServedModel, canonical_hash: str) -> None:
        self.model, self.canonical_hash = model, canonical_hash

    def check(self, extents: Sequence[Sequence[int]]) -> None:
        """Refuse a picture with more than `MOST_VALUES`."""
        channels = int(self.model.manifest.graphs["decode"].outputs[0].shape[-1])
        if (most := max(math.prod(extent) for extent in extents) * channels) > MOST_VALUES:
            raise TooLargeError(
                f"the picture has {most} values, expected at most {MOST_VALUES} where it is stored to the bit; "
                "send it in parts"
            )

    def originals(self, given: Pictures | Sounds) -> list[Original]:
        """Give pictures without their padding."""
        taken = cast("Pictures", given)
        return [one.restore(x) for one, x in zip(taken.placements, taken.images, strict=True)]

    async def write(self, engine: Engine, original: Original, codes: Codes) -> Residual:
        """Write what the means leave out."""
        means = await self._means(engine, original.shape[:2], codes, admit=0)
        return await asyncio.to_thread(write_residual, original, means)

    async def read(
        self, engine: Engine, data: bytes, extent: Sequence[int], codes: Codes, *, admit: int | None
    ) -> Original:
        """Read a picture."""
        means = await self._means(engine, extent, codes, admit=admit)
        return await asyncio.to_thread(read_residual, data, means)

    async def _means(
        self, engine: Engine, extent: Sequence[int], codes: Codes, *, admit: int | None
    ) -> Int32[np.ndarray, "H W C"]:
        """Decode exactly."""
        (mean,) = await windows.decode(engine, self.model, codes, {}, _kept, role=EXACT_DECODE, admit=admit)
        height, width = extent
        found: Int32[np.ndarray, "H W C"] = mean[:height, :width]
        return found


class SoundResiduals:
    """Under what the samples before say of the next, since a decoder's means would tell no more; see `Residuals`."""

    axes, needs_codes = 1, False

    def __init__(self, model: ServedModel, canonical_hash: str) -> None:
        self.model, self.canonical_hash = model, canonical_hash

    def check(self, extents: Sequence[Sequence[int]]) -> None:
        """Refuse sounds of more than `MOST_SAMPLES` together."""
        if (total := sum(length for (length,) in extents)) > MOST_SAMPLES:
            raise TooLargeError(
                f"there are {total} samples, expected at most {MOST_SAMPLES} where sounds are stored to the bit; "
                "send them in parts"
            )

    def originals(self, given: Pictures | Sounds) -> list[Original]:
        """Give sounds as 16-bit values, without their padding; they must have been sent as such."""
        taken = cast("Sounds", given)
        for source in taken.sources:
            if (source.sample_rate_hz, source.channels) != (taken.sample_rate_hz, 1):
                channels = f"{source.channels} channel{'s' if source.channels > 1 else ''}"
                raise ParameterError(
                    f"the sound has {channels} at {source.sample_rate_hz} Hz, expected one at "
                    f"{taken.sample_rate_hz} Hz, which {self.model.reference} stores to the bit; convert it first"
                )
            if source.encoding not in (None, *_INTEGERS):
                raise ParameterError(
                    f"the sound is coded as {source.encoding}, expected {' or '.join(_INTEGERS)}, of which every value "
                    "is known to the bit; convert it to 16-bit PCM first"
                )
        return [_levels(one.restore(x)) for one, x in zip(taken.placements, taken.samples, strict=True)]

    async def write(self, engine: Engine, original: Original, codes: Codes) -> Residual:
        """Write a sound."""
        del codes
        return await self._follow(engine, writing_sound(original), len(original), admit=0)

    async def read(
        self, engine: Engine, data: bytes, extent: Sequence[int], codes: Codes, *, admit: int | None
    ) -> Original:
        """Read a sound."""
        del codes
        return await self._follow(engine, reading_sound(data, extent[0]), extent[0], admit=admit)

    async def _follow(self, engine: Engine, work: Generator[None, object, T], length: int, *, admit: int | None) -> T:
        """Let a runner go on with it between the turns of other requests."""
        with in_lane(Lane.BULK):
            return await engine.follow(self.model, work, seconds=_SAMPLE_S * length, admit=admit)


def exact_part(manifest: Manifest) -> ExactPart | None:
    """Give the exact network that containers beside codes name; None where nothing can be stored to the bit."""
    return manifest.exact_prior if isinstance(manifest.geometry, AudioGeometry) else manifest.exact_decoder


def residuals_of(model: ServedModel) -> Residuals:
    """Give the way to store what a model's codes leave out.

    Raises:
        CapabilityError: it has no exact networks for that.
    """
    part, is_of_sounds = exact_part(model.manifest), isinstance(model.manifest.geometry, AudioGeometry)
    if part is None:
        raise CapabilityError(f"{model.reference} stores nothing to the bit; choose another model")
    return (SoundResiduals if is_of_sounds else PictureResiduals)(model, part.canonical_hash)


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
