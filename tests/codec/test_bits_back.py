"""Bits-back coding under a model whose p(x) is known: what goes in comes out, at the price of the ELBO."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logsumexp
from scipy.stats import norm

from codec import contexts
from codec.ans import Stack
from codec.archive import count_pictures, read_archive, write_archive
from codec.bits_back import Steps, net_bits, pack, push, unpack
from codec.coded import Chunk, Coded, read_coded, write_coded
from codec.errors import CodecError, ContainerLimitError, MalformedContainerError
from codec.replay import Recorded

HASHES = {"model_hash": "ab" * 32, "canonical_hash": "cd" * 32}
SHAPE = (4, 6)


class Toy:
    """Two levels of two latents: z tilts the logits of all pixels, the second level's mean follows the first."""

    sizes, shape = (2, 2), SHAPE
    contexts = np.full(contexts.CONTEXTS, -300, dtype=np.int32)
    ramp = np.linspace(-1.0, 1.0, 24)

    def encode(self, pictures: np.ndarray) -> Steps[list[np.ndarray]]:
        yield from ()
        return [pictures.reshape(len(pictures), -1).astype(np.int64).sum(1) - 12]

    def infer(self, z: np.ndarray, seen: list[np.ndarray]) -> Steps[tuple[np.ndarray, np.ndarray]]:
        yield from ()
        top = np.stack([60 * seen[0], -10 * seen[0]], axis=1)
        below = np.stack([20 * z[:, 0], np.zeros_like(z[:, 0])], axis=1)
        return np.concatenate([top, below], axis=1), np.broadcast_to([76, 78, 74, 80], z.shape)

    def decode(self, z: np.ndarray) -> Steps[np.ndarray]:
        yield from ()
        tilt = z[:, :1] * 12 + z[:, 1:2] * np.round(16 * self.ramp).astype(np.int64) + 4 * z[:, 2:3]
        return tilt.astype(np.int32)

    def elbo_bits(self, picture: np.ndarray, draws: np.ndarray) -> float:
        """Give -log2 of the mean weight by mathematics alone: normals are real, logits in floating point."""
        moments = done(self.infer(draws, [np.full(len(draws), int(picture.sum()) - 12)]))
        mean, sigma = moments[0] / 1024, np.exp((moments[1] - 80) / 16)
        z = draws / 16
        log_q = np.log(norm.cdf((z + 1 / 32 - mean) / sigma) - norm.cdf((z - 1 / 32 - mean) / sigma)).sum(1)
        log_p = np.log(norm.cdf(z + 1 / 32) - norm.cdf(z - 1 / 32)).sum(1)
        logits = done(self.decode(draws)) / 256
        log_x = np.log(expit(np.where(picture.ravel() == 1, logits, -logits))).sum(1)
        return float(-(log_x + log_p - log_q).mean() / np.log(2))


def done(steps: Generator[Any, Any, Any]) -> Any:
    """Run steps of networks that never wait."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("a toy does not wait")


def pictures(count: int) -> np.ndarray:
    random = np.random.default_rng(7)
    return (random.random((count, *SHAPE)) < random.random((count, 1, 1))).astype(np.uint8)


TOY, PICTURES = Toy(), pictures(150)
PACKED = done(pack(PICTURES, TOY))
ARCHIVE = write_archive(PACKED, PICTURES, extent=SHAPE, **HASHES)


def test_what_goes_in_comes_out() -> None:
    found = done(unpack(PACKED.payload, len(PICTURES), PACKED.direct, TOY))
    np.testing.assert_array_equal(found, PICTURES)


def test_the_length_is_that_of_the_weights() -> None:
    net = sum(cost.net_bits for cost in PACKED.costs)
    assert 0 < PACKED.direct < 5
    assert -8 < 8 * len(PACKED.payload) - net < 24 + 8 + 0.002 * net


def test_the_price_is_the_elbo() -> None:
    picture, random = PICTURES[0], np.random.default_rng(3)
    seen = done(TOY.encode(picture[None]))
    paid = []
    for _ in range(200):
        stack = Stack.from_bytes(random.bytes(63) + b"\x01")
        paid.append(done(push(stack, picture, seen, TOY)).net_bits)

    noise = random.standard_normal((2000, 4))
    drawn = done(net_bits(np.repeat(picture[None], 2000, axis=0), TOY, noise))
    error = np.sqrt(np.var(paid) / len(paid) + drawn.var() / len(drawn))
    assert abs(np.mean(paid) - drawn.mean()) < 4 * error
    assert error < 0.05 * drawn.mean()


def test_weights_are_those_of_mathematics() -> None:
    noise = np.random.default_rng(5).standard_normal((50, 4))
    z = np.zeros((50, 4), dtype=np.int64)
    for level in (slice(0, 2), slice(2, 4)):
        mean, scale = done(TOY.infer(z, [np.full(50, int(PICTURES[3].sum()) - 12)]))
        z[:, level] = np.floor((mean / 64 + 16 * np.exp((scale - 80) / 16) * noise + 0.5)[:, level])
    drawn = done(net_bits(np.repeat(PICTURES[3:4], 50, axis=0), TOY, noise))
    np.testing.assert_allclose(drawn.mean(), TOY.elbo_bits(PICTURES[3], z), rtol=1e-3)


def test_an_archive_of_one_picture_is_coded_directly() -> None:
    packed = done(pack(PICTURES[:1], TOY))
    assert packed.direct == 1
    np.testing.assert_array_equal(done(unpack(packed.payload, 1, 1, TOY)), PICTURES[:1])


def test_black_pictures_take_no_bits_and_no_time() -> None:
    black = np.zeros((50, *SHAPE), dtype=np.uint8)
    packed = done(pack(black, TOY))
    assert packed.payload == b""
    assert packed.direct == 50
    np.testing.assert_array_equal(done(unpack(b"", 50, 50, TOY)), black)


def test_what_ends_too_early_is_refused_at_once() -> None:
    with pytest.raises(MalformedContainerError, match="end after 0 of 1000000 pictures"):
        done(unpack(b"\x01" * 7, 1_000_000, 0, TOY))


def test_contexts_are_the_pixels_before() -> None:
    picture = PICTURES[5]
    logits = np.random.default_rng(0).integers(-900, 900, contexts.CONTEXTS).astype(np.int32)
    stack = Stack()
    starts, sizes = contexts.intervals(picture, logits)
    stack.push_all(starts.tolist(), sizes.tolist())
    np.testing.assert_array_equal(contexts.pop(stack, SHAPE, logits), picture)
    assert stack.bits == 0


def test_an_archive_is_read_again_by_what_was_recorded() -> None:
    recorded = Recorded(TOY)
    packed = done(pack(PICTURES[:20], recorded))
    assert packed == done(pack(PICTURES[:20], TOY))
    archive = write_archive(packed, PICTURES[:20], extent=SHAPE, **HASHES)
    np.testing.assert_array_equal(done(read_archive(archive, recorded.replay(), 20)), PICTURES[:20])
    other = replace(archive, chunks=(Chunk(0, archive.chunks[0].payload[:-1] + b"\x01"),))
    with pytest.raises(CodecError):
        done(read_archive(other, recorded.replay(), 20))


def test_the_container_holds_the_pictures() -> None:
    data = write_coded(ARCHIVE)
    assert len(data) - len(PACKED.payload) <= 32
    coded = read_coded(data)
    assert count_pictures(coded) == len(PICTURES)
    np.testing.assert_array_equal(done(read_archive(coded, TOY, len(PICTURES))), PICTURES)


def test_damaged_archives_are_refused() -> None:
    random = np.random.default_rng(1)
    few = PICTURES[:6]
    chunk = write_archive(done(pack(few, TOY)), few, extent=SHAPE, **HASHES).chunks[0]
    for _ in range(60):
        payload = bytearray(chunk.payload)
        if random.random() < 0.5:
            payload[random.integers(len(payload))] ^= 1 << int(random.integers(8))
        else:
            del payload[random.integers(len(payload)) :]
        damaged = replace(ARCHIVE, chunks=(Chunk(chunk.content_crc, bytes(payload)),))
        with pytest.raises(CodecError):
            done(read_archive(damaged, TOY, 1000))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"extent": (5, 6)}, ContainerLimitError),
        ({"extent": (24,)}, MalformedContainerError),
        ({"conditions": 1}, MalformedContainerError),
        ({"codebooks": 1}, MalformedContainerError),
        ({"chunks": (Chunk(0, b"\xff\xff\xff\xff\x07\x00"),)}, ContainerLimitError),
        ({"chunks": (Chunk(0, b"\x02\x03\x01"),)}, MalformedContainerError),
        ({"chunks": (Chunk(0, b""),)}, MalformedContainerError),
    ],
)
def test_what_does_not_fit_is_refused_at_once(changes: dict[str, Any], error: type[CodecError]) -> None:
    coded: Coded = replace(ARCHIVE, **changes)
    with pytest.raises(error):
        done(read_archive(coded, TOY, 1000))


def test_more_draws_are_nearer_to_the_probability() -> None:
    """The importance-weighted bound of many draws is log p(x) by a sum over a grid of all latents that matter."""
    picture = PICTURES[9]
    noise = np.random.default_rng(2).standard_normal((4_000, 4))
    bits = done(net_bits(np.repeat(picture[None], len(noise), axis=0), TOY, noise))
    iwae_bits = np.log2(len(bits)) - np.logaddexp2.reduce(-bits)

    axis = np.arange(-64, 65, 4)
    z = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    log_p = norm.logpdf(z / 16).sum(1) + 3 * np.log(4 / 16)
    logits = np.concatenate([done(TOY.decode(part)) for part in np.array_split(z, 4)]) / 256
    log_x = -np.logaddexp(0, np.where(picture.ravel() == 1, -logits, logits)).sum(1)
    exact_bits = -logsumexp(log_p + log_x) / np.log(2)
    assert abs(iwae_bits - exact_bits) < 0.1
    assert bits.mean() > iwae_bits
