"""Raw samples that come in pieces, and sounds that are brought back to what they were."""

import numpy as np
import pytest
from scipy.signal import resample_poly

from media.audio import read_audio, resample, write_wav
from media.errors import MediaGeometryError
from media.sounds import PcmStream, restore_rate


def tone(length: int, hz: float = 440.0, rate_hz: int = 8000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(length) / rate_hz)).astype(np.float32)


def fed(stream: PcmStream, data: bytes, size: int) -> np.ndarray:
    parts = [stream.push(data[start : start + size]) for start in range(0, len(data), size)]
    return np.concatenate([*parts, stream.finish()])


@pytest.mark.parametrize("size", [1, 3, 1000, 10**6])
def test_pieces_of_any_number_of_bytes_are_the_sound(size: int) -> None:
    levels = np.array([-32768, -1, 0, 1, 16384, 32767], "<i2")
    stream = PcmStream("s16", source_hz=8000, target_hz=8000)
    samples = fed(stream, levels.tobytes(), size)
    assert samples.dtype == np.float32
    assert (samples == levels / np.float32(32768)).all()
    assert stream.received == len(levels)
    loud = np.array([0.25, -3.0, 1.5], "<f4")
    assert fed(PcmStream("f32", source_hz=8000, target_hz=8000), loud.tobytes(), size).tolist() == [0.25, -1.0, 1.0]


@pytest.mark.parametrize("source_hz", [16000, 44100, 6000])
def test_another_rate_is_that_of_a_file(source_hz: int) -> None:
    sound = tone(source_hz, rate_hz=source_hz)
    stream = PcmStream("s16", source_hz=source_hz, target_hz=8000)
    samples = fed(stream, np.rint(sound * 32768).astype("<i2").tobytes(), 1001)
    whole = read_audio(write_wav(sound, sample_rate_hz=source_hz), sample_rate_hz=8000, max_seconds=2.0)
    assert len(samples) == len(whole) == 8000
    np.testing.assert_allclose(samples, whole, atol=1e-5)
    np.testing.assert_allclose(samples[200:-200], tone(8000)[200:-200], atol=1e-3)


def test_what_is_no_sound_is_refused() -> None:
    stream = PcmStream("f32", source_hz=8000, target_hz=8000)
    with pytest.raises(MediaGeometryError, match="not numbers"):
        stream.push(np.array([np.nan], "<f4").tobytes())
    stream = PcmStream("f32", source_hz=8000, target_hz=8000)
    stream.push(b"abc")
    with pytest.raises(MediaGeometryError, match="3 bytes into a sample of 4"):
        stream.finish()


@pytest.mark.parametrize("length", [4409, 4410, 4411])
def test_a_restored_sound_is_as_long_as_it_was(length: int) -> None:
    original = tone(length, rate_hz=44100)
    given = resample(original, source_hz=44100, target_hz=8000)
    restored = restore_rate(given, source_hz=8000, target_hz=44100, length=length)
    assert restored.shape == (length,)
    np.testing.assert_allclose(restored[600:-600], resample_poly(given, 441, 80)[600 : length - 600], atol=5e-3)
    assert np.abs(restore_rate(2 * given, source_hz=8000, target_hz=8000, length=9000)).max() == 1.0
