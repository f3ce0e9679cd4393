"""Pictures around a decoder's means, to the bit: against docs/format.md read pixel by pixel, and mathematics."""

import hashlib
from math import isqrt

import numpy as np
import pytest
from scipy.special import expit

from codec import logistic, residual_payload
from codec.errors import MalformedContainerError
from codec.logistic import MEAN_LIMIT, MEAN_STEPS, SCALES, distribution, intervals
from codec.probabilities import TOTAL
from codec.range_coder import Decoder, Encoder
from codec.residual import CONTEXTS, Parameters, Planes, contexts, decode, diagonals, encode, order_of, weights_of
from codec.residual_fit import bits_under, fit
from codec.residual_payload import USUAL, read_residual, write_residual

DIGEST = "09a857df2d151f36cf8e112342177a8d92e06b25c3945373cf3214effcfd8b4e"
"""Of the tables of all scales, as docs/format.md has it."""


def made(shape: tuple[int, int, int], seed: int = 0, noise: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Make a smooth picture with some noise, and means that lie near it."""
    random = np.random.default_rng(seed)
    height, width, channels = shape
    y, x = np.mgrid[:height, :width]
    smooth = 128 + 90 * np.sin(x / 7 + y / 5)[..., None] + 20 * np.arange(channels)
    picture = np.clip(np.rint(smooth + random.normal(0, noise, shape)), 0, 255).astype(np.uint8)
    means = np.clip(np.rint(MEAN_STEPS * (smooth + random.normal(0, 2, shape))), 0, MEAN_LIMIT).astype(np.int32)
    return picture, means


def test_the_tables_are_those_of_the_format() -> None:
    tables = np.array([distribution(scale) for scale in range(SCALES)], dtype="<i4")
    assert hashlib.sha256(tables.tobytes()).hexdigest() == DIGEST


@pytest.mark.parametrize("scale", [0, 17, SCALES - 1])
def test_a_table_is_the_logistic_function(scale: int) -> None:
    steps = np.arange(-4096, 4097)
    found = np.array(distribution(scale)) / TOTAL
    assert np.abs(found - expit(steps / 2 ** (scale / 4))).max() < 1024 / TOTAL
    assert (found[MEAN_STEPS:] > found[:-MEAN_STEPS]).all()


def test_the_values_share_all_there_is() -> None:
    random = np.random.default_rng(0)
    for mean, scale in zip(random.integers(0, MEAN_LIMIT + 1, 20), random.integers(0, SCALES, 20), strict=True):
        starts, sizes = intervals(np.arange(256), np.full(256, mean), np.full(256, scale))
        assert starts[0] == 0
        assert (sizes > 0).all()
        assert np.array_equal(starts[1:], starts[:-1] + sizes[:-1])
        assert starts[-1] + sizes[-1] == TOTAL


def test_values_are_read_as_they_were_written() -> None:
    random = np.random.default_rng(1)
    values = np.concatenate([random.integers(0, 256, 300), np.zeros(20, int), np.full(20, 255)])
    means = random.integers(0, MEAN_LIMIT + 1, len(values))
    means[:4] = 0, MEAN_LIMIT, 0, MEAN_LIMIT
    scales = random.integers(0, SCALES, len(values))
    encoder = Encoder()
    for start, size in zip(*(part.tolist() for part in intervals(values, means, scales)), strict=True):
        encoder.push(start, size)
    assert logistic.pop(Decoder(encoder.finish()), means, scales) == values.tolist()


def naive(picture: np.ndarray, means: np.ndarray, parameters: Parameters) -> list[tuple[int, int, int]]:
    """Give (corrected mean, context, value) of all values in the order of coding, pixel by pixel."""
    height, width, channels = picture.shape
    box = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    own = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)]
    sizes: dict[tuple[int, int, int], int] = {}

    def apart(array: np.ndarray, y: int, x: int, channel: int, mean: int, unit: int) -> int:
        inside = 0 <= y < height and 0 <= x < width
        return unit * int(array[y, x, channel]) - mean if inside else 0

    found = []
    for plane, channel in enumerate(order_of(channels)):
        weights, before = parameters.weights[plane], order_of(channels)[:plane]
        for y, x in sorted(np.ndindex(height, width), key=lambda place: (place[1] + 2 * place[0], place[0])):
            mean, value = int(means[y, x, channel]), int(picture[y, x, channel])
            seen = [apart(picture, y + i, x + j, channel, mean, 16) for i, j in own]
            seen += [apart(means, y + i, x + j, channel, mean, 1) for i, j in box if (i, j) != (0, 0)]
            for other in before:
                seen += [apart(picture, y + i, x + j, other, int(means[y, x, other]), 16) for i, j in box]
            around = sum(
                s * sizes.get((plane, y + i, x + j), 0) for s, (i, j) in zip((4, 4, 2, 2, 2, 2), own, strict=True)
            )
            for earlier in range(plane):
                near = [(0, 0)] * 4 + [(-1, 0), (0, -1), (0, 1), (1, 0)]
                around += sum(sizes.get((earlier, y + i, x + j), 0) for i, j in near)
            moved = mean + (sum(w * d for w, d in zip(weights, seen, strict=True)) + 128) // 256
            moved = min(max(moved, 0), 4080)
            sizes[plane, y, x] = abs(16 * value - moved)
            found.append((moved, sum(isqrt(2**k) <= around for k in range(7, 38)), value))
    return found


def test_values_are_predicted_as_the_format_says() -> None:
    picture, means = made((5, 6, 3))
    random = np.random.default_rng(2)
    weights = tuple(tuple(random.integers(-400, 400, weights_of(plane)).tolist()) for plane in range(3))
    parameters = Parameters(weights, USUAL.scales)
    planes, found = Planes(5, 6), []
    order = np.concatenate(list(diagonals(5, 6)))
    for plane, channel in enumerate(order_of(3)):
        values = picture[..., channel].astype(np.int64)
        seen = planes.predict(values, means[..., channel].astype(np.int64), weights[plane])
        columns = (array.ravel()[order].tolist() for array in (seen.means, seen.contexts, values))
        found += list(zip(*columns, strict=True))
    assert found == naive(picture, means, parameters)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (8, 1, 3), (2, 2, 3), (13, 17, 3), (21, 16, 1)])
def test_every_picture_comes_back(shape: tuple[int, int, int]) -> None:
    picture, means = made(shape)
    others = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    for one in (picture, others, np.zeros_like(picture), np.full_like(picture, 255)):
        assert np.array_equal(read_residual(write_residual(one, means).data, means), one)


def test_a_payload_is_as_long_as_its_probability() -> None:
    picture, means = made((64, 80, 3))
    parameters, bits = fit(picture, means)
    assert bits == pytest.approx(bits_under(picture, means, parameters))
    assert 0 <= 8 * len(encode(picture, means, parameters)) - bits <= 16
    # noise of 6 around what is known takes log2(6 sqrt(2 pi e)) bits a value, and nobody can take less
    entropy = np.log2(6 * np.sqrt(2 * np.pi * np.e)) * picture.size
    assert bits == pytest.approx(entropy, rel=0.06)


def test_a_picture_has_parameters_of_its_own_where_they_pay() -> None:
    picture, means = made((64, 80, 3), noise=1.0)
    own = write_residual(picture, means)
    assert own.data[0] == 1
    assert write_residual(picture[:4, :4], means[:4, :4]).data[0] == 0
    assert 8 * len(own.data) < bits_under(picture, means, USUAL)


def test_any_bytes_are_refused_or_are_those_of_their_picture() -> None:
    _, means = made((6, 7, 3))
    random = np.random.default_rng(4)
    wild = Parameters(
        tuple(tuple(random.integers(-400, 400, weights_of(plane)).tolist()) for plane in range(3)),
        tuple(tuple(random.integers(0, SCALES, CONTEXTS).tolist()) for _ in range(3)),
    )
    refused = 0
    for length in (0, 1, 50, 500):
        data = random.bytes(length)
        try:
            assert encode(decode(data, means, wild), means, wild) == data
        except MalformedContainerError:
            refused += 1
    assert refused > 0
    picture = random.integers(0, 256, means.shape, dtype=np.uint8)
    assert np.array_equal(decode(encode(picture, means, wild), means, wild), picture)


def test_parameters_survive_and_damage_is_told() -> None:
    parameters, rest = Parameters.read(USUAL.write() + b"rest", 3)
    assert (parameters, rest) == (USUAL, b"rest")
    with pytest.raises(MalformedContainerError, match="plane 2"):
        Parameters.read(USUAL.write()[:-1], 3)
    with pytest.raises(MalformedContainerError, match="scales below 48"):
        Parameters.read(USUAL.write()[:-1] + bytes([SCALES]), 3)
    _, means = made((2, 2, 3))
    for data in (b"", b"\2", b"\1"):
        with pytest.raises(MalformedContainerError):
            residual_payload.read_residual(data, means)


def test_contexts_rise_with_the_errors() -> None:
    found = contexts(np.array([0, 10, 11, 12, 2**18, 2**19]))
    assert found.tolist() == [0, 0, 1, 1, CONTEXTS - 2, CONTEXTS - 1]
