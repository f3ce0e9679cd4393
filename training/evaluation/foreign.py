"""Codecs of others, for comparison: what a file costs in real bytes, and what comes out of it."""

import io
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from PIL import Image

from media.audio import resample
from media.images import from_pillow, to_pillow
from training.errors import TrainingError

Picture = UInt8[np.ndarray, "H W C"]
Sound = Float32[np.ndarray, " T"]


@dataclass(frozen=True)
class Coded:
    """What a codec made of one file.

    Attributes:
        file_bytes: of the whole file, its header included.
        payload_bytes: of the coded sound alone, without the container's pages and headers; of a picture the whole file.
        answer: the decoded picture or sound, of the size that went in.
    """

    file_bytes: int
    payload_bytes: int
    answer: NDArray[np.generic]


class PictureCodec(Protocol):
    """A codec of pictures.

    Attributes:
        name: for tables and plots.
        settings: from the smallest files to the largest.
    """

    name: str
    settings: tuple[int, ...]

    def code(self, picture: Picture, setting: int) -> Coded:
        """Encode and decode a picture at one setting."""
        ...


class Jpeg:
    """JPEG as Pillow writes it, with optimised Huffman tables and colour at half the resolution (4:2:0)."""

    name = "JPEG"
    settings: tuple[int, ...] = (3, 5, 7, 10, 14, 19, 25, 32, 41, 52, 64)

    def code(self, picture: Picture, setting: int) -> Coded:
        """Encode at a quality of 1 .. 95, and decode."""
        file = io.BytesIO()
        to_pillow(picture).save(file, "JPEG", quality=setting, optimize=True, subsampling="4:2:0")
        return _decoded(file, picture)


class WebP:
    """Lossy WebP as Pillow writes it, by its slowest method."""

    name = "WebP"
    settings: tuple[int, ...] = (0, 2, 5, 9, 15, 23, 33, 45, 58, 70)

    def code(self, picture: Picture, setting: int) -> Coded:
        """Encode at a quality of 0 .. 100, and decode."""
        file = io.BytesIO()
        to_pillow(picture).save(file, "WEBP", quality=setting, method=6)
        return _decoded(file, picture)


PICTURE_CODECS: tuple[PictureCodec, ...] = (Jpeg(), WebP())


def _decoded(file: io.BytesIO, picture: Picture) -> Coded:
    """Read a file back, in the channels that went in."""
    size = len(file.getvalue())
    with Image.open(file) as image:
        answer = from_pillow(image.convert("L" if picture.shape[2] == 1 else "RGB"))
    return Coded(size, size, answer)


class Opus:
    """Opus as libopus writes it through FFmpeg, mono, for true sound ("audio"), in frames of 60 ms in an Ogg file.

    Its documented range begins at 6 kbit/s; what is asked for below that it does not keep to. A sound comes back as
    FFmpeg decodes and trims it, moved by up to 2 ms to where it matches best, since codecs delay.
    """

    name = "Opus"
    settings: tuple[int, ...] = (4000, 5000, 6000, 8000, 10000, 12000, 16000, 24000, 32000)

    def code(self, sound: Sound, setting: int, sample_rate_hz: int) -> Coded:
        """Encode at so many bit/s, and decode.

        Args:
            sound: one channel, in [-1, 1].
            setting: bit/s.
            sample_rate_hz: of it.

        Returns:
            The bytes and the sound, as long as it was.

        Raises:
            TrainingError: this build of FFmpeg has no libopus.
        """
        if "libopus" not in av.codecs_available:
            raise TrainingError("the installed PyAV has no libopus; install one of its official wheels")
        rate = next((hz for hz in _OPUS_RATES_HZ if hz >= sample_rate_hz), _OPUS_RATES_HZ[-1])
        file, payload = _encode_opus(resample(sound, source_hz=sample_rate_hz, target_hz=rate), rate, setting)
        decoded = resample(_decode_opus(file), source_hz=_OPUS_RATES_HZ[-1], target_hz=sample_rate_hz)
        return Coded(len(file), payload, aligned(sound, decoded, limit=sample_rate_hz // 500))


_OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)


def _encode_opus(sound: Sound, rate: int, bit_rate: int) -> tuple[bytes, int]:
    """Give the Ogg file, and the bytes of its packets alone."""
    levels = np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(levels[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = rate, 0
    file = io.BytesIO()
    payload = 0
    with av.open(file, "w", format="ogg") as container:
        options = {"frame_duration": "60", "application": "audio"}
        stream = container.add_stream("libopus", rate=rate, layout="mono", bit_rate=bit_rate, options=options)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            payload += packet.size
            container.mux(packet)
    return file.getvalue(), payload


def _decode_opus(file: bytes) -> Sound:
    """Decode an Ogg file, at 48 kHz."""
    with av.open(io.BytesIO(file), "r") as container:
        resampler = av.AudioResampler("flt", "mono", _OPUS_RATES_HZ[-1])
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        parts = [frame.to_ndarray()[0] for frame in (*frames, *resampler.resample(None))]
    return np.concatenate(parts) if parts else np.zeros(1, dtype=np.float32)


def aligned(given: Sound, answer: Sound, limit: int) -> Sound:
    """Move a sound in time to where it matches another one best, by the largest inner product.

    Args:
        given: the sound to match.
        answer: the sound to move, of any length.
        limit: samples by which it is moved at most.

    Returns:
        As many samples as are given, silent where there was none.
    """
    padded = np.zeros(len(given) + 2 * limit, dtype=np.float32)
    length = min(len(answer), len(given) + limit)
    padded[limit : limit + length] = answer[:length]
    shifts = np.lib.stride_tricks.sliding_window_view(padded, len(given))
    return shifts[int(np.argmax(shifts @ given))].copy()
