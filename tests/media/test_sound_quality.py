import numpy as np
import pytest
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from media.errors import MediaGeometryError
from media.mel import WINDOWS, log_mel_db, mel_distance_db
from media.si_sdr import si_sdr_db


def _noise(count=2, samples=4000):
    return (0.1 * np.random.default_rng(2).standard_normal((count, samples))).astype(np.float32)


def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_energies():
    t = np.arange(8000) / 8000
    x = np.sin(2 * np.pi * 440 * t)[None].astype(np.float32)
    noise = np.cos(2 * np.pi * 440 * t)[None].astype(np.float32)

    for loudness in (0.2, 1.0, 3.0):
        np.testing.assert_allclose(si_sdr_db(x, loudness * (x + np.float32(0.1) * noise)), 20.0, atol=1e-3)


def test_si_sdr_at_its_ends():
    x = _noise()
    silence = np.zeros_like(x)

    np.testing.assert_array_equal(si_sdr_db(x, 2 * x), np.inf)
    np.testing.assert_array_equal(si_sdr_db(silence, x), -np.inf)
    np.testing.assert_array_equal(si_sdr_db(silence, silence), 0.0)


def test_mel_distance_of_a_louder_sound_is_the_gain():
    x = _noise()

    np.testing.assert_allclose(mel_distance_db(x, np.float32(0.5) * x, 8000), 20 * np.log10(2), atol=1e-5)
    np.testing.assert_array_equal(mel_distance_db(x, x, 8000), 0.0)


def test_mel_distance_to_silence_is_the_height_above_the_floor():
    x = _noise(1)
    levels = [log_mel_db(x[0], 8000, round(seconds * 8000), bands) + 80 for seconds, bands in WINDOWS]

    expected = np.mean([level.mean() for level in levels])
    np.testing.assert_allclose(mel_distance_db(x, np.zeros_like(x), 8000), expected, rtol=1e-12)


@pytest.mark.parametrize(("rate", "seconds", "bands"), [(8000, *WINDOWS[0]), (8000, *WINDOWS[4]), (44100, *WINDOWS[2])])
def test_levels_equal_those_from_a_foreign_transform(rate, seconds, bands):
    (sound,) = _noise(1)
    length = 2 * round(seconds * rate / 2)
    hop = length // 4
    window = hann(length, sym=False)
    transform = ShortTimeFFT(2 * window / window.sum(), hop, rate, phase_shift=None)
    spectrum = transform.stft(sound, p0=0, p1=len(sound) // hop + 1)

    def mel(hz):
        return 2595 * np.log10(1 + hz / 700)

    centres = 700 * (10 ** (np.linspace(0, mel(rate / 2), bands + 2) / 2595) - 1)
    power = np.zeros((bands, spectrum.shape[1]))
    for band, (low, middle, high) in enumerate(zip(centres, centres[1:], centres[2:], strict=False)):
        rise, fall = (transform.f - low) / (middle - low), (high - transform.f) / (high - middle)
        power[band] = np.clip(np.minimum(rise, fall), 0, None) @ np.abs(spectrum) ** 2
    expected = 10 * np.log10(np.maximum(power, 1e-8)).T

    np.testing.assert_allclose(log_mel_db(sound, rate, length, bands), expected, atol=1e-4)


def test_a_full_scale_sine_stands_at_zero_decibels():
    sine = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)

    levels = log_mel_db(sine, 8000, 256, 32)

    assert abs(levels[10:-10].max() - 0.0) < 2.0


def test_every_band_hears_something():
    for rate in (8000, 16000, 44100, 48000):
        for seconds, bands in WINDOWS:
            levels = log_mel_db(_noise(1, 8000)[0], rate, 2 * round(seconds * rate / 2), bands)
            assert (levels.max(axis=0) > -80).all(), (rate, seconds)


@pytest.mark.parametrize("measure", [si_sdr_db, lambda x, y: mel_distance_db(x, y, 8000)])
def test_refuses_sounds_of_other_lengths(measure):
    with pytest.raises(MediaGeometryError, match="expected equal ones"):
        measure(_noise(), _noise(2, 3999))
