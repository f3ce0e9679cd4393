"""Foreign codecs: real bytes, the size that went in, and quality that rises with the rate."""

import io

import numpy as np
import pytest
from PIL import Image

from media.distortion import psnr_db
from media.si_sdr import si_sdr_db
from training.evaluation.foreign import PICTURE_CODECS, Jpeg, Opus, aligned


def _picture(channels=3):
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (4, 5, channels)).astype(np.uint8)
    enlarged = Image.fromarray(coarse.squeeze()).resize((81, 63), Image.Resampling.BICUBIC)
    return np.asarray(enlarged).reshape(63, 81, channels)


def _speech(rate, seconds=1.0):
    t = np.arange(int(rate * seconds)) / rate
    pitch = 120 + 30 * np.sin(2 * np.pi * 3 * t)
    voice = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / rate) / k for k in range(1, 12))
    return (0.2 * voice * (1.2 + np.sin(2 * np.pi * 4 * t)) / 2).astype(np.float32)


@pytest.mark.parametrize("codec", PICTURE_CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_cost_more_and_look_better_from_setting_to_setting(codec, channels):
    picture = _picture(channels)
    few, many = (codec.code(picture, setting) for setting in (codec.settings[0], codec.settings[-1]))

    assert few.answer.shape == many.answer.shape == picture.shape
    assert few.file_bytes < many.file_bytes
    assert psnr_db(picture[None], few.answer[None]) < psnr_db(picture[None], many.answer[None])


def test_jpeg_is_optimised_and_at_half_the_resolution_in_colour():
    picture = _picture()
    plain = io.BytesIO()
    Image.fromarray(picture).save(plain, "JPEG", quality=50, subsampling="4:4:4")

    assert Jpeg().code(picture, 50).file_bytes < len(plain.getvalue())


@pytest.mark.parametrize("rate", [8000, 11025, 48000])
def test_opus_keeps_the_length_and_gets_better_with_the_rate(rate):
    sound = _speech(rate)
    low, high = (Opus().code(sound, setting, rate) for setting in (6000, 32000))

    assert low.answer.shape == high.answer.shape == sound.shape
    assert low.payload_bytes < low.file_bytes < high.file_bytes
    assert 0.5 < 8 * low.payload_bytes / 6000 < 1.5
    given = sound[None]
    assert si_sdr_db(given, low.answer[None]) < si_sdr_db(given, high.answer[None])
    assert si_sdr_db(given, high.answer[None]) > 8.0


@pytest.mark.parametrize("shift", [-5, 0, 5])
def test_alignment_undoes_a_delay(shift):
    sound = np.random.default_rng(1).standard_normal(400).astype(np.float32)
    moved = np.zeros(400, dtype=np.float32)
    moved[max(0, shift) : 400 + min(0, shift)] = sound[max(0, -shift) : 400 - max(0, shift)]

    found = aligned(sound, moved, limit=8)

    np.testing.assert_array_equal(found[8:-8], sound[8:-8])
