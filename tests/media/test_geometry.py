import numpy as np
import pytest
from PIL import Image

from media.errors import MediaGeometryError
from media.geometry import fit_audio, fit_image

FIXED = {"height": 10, "width": 12, "multiple_of": 1, "maximum": 4096}
FLEXIBLE = {"height": None, "width": None, "multiple_of": 8, "maximum": 64}


def picture(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def sound(length):
    return np.linspace(-1.0, 1.0, length, dtype=np.float32)


@pytest.mark.parametrize("fit", ["pad", "crop", "resize", "error"])
@pytest.mark.parametrize(("size", "rules"), [((10, 12), FIXED), ((16, 24), FLEXIBLE), ((64, 8), FLEXIBLE)])
def test_a_size_that_is_taken_stays(size, rules, fit):
    image = picture(*size)
    fitted, placement = fit_image(image, **rules, fit=fit)

    assert np.array_equal(fitted, image)
    assert np.array_equal(placement.restore(fitted), image)


@pytest.mark.parametrize(
    ("size", "rules", "expected"),
    [
        ((7, 12), FIXED, (10, 12)),
        ((1, 1), FIXED, (10, 12)),
        ((9, 17), FLEXIBLE, (16, 24)),
        ((1, 64), FLEXIBLE, (8, 64)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_padding_repeats_the_edges_and_is_undone(size, rules, expected, channels):
    image = picture(*size, channels)
    fitted, placement = fit_image(image, **rules, fit="pad")
    rows, columns = (np.minimum(np.arange(new), old - 1) for new, old in zip(expected, size, strict=True))

    assert np.array_equal(fitted, image[rows][:, columns])
    assert np.array_equal(placement.restore(fitted), image)


@pytest.mark.parametrize(
    ("size", "rules", "window"),
    [
        ((14, 12), FIXED, (slice(2, 12), slice(0, 12))),
        ((11, 15), FIXED, (slice(0, 10), slice(1, 13))),
        ((21, 8), FLEXIBLE, (slice(2, 18), slice(0, 8))),
        ((71, 70), FLEXIBLE, (slice(3, 67), slice(3, 67))),
    ],
)
def test_cropping_keeps_the_centre(size, rules, window):
    image = picture(*size)
    fitted, placement = fit_image(image, **rules, fit="crop")

    assert np.array_equal(fitted, image[window])
    assert placement.restore(fitted) is fitted


@pytest.mark.parametrize(
    ("size", "rules", "expected"),
    [
        ((30, 5), FIXED, (10, 12)),
        ((11, 20), FLEXIBLE, (8, 24)),
        ((12, 19), FLEXIBLE, (16, 16)),
        ((1, 67), FLEXIBLE, (8, 64)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_goes_to_the_nearest_size(size, rules, expected, channels):
    image = picture(*size, channels)
    fitted, placement = fit_image(image, **rules, fit="resize")
    planes = [Image.fromarray(image[..., channel]) for channel in range(channels)]
    lanczos = [np.asarray(plane.resize(expected[::-1], Image.Resampling.LANCZOS)) for plane in planes]

    assert np.array_equal(fitted, np.stack(lanczos, axis=-1))
    assert placement.restore(fitted) is fitted


@pytest.mark.parametrize(
    ("size", "rules", "fit", "message"),
    [
        ((7, 12), FIXED, "error", r"found 7 x 12, expected 10 x 12 pixels .* use fit=pad or fit=resize$"),
        ((14, 12), FIXED, "error", r"use fit=crop or fit=resize$"),
        ((14, 7), FIXED, "error", r"use fit=resize$"),
        ((14, 12), FIXED, "pad", r"which fit=pad does not bring about: use fit=crop or fit=resize$"),
        ((7, 12), FIXED, "crop", r"which fit=crop does not bring about: use fit=pad or fit=resize$"),
        ((9, 8), FLEXIBLE, "error", r"expected a multiple of 8 up to 64 x .* use fit=pad or fit=crop or fit=resize$"),
        ((7, 8), FLEXIBLE, "crop", r"use fit=pad or fit=resize$"),
        ((65, 8), FLEXIBLE, "pad", r"use fit=crop or fit=resize$"),
        ((80, 8), FLEXIBLE, "error", r"use another model, or send another size$"),
        ((80, 8), FLEXIBLE, "resize", r"use another model, or send another size$"),
        ((80, 8), {**FLEXIBLE, "multiple_of": 1}, "pad", r"expected up to 64 x up to 64 pixels"),
        ((0, 8), FLEXIBLE, "pad", r"found 0 x 8 pixels high and wide, expected at least one"),
    ],
)
def test_a_size_that_cannot_be_mended_is_refused_with_the_cure(size, rules, fit, message):
    with pytest.raises(MediaGeometryError, match=message):
        fit_image(picture(*size), **rules, fit=fit)


def test_one_side_may_be_fixed_alone():
    fitted, _ = fit_image(picture(10, 13), height=10, width=None, multiple_of=8, maximum=64, fit="pad")

    assert fitted.shape == (10, 16, 3)


@pytest.mark.parametrize(
    ("length", "rules"), [(5, {"length": 8, "multiple_of": 1}), (5, {"length": None, "multiple_of": 4})]
)
def test_a_sound_is_padded_with_silence_at_its_end(length, rules):
    samples = sound(length)
    fitted, placement = fit_audio(samples, **rules, maximum=100, fit="pad")

    assert fitted.tolist() == [*samples.tolist(), 0.0, 0.0, 0.0]
    assert fitted.dtype == np.float32
    assert np.array_equal(placement.restore(fitted), samples)


def test_a_sound_is_cropped_to_its_middle():
    samples = sound(11)

    assert np.array_equal(fit_audio(samples, length=8, multiple_of=1, maximum=9, fit="crop")[0], samples[1:9])
    assert np.array_equal(fit_audio(samples, length=None, multiple_of=4, maximum=9, fit="crop")[0], samples[1:9])


def test_a_sound_is_never_stretched():
    samples = sound(8)

    assert np.array_equal(fit_audio(samples, length=8, multiple_of=1, maximum=9, fit="resize")[0], samples)
    with pytest.raises(MediaGeometryError, match=r"found 8, expected 9 samples long, .* use fit=pad$"):
        fit_audio(samples, length=9, multiple_of=1, maximum=9, fit="resize")


@pytest.mark.parametrize("fit", ["pad", "error"])
def test_a_sound_that_is_too_long(fit):
    with pytest.raises(MediaGeometryError, match=r"found 101, expected a multiple of 4 up to 100 samples long"):
        fit_audio(sound(101), length=None, multiple_of=4, maximum=100, fit=fit)
