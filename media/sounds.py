"""Sounds between sample rates: whole, brought back to what they were, or as they come in."""

from typing import Any

import numpy as np
import soxr
from jaxtyping import Float32
from numpy.typing import NDArray

from media.audio import resample
from media.errors import MediaGeometryError

PCM_TYPES: dict[str, np.dtype[Any]] = {"s16": np.dtype("<i2"), "f32": np.dtype("<f4")}
"""Encodings of raw samples by name: 16-bit integers, and floating point in [-1, 1]; little-endian."""

_FULL_SCALE = np.float32(1 / 32768)


def restore_rate(
    samples: Float32[np.ndarray, " T"], *, source_hz: int, target_hz: int, length: int
) -> Float32[np.ndarray, " t"]:
    """Bring a sound back to the rate and the length that it had.

    Args:
        samples: the sound, in [-1, 1].
        source_hz: its samples a second.
        target_hz: samples a second that are wanted.
        length: samples that are wanted; what rounding has added is cut, what it has taken is silent.

    Returns:
        The sound, in [-1, 1].
    """
    restored = resample(samples, source_hz=source_hz, target_hz=target_hz)[:length]
    padded = np.pad(restored, (0, length - len(restored))) if len(restored) < length else restored
    clipped: Float32[np.ndarray, " t"] = np.clip(padded, -1.0, 1.0)
    return clipped


class PcmStream:
    """Raw samples that come in pieces of any number of bytes, as a sound of another rate that grows.

    Args:
        encoding: of the samples, one of `PCM_TYPES`.
        source_hz: samples a second that come in.
        target_hz: samples a second that are wanted.

    Attributes:
        received: samples that have come in whole.
    """

    def __init__(self, encoding: str, *, source_hz: int, target_hz: int) -> None:
        self.received = 0
        self._dtype = PCM_TYPES[encoding]
        self._rest = b""
        self._stream = None if source_hz == target_hz else soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32")

    def push(self, data: bytes) -> Float32[np.ndarray, " t"]:
        """Take bytes in, which may end within a sample.

        Args:
            data: the next bytes.

        Returns:
            The samples that they have made certain, clipped to [-1, 1]; often none.

        Raises:
            MediaGeometryError: a sample is no number.
        """
        data = self._rest + data if self._rest else data
        count = len(data) // self._dtype.itemsize
        self._rest = data[count * self._dtype.itemsize :]
        self.received += count
        samples = _to_float(np.frombuffer(data, self._dtype, count))
        if self._stream is None or not count:
            return samples
        return np.clip(self._stream.resample_chunk(samples), -1.0, 1.0)

    def finish(self) -> Float32[np.ndarray, " t"]:
        """Give the last samples.

        Raises:
            MediaGeometryError: the bytes ended within a sample.
        """
        if self._rest:
            raise MediaGeometryError(
                f"the stream ended {len(self._rest)} bytes into a sample of {self._dtype.itemsize}: send whole samples"
            )
        empty = np.empty(0, dtype=np.float32)
        return empty if self._stream is None else np.clip(self._stream.resample_chunk(empty, last=True), -1.0, 1.0)


def _to_float(samples: NDArray[np.generic]) -> Float32[np.ndarray, " T"]:
    """Scale integers to [-1, 1), and clip floating point to [-1, 1]."""
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) * _FULL_SCALE
    if not np.isfinite(samples).all():
        raise MediaGeometryError("the stream holds samples that are infinite or not numbers: repair it first")
    clipped: Float32[np.ndarray, " T"] = np.clip(samples.astype(np.float32, copy=False), -1.0, 1.0)
    return clipped
