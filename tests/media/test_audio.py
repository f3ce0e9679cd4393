import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from media.audio import MAX_CHANNELS, read_audio, resample, write_wav
from media.errors import (
    MalformedMediaError,
    MediaError,
    MediaGeometryError,
    MediaTooLargeError,
    UnsupportedMediaError,
)

RATE_HZ = 16_000


def read(data, sample_rate_hz=RATE_HZ, max_seconds=10.0):
    return read_audio(data, sample_rate_hz=sample_rate_hz, max_seconds=max_seconds)


def wav(samples, rate_hz=RATE_HZ):
    """Encode with scipy."""
    file = io.BytesIO()
    wavfile.write(file, rate_hz, samples)
    return file.getvalue()


def encode(samples, rate_hz=RATE_HZ, kind="FLAC", subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def tone(frequency_hz, rate_hz, seconds=1.0, amplitude=0.5):
    return (amplitude * np.sin(2.0 * np.pi * frequency_hz * np.arange(int(seconds * rate_hz)) / rate_hz)).astype("f4")


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_wav_is_read_as_scipy_wrote_it(dtype, channels):
    generator = np.random.default_rng(0)
    if dtype.startswith("f"):
        samples = generator.uniform(-1.0, 1.0, (1000, channels)).astype(dtype)
        expected = samples.astype(np.float64)
    else:
        info = np.iinfo(dtype)
        samples = generator.integers(info.min, info.max, (1000, channels), dtype=dtype, endpoint=True)
        half = 2.0 ** (info.bits - 1)
        expected = samples / half - (1.0 if dtype == "u1" else 0.0)
    found = read(wav(samples))

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_flac_is_read_exactly(subtype):
    levels = np.random.default_rng(1).integers(-32768, 32768, 5000).astype(np.int16)

    assert np.array_equal(read(encode(levels, subtype=subtype)), levels / 32768.0)


def test_wav_is_written_for_scipy():
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 7.0, -7.0, 1.4 / 32768, 1.6 / 32768], dtype=np.float32)
    rate_hz, levels = wavfile.read(io.BytesIO(write_wav(samples, sample_rate_hz=8000)))

    assert rate_hz == 8000
    assert levels.dtype == np.int16
    assert levels.tolist() == [0, 16384, -16384, 32767, -32768, 32767, -32768, 1, 2]


def test_reading_undoes_writing():
    levels = np.arange(-32768, 32768, dtype=np.float32) / 32768.0

    assert np.array_equal(read(write_wav(levels, sample_rate_hz=RATE_HZ)), levels)


def test_beyond_full_scale_is_clipped():
    assert read(wav(np.array([2.0, -3e38, 0.25], dtype=np.float32))).tolist() == [1.0, -1.0, 0.25]


@pytest.mark.parametrize(
    "values", [[np.nan], [np.inf], [-np.inf], [0.0, np.nan, 0.0], [[np.inf, -np.inf]], [[3e38, 3e38]]]
)
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 8000])
def test_what_is_no_number_is_refused(values, rate_hz):
    with pytest.raises(MalformedMediaError, match="infinite or not numbers"):
        read(wav(np.array(values, dtype=np.float32), rate_hz))


@pytest.mark.parametrize(("source_hz", "target_hz"), [(44100, 16000), (8000, 16000), (22050, 44100), (48000, 8000)])
def test_a_tone_stays_the_same_tone(source_hz, target_hz):
    found = resample(tone(1000.0, source_hz), source_hz=source_hz, target_hz=target_hz)
    spectrum = np.abs(np.fft.rfft(found * np.hanning(len(found)))) / (len(found) / 4)

    assert len(found) == target_hz
    assert found.dtype == np.float32
    assert np.argmax(spectrum) == 1000
    assert spectrum.max() == pytest.approx(0.5, rel=1e-3)
    spectrum[995:1006] = 0.0
    assert spectrum.max() < 1e-3


def test_a_tone_above_half_the_new_rate_vanishes():
    found = resample(tone(10_000.0, 44100), source_hz=44100, target_hz=16000)

    assert np.abs(found[500:-500]).max() < 1e-4


def test_an_equal_rate_changes_nothing():
    samples = tone(440.0, 8000)

    assert np.array_equal(resample(samples, source_hz=8000, target_hz=8000), samples)


def test_files_are_resampled_as_a_whole():
    """Longer than one block: there is no seam."""
    samples = np.random.default_rng(2).uniform(-0.4, 0.4, 300_000).astype(np.float32)
    found = read(wav(samples, 48000), 16000)

    np.testing.assert_allclose(found, resample(samples, source_hz=48000, target_hz=16000), atol=1e-6)
    assert np.array_equal(read(wav(samples, 48000), 48000), samples)


def test_resampling_does_not_overshoot_full_scale():
    square = np.sign(tone(300.0, 8000)).astype(np.float32)

    assert np.abs(read(wav(square, 8000))).max() == 1.0


@pytest.mark.parametrize("data", [wav(np.zeros(16001, dtype=np.int16)), encode(np.zeros(16001, dtype=np.int16))])
def test_the_duration_is_limited(data):
    assert len(read(data, max_seconds=16001 / 16000)) == 16001
    with pytest.raises(MediaTooLargeError, match=r"lasts 1.00006 s, expected at most 1 s"):
        read(data, max_seconds=1.0)


def with_length(flac, samples):
    """Overwrite the 36 bits of STREAMINFO that tell the number of samples."""
    data = bytearray(flac)
    data[21] = data[21] & 0xF0 | samples >> 32
    data[22:26] = (samples & 0xFFFFFFFF).to_bytes(4)
    return bytes(data)


def test_the_duration_is_checked_before_decoding():
    data = encode(np.zeros(1000, dtype=np.int16))

    with pytest.raises(MediaTooLargeError, match="expected at most 10 s"):
        read(with_length(data, 2**36 - 1))
    with pytest.raises(MediaTooLargeError, match="expected at most 10 s"):
        read(with_length(data, 2**36 - 1)[:60] + bytes(1000))


def test_a_flac_that_tells_a_wrong_length():
    data = encode(np.arange(1000, dtype=np.int16))

    assert len(read(with_length(data, 400))) == 400
    with pytest.raises(MalformedMediaError):
        read(with_length(data, 1200))
    with pytest.raises(UnsupportedMediaError, match="does not tell the length"):
        read(with_length(data, 0))


@pytest.mark.parametrize("samples", [np.zeros((0, 1), dtype=np.int16), np.zeros((0, 2), dtype=np.float32)])
def test_an_empty_sound_is_refused(samples):
    with pytest.raises(MediaGeometryError, match="expected at least one sample"):
        read(encode(samples, kind="WAV"))


def test_too_many_channels():
    assert len(read(wav(np.zeros((10, MAX_CHANNELS), dtype=np.int16)))) == 10
    with pytest.raises(MediaGeometryError, match="9 channels, expected 1 to 8"):
        read(wav(np.zeros((10, 9), dtype=np.int16)))


@pytest.mark.parametrize("rate_hz", [1, 999, 384_001, 2**31 - 1])
def test_sample_rates_out_of_range(rate_hz):
    with pytest.raises(MediaGeometryError, match="expected 1000 to 384000"):
        read(wav(np.zeros(10, dtype=np.int16), rate_hz), max_seconds=1e9)


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "GSM610"])
def test_lossy_codes_inside_wav_are_refused(subtype):
    with pytest.raises(UnsupportedMediaError, match=f"coded as {subtype}"):
        read(encode(np.zeros(1000), kind="WAV", subtype=subtype))


@pytest.mark.parametrize("data", [b"", b"OggS" + bytes(40), b"ID3\x03" + bytes(40), b"RIFF\0\0\0\0WEBPVP8 "])
def test_other_formats_are_refused(data):
    with pytest.raises(UnsupportedMediaError, match="expected a WAV or FLAC"):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        wav(np.arange(200, dtype=np.int16)),
        wav(np.linspace(-1, 1, 100, dtype=np.float32)),
        encode(np.arange(-100, 100, dtype=np.int16)),
    ],
)
def test_a_truncated_file_is_refused(data):
    assert len(read(data)) > 0
    for length in range(len(data)):
        with pytest.raises(MediaError):
            read(data[:length])


def test_a_sound_written_into_a_pipe_is_taken_whole():
    """Its header says the largest length there is, in both places."""
    samples = np.arange(100, dtype=np.int16)
    data = wav(samples)
    streamed = data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]

    assert np.array_equal(read(streamed), samples / 32768.0)


def test_a_sound_behind_endless_chunks_is_refused():
    data = wav(np.arange(100, dtype=np.int16))

    with pytest.raises(MalformedMediaError, match="no data chunk"):
        read(data[:36] + b"JUNK\0\0\0\0" * 1000 + data[36:])


def test_other_chunks_around_the_sound_are_skipped():
    samples = np.arange(100, dtype=np.int16)
    data = wav(samples)
    odd = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"

    assert np.array_equal(read(data[:36] + odd + data[36:] + odd), samples / 32768.0)


CORPUS = [
    wav(np.arange(100, dtype=np.int16)),
    wav(np.linspace(-1, 1, 100, dtype=np.float32)),
    encode(np.arange(-300, 300, dtype=np.int16)),
    encode(tone(700.0, 8000, 0.1), 8000, subtype="PCM_24"),
    encode(tone(700.0, 8000, 0.1), 8000, kind="WAV", subtype="ULAW"),
]


@settings(max_examples=500, deadline=None, database=None, derandomize=True)
@given(draw=st.data())
def test_mutated_files_give_a_sound_or_a_clear_error(draw):
    data = bytearray(draw.draw(st.sampled_from(CORPUS)))
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.one_of(st.integers(4, 60), st.integers(0, len(data) - 1)))
        junk = draw.draw(st.binary(max_size=6))
        data[place : place + draw.draw(st.integers(0, 6))] = junk
    try:
        samples = read(bytes(data))
    except MediaError:
        pass
    else:
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert np.abs(samples).max(initial=0.0) <= 1.0
