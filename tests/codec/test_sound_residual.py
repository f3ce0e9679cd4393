"""Sounds to the bit: against docs/format.md read number by number, and mathematics."""

from math import isqrt

import numpy as np
import pytest

from codec.errors import MalformedContainerError
from codec.logistic import distribution, interval
from codec.prediction import ORDER, Predictor, solved
from codec.range_coder import Decoder, Encoder
from codec.sound_residual import (
    MOST_RIDGE_BITS,
    SLOWEST,
    Parameters,
    Place,
    Spread,
    coding_sound,
    finished,
    read_sound,
    write_sound,
)

T = 1 << 24
L = 2**31 - 1


def tones(length: int, seed: int = 0, noise: float = 30.0) -> np.ndarray:
    """Make a sound of tones and noise."""
    random, time = np.random.default_rng(seed), np.arange(length)
    sound = 4000 * np.sin(time / 7) * np.sin(time / 900) + 1500 * np.sin(time / 2.3)
    return np.clip(np.rint(sound + random.normal(0, noise, length)), -32768, 32767).astype(np.int16)


def clip(x: int, least: int, most: int) -> int:
    return min(max(x, least), most)


def weights_of(sums: list[list[int]], products: list[int], ridge: int) -> list[int]:
    """Solve for w_0 .. w_31 as the format says, number by number."""
    order = list(reversed(range(32)))
    rows = [[sums[i][j] + ridge * (i == j) for j in order] + [products[i]] for i in order]
    digits = max(rows[n][n] for n in range(32)).bit_length()
    scaled = [
        [clip(a // 2 ** (digits - 30) if digits >= 30 else a * 2 ** (30 - digits), -L, L) for a in r] for r in rows
    ]
    for n in range(32):
        scaled[n][n] = max(scaled[n][n], 1)
        for i in range(n + 1, 32):
            factor = scaled[i][n]
            for j in range(n + 1, 33):
                scaled[i][j] = clip(scaled[i][j] - factor * scaled[n][j] // scaled[n][n], -L, L)
    found = [0] * 32
    for n in reversed(range(32)):
        rest = 2**16 * scaled[n][32] - sum(scaled[n][m] * found[m] for m in range(n + 1, 32))
        found[n] = clip(rest // scaled[n][n], -(2**19), 2**19)
    return found[::-1]


def naive(data: bytes, length: int) -> list[int]:
    """Read a sound as the format says, number by number."""
    k, w, ridge, decoder, sound = data[0] % 16, data[0] // 16, 2 ** data[1], Decoder(data[2:]), [0] * 32
    unit, n = 2**w, 2 ** (15 - w)
    weights, sums, products = [0] * 32, [[0] * 32 for _ in range(32)], [0] * 32
    a = b = 800 * 256 // unit

    def part(bits: int) -> int:
        size = T >> bits
        found = decoder.target() // size
        decoder.pop(found * size, size)
        return found

    for place in range(length):
        before = sound[:-33:-1]
        total = sum(u * y for u, y in zip(weights, before, strict=True))
        mean = clip((total + 2**11 * unit) // (2**12 * unit), -16 * n, 16 * n - 16)
        scale = sum(isqrt(isqrt(2**m)) <= (5 * a + b) // 2**11 for m in range(1, 72))
        h = -(-max(0, scale - 27) // 4)
        p, centre = mean // 16, 2040 + (mean % 16 + 8) // 2**h
        table = distribution(scale - 4 * h)
        starts = [0, *(table[16 * v - 8 - centre + 4096] for v in range(1, 256)), T]
        v = max(v for v in range(256) if starts[v] <= decoder.target())
        decoder.pop(starts[v], starts[v + 1] - starts[v])
        x = part(16 - w) - n if v in (0, 255) else p + (v - 128) * 2**h + (part(h) if h else 0)
        sound.append(x * unit)
        error = abs(16 * x - mean)
        a, b = a + (256 * error - a) // 8, b + (256 * error - b) // 128
        if place % 64 == 63:
            sums = [[r - r // 2**k for r in row] for row in sums]
            products = [r - r // 2**k for r in products]
            for at in range(len(sound) - 64, len(sound)):
                y = sound[at - 32 : at][::-1]
                sums = [[r + y[i] * y[j] for j, r in enumerate(row)] for i, row in enumerate(sums)]
                products = [r + y[i] * sound[at] for i, r in enumerate(products)]
            weights = weights_of(sums, products, ridge)
    return sound[32:]


def loud_after(quiet: int) -> np.ndarray:
    random = np.random.default_rng(6)
    return np.concatenate([random.integers(-1, 2, quiet), [32767], random.integers(-32768, 32768, 100)])


def between_silences() -> np.ndarray:
    noise = np.random.default_rng(7).integers(-32768, 32768, 200)
    return np.concatenate([np.zeros(200, int), noise, np.zeros(200, int)])


@pytest.mark.parametrize(
    ("sound", "parameters"),
    [
        (tones(150), Parameters(1, 0, 18)),
        (tones(150) >> 5 << 5, Parameters(2, 5, 9)),
        (tones(150) >> 5 << 5, Parameters(2, 3, 9)),
        (tones(150, noise=1.0) >> 15 << 15, Parameters(3, 15, 20)),
        (np.random.default_rng(1).integers(-32768, 32768, 150), Parameters(4, 0, 0)),
        (np.resize([32767, -32768], 200), Parameters(8, 0, 0)),
        (loud_after(63), Parameters(3, 0, 5)),
        (between_silences(), Parameters(8, 0, 0)),
    ],
)
def test_a_sound_is_what_the_format_reads(sound: np.ndarray, parameters: Parameters) -> None:
    data = finished(coding_sound(sound.astype(np.int64), parameters)).data
    assert naive(data, len(sound)) == sound.tolist()
    assert read_sound(data, len(sound)).tolist() == sound.tolist()


def test_the_writers_own_choice_is_read_likewise() -> None:
    sound = tones(150) >> 4 << 4
    assert naive(write_sound(sound).data, len(sound)) == sound.tolist()


def wild() -> list[np.ndarray]:
    random = np.random.default_rng(2)
    return [
        np.zeros(0),
        np.array([-32768]),
        np.zeros(400),
        np.full(100, 32767),
        np.tile([32767, -32768], 200),
        np.concatenate([np.zeros(333), [32767], np.zeros(50), [-32768] * 40]),
        random.integers(-32768, 32768, 500),
        random.integers(-2, 3, 500),
        np.where(random.random(500) < 0.02, 30000, 0),
        random.integers(-1, 1, 300) << 15,
    ]


@pytest.mark.parametrize("sound", wild(), ids=range(len(wild())))
def test_every_sound_comes_back(sound: np.ndarray) -> None:
    samples = sound.astype(np.int16)
    found = read_sound(write_sound(samples).data, len(samples))
    assert found.dtype == np.int16
    assert np.array_equal(found, samples)


def test_a_payload_is_as_long_as_its_probability() -> None:
    sound = tones(2500)
    residual = write_sound(sound)
    assert 8 <= 8 * len(residual.data) - residual.bits <= 32
    # Noise of 30 around what is known takes log2(30 sqrt(2 pi e)) bits a sample, and nobody can take less.
    entropy = np.log2(30 * np.sqrt(2 * np.pi * np.e)) * len(sound)
    assert entropy < residual.bits < 1.12 * entropy


def test_weights_forget_as_fast_as_pays() -> None:
    """Noise through one filter is best predicted by all of it, tones that swell by what was last."""
    random, sound = np.random.default_rng(5), [0.0, 0.0]
    for _ in range(2500):
        sound.append(1.6 * sound[-1] - 0.8 * sound[-2] + random.normal(0, 100))
    assert write_sound(np.rint(sound).astype(np.int16)).data[0] == 4
    assert write_sound(tones(2500)).data[0] == 1


def test_the_weights_solve_the_equations() -> None:
    sound = tones(3000).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(sound, ORDER + 1)
    sums = windows[:, :ORDER].T @ windows
    exact = np.linalg.solve(sums[:, :ORDER] + 1000 * np.eye(ORDER), sums[:, ORDER])
    found = solved(sums, 1000) / 2**16
    errors = [sound[ORDER:] - windows[:, :ORDER] @ weights for weights in (exact, found)]
    assert np.mean(np.square(errors[1])) == pytest.approx(np.mean(np.square(errors[0])), rel=1e-3)


@pytest.mark.parametrize("forgetting", [1, SLOWEST])
def test_the_largest_sums_stay_within_64_bits(forgetting: int) -> None:
    """Where numbers wrapped, the same in Python's integers would differ."""
    block = np.resize([32767, -32768, -32768], 96).astype(np.int64)
    predictor = Predictor(forgetting, 1)
    sums = [[0] * 33 for _ in range(32)]
    for _ in range(40):
        predictor.learn(block)
        windows = [block[at : at + 33].tolist() for at in range(64)]
        kept = [[s - s // 2**forgetting for s in row] for row in sums]
        sums = [[s + sum(w[i] * w[j] for w in windows) for j, s in enumerate(row)] for i, row in enumerate(kept)]
    backwards = [[sums[31 - i][31 - j] for j in range(32)] for i in range(32)]
    assert predictor.weights[::-1].tolist() == weights_of(backwards, [sums[31 - i][32] for i in range(32)], 1)


def test_a_sound_that_begins_loud_after_silence_has_weights() -> None:
    """The sums of the oldest samples round to nothing beside those of the newest."""
    block = np.zeros(96, dtype=np.int64)
    block[-2:] = 32767, -32768
    predictor = Predictor(3, 1)
    with np.errstate(all="raise"):
        predictor.learn(block)
    windows = np.lib.stride_tricks.sliding_window_view(block, 33)[:, ::-1].tolist()
    sums = [[sum(w[i] * w[j] for w in windows) for j in range(33)] for i in range(33)]
    expected = weights_of([row[1:] for row in sums[1:]], sums[0][1:], 1)
    assert predictor.weights[::-1].tolist() == expected


def test_any_bytes_are_refused_or_are_those_of_their_sound() -> None:
    random, refused = np.random.default_rng(3), 0
    for length in (0, 1, 50, 300):
        for speed in (3, 5):
            data = bytes([speed, 10]) + random.bytes(length)
            try:
                sound = read_sound(data, 90)
            except MalformedContainerError:
                refused += 1
            else:
                assert naive(data, 90) == sound.tolist()
    assert refused > 0
    for data in (b"", b"\3", b"\0\0", b"\x30\0", bytes([SLOWEST + 1, 0]), bytes([3, MOST_RIDGE_BITS + 1])):
        with pytest.raises(MalformedContainerError, match="speed"):
            read_sound(data, 4)


def test_bytes_that_follow_are_refused() -> None:
    data = write_sound(tones(100)).data
    for more in (b"\0", b"\1"):
        with pytest.raises(MalformedContainerError, match="coded bytes"):
            read_sound(data + more, 100)


@pytest.mark.parametrize(
    ("parameters", "bucket", "rest", "said"),
    [
        (Parameters(1, 0, 0), 255, (32768, 16), "in bucket 255, expected 128"),
        (Parameters(1, 0, 0), 0, (32768, 16), "in bucket 0, expected 128"),
        (Parameters(1, 15, 0), 129, (0, 0), "is 32768, expected -32768 to 32767"),
    ],
)
def test_a_sample_in_another_place_than_its_own_is_refused(
    parameters: Parameters, bucket: int, rest: tuple[int, int], said: str
) -> None:
    place, encoder = Place.of(0, Spread(parameters.unused).scale), Encoder()
    encoder.push(*interval(bucket, place.mean, place.scale))
    value, bits = rest
    if bits:
        encoder.push(value << 24 - bits, 1 << 24 - bits)
    with pytest.raises(MalformedContainerError, match=said):
        read_sound(parameters.write() + encoder.finish(), 1)


def test_bits_that_are_not_used_take_nothing() -> None:
    coarse = tones(1500, noise=2.0) >> 8
    assert write_sound(coarse << 8).bits <= write_sound(coarse).bits


def test_it_is_smaller_than_what_a_fixed_prediction_leaves() -> None:
    """The second difference, the usual fixed predictor, under the best Laplace distribution for the whole sound."""
    sound = tones(1500)
    left = np.diff(sound.astype(float), 2)
    bits = np.log2(2 * np.e * np.abs(left).mean()) * len(left)
    assert write_sound(sound).bits < 0.8 * bits
    assert write_sound(np.zeros(2000, np.int16)).bits < 0.6 * 2000
