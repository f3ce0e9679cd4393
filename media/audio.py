"""Sounds: files to arrays and back."""

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from media.errors import (
    MalformedMediaError,
    MediaGeometryError,
    MediaTooLargeError,
    UnsupportedMediaError,
)

MAX_CHANNELS = 8
MIN_SAMPLE_RATE_HZ = 1_000
MAX_SAMPLE_RATE_HZ = 384_000

_MAX_CHUNKS = 1000
_SPARE = 16
"""Samples that resampling may give beyond the exact number."""

_FULL_SCALE = 32768
_BLOCK_FRAMES = 1 << 18
_SUBTYPES = {"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
_LENGTH_UNKNOWN = 2**63 - 1
_STREAMED_BYTES = 0xFFFFFFFF


class Recording(NamedTuple):
    """A sound that was read from a file.

    Attributes:
        samples: one channel at the rate that was wanted, in [-1, 1].
        source_hz: samples a second that the file has.
        frames: samples that the file has in each channel.
        channels: of the file.
        encoding: of its samples, by libsndfile's name.
    """

    samples: Float32[np.ndarray, " T"]
    source_hz: int
    frames: int
    channels: int
    encoding: str


def read_audio(data: bytes, *, sample_rate_hz: int, max_seconds: float) -> Float32[np.ndarray, " T"]:
    """Decode a WAV or FLAC file; see `read_recording`, of which it gives the samples."""
    return read_recording(data, sample_rate_hz=sample_rate_hz, max_seconds=max_seconds).samples


def read_recording(
    data: bytes, *, sample_rate_hz: int, max_seconds: float, max_samples: int | None = None
) -> Recording:
    """Decode a WAV or FLAC file.

    Channels are averaged and the result is resampled where the file's rate is another one. A sound that exceeds full
    scale, as floating-point files may, is clipped.

    Args:
        data: the whole file.
        sample_rate_hz: samples a second that are wanted.
        max_seconds: the longest duration that the header may announce; checked before anything is decoded.
        max_samples: the most that it may announce in all channels, likewise; None for any number.

    Returns:
        The sound, with what the file says of itself.

    Raises:
        MalformedMediaError: the file is damaged or truncated, or holds values that are not numbers.
        UnsupportedMediaError: the format, or this variant of it, is not read.
        MediaTooLargeError: it lasts longer than `max_seconds`, or has more than `max_samples`.
        MediaGeometryError: it is empty, or its channels or sample rate are out of range.
    """
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        _check_wav_is_whole(data)
    elif not data.startswith(b"fLaC"):
        start = data[:8].hex(" ") or "nothing at all"
        raise UnsupportedMediaError(f"the file begins with {start}, expected a WAV or FLAC sound: convert it")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_header(file, max_seconds, max_samples)
            samples = _read_mono(file, sample_rate_hz)
            return Recording(samples, file.samplerate, file.frames, file.channels, file.subtype)
    except soundfile.SoundFileError as error:
        reason = str(getattr(error, "error_string", error)).strip(" .")
        raise MalformedMediaError(
            f"the sound cannot be decoded ({reason}): it is damaged or truncated, send it anew"
        ) from error


def write_wav(samples: Float32[np.ndarray, " T"], *, sample_rate_hz: int) -> bytes:
    """Encode a sound as WAV, 16-bit PCM, one channel.

    Args:
        samples: in [-1, 1]; values beyond are clipped.
        sample_rate_hz: samples a second.

    Returns:
        The file.
    """
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", sample_rate_hz, 1, format="WAV", subtype="PCM_16") as file:
        for start in range(0, len(samples), _BLOCK_FRAMES):
            levels = np.rint(samples[start : start + _BLOCK_FRAMES] * _FULL_SCALE)
            file.write(np.clip(levels, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16))
    return content.getvalue()


def resample(samples: Float32[np.ndarray, " T"], *, source_hz: int, target_hz: int) -> Float32[np.ndarray, " t"]:
    """Change the sample rate of a sound by a band-limited (linear-phase) filter.

    Args:
        samples: the sound.
        source_hz: its samples a second.
        target_hz: samples a second that are wanted.

    Returns:
        T * target / source samples, rounded.
    """
    if source_hz == target_hz:
        return samples
    resampled: Float32[np.ndarray, " t"] = soxr.resample(samples, source_hz, target_hz)
    return resampled


def _check_wav_is_whole(data: bytes) -> None:
    """Refuse a WAV whose sound is shorter than announced; libsndfile would quietly read what there is.

    Programs that write into a pipe cannot know the length and announce the largest one: there, all is taken.
    """
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            break
        kind, (length,) = data[position : position + 4], struct.unpack_from("<I", data, position + 4)
        position += 8
        if kind == b"data":
            if length != _STREAMED_BYTES and position + length > len(data):
                raise MalformedMediaError(
                    f"the WAV file announces {length} bytes of sound and holds {len(data) - position}: "
                    "it is truncated, send it whole"
                )
            return
        position += length + length % 2
    raise MalformedMediaError(
        f"the WAV file has no sound (no data chunk) among its first {_MAX_CHUNKS} chunks: send it whole"
    )


def _check_header(file: soundfile.SoundFile, max_seconds: float, max_samples: int | None) -> None:
    """Refuse, before decoding, what is not taken."""
    if file.subtype not in _SUBTYPES:
        raise UnsupportedMediaError(
            f"the {file.format} file is coded as {file.subtype}, expected PCM, floating point, A-law or mu-law: "
            "convert it"
        )
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise MediaGeometryError(
            f"the sound has {file.channels} channels, expected 1 to {MAX_CHANNELS}: mix it down before sending"
        )
    if not MIN_SAMPLE_RATE_HZ <= file.samplerate <= MAX_SAMPLE_RATE_HZ:
        raise MediaGeometryError(
            f"the sound has {file.samplerate} samples a second, "
            f"expected {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ}: resample it before sending"
        )
    if file.frames == _LENGTH_UNKNOWN:
        raise UnsupportedMediaError("the FLAC header does not tell the length: encode to a file, not into a pipe")
    if file.frames == 0:
        raise MediaGeometryError("the sound is empty, expected at least one sample: send a longer one")
    if file.frames > max_seconds * file.samplerate:
        raise MediaTooLargeError(
            f"the sound lasts {file.frames / file.samplerate:.6g} s, expected at most {max_seconds:g} s: "
            "send it in parts"
        )
    if max_samples is not None and file.frames * file.channels > max_samples:
        raise MediaTooLargeError(
            f"the sound has {file.frames * file.channels} samples in all channels, expected at most {max_samples}: "
            "send it at a lower rate, or in parts"
        )


def _read_mono(file: soundfile.SoundFile, sample_rate_hz: int) -> Float32[np.ndarray, " T"]:
    """Decode, mix and resample block by block, so that memory grows with the answer alone."""
    found = np.empty(-(-file.frames * sample_rate_hz // file.samplerate) + _SPARE, dtype=np.float32)
    length = 0
    for block in _resampled(file, sample_rate_hz):
        found[length : length + len(block)] = block
        length += len(block)
    return found[:length]


def _resampled(file: soundfile.SoundFile, sample_rate_hz: int) -> Iterator[Float32[np.ndarray, " t"]]:
    blocks = _mono_blocks(file)
    if file.samplerate == sample_rate_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(file.samplerate, sample_rate_hz, 1, dtype="float32")
    for block in blocks:
        yield _clip(stream.resample_chunk(block))
    yield _clip(stream.resample_chunk(np.empty(0, dtype=np.float32), last=True))


def _mono_blocks(file: soundfile.SoundFile) -> Iterator[Float32[np.ndarray, " T"]]:
    remaining = file.frames
    while remaining > 0:
        block = file.read(min(remaining, _BLOCK_FRAMES), dtype="float32", always_2d=True)
        if len(block) == 0:
            raise MalformedMediaError(f"the sound breaks off {remaining} samples before its end: send it whole")
        remaining -= len(block)
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise MalformedMediaError("the sound holds values that are infinite or not numbers: repair it first")
        yield _clip(mono)


def _clip(samples: Float32[np.ndarray, " T"]) -> Float32[np.ndarray, " T"]:
    clipped: Float32[np.ndarray, " T"] = np.clip(samples, -1.0, 1.0)
    return clipped
