"""Bits-back coding: many pictures as one stack, each at the cost of its ELBO (Townsend, Bird & Barber 2019).

A picture x is coded with latents z that come off the stack itself, by popping them under q(z given x), so that they are
paid back when the decoder, which has x by then, pushes them again:

    encoder   pop z under q(z | x)    push x under p(x | z)    push z under p(z)
    decoder   push z under q(z | x)   pop x under p(x | z)     pop z under p(z)      (from right to left)

What it costs is -log2 p(x | z) - log2 p(z) + log2 q(z | x), whose mean over z is the negative ELBO. Where z has levels,
q of each is given those before it. The first pictures, coded directly (`codec.contexts`), fill the stack that the first
latents are popped from.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64, UInt8

from codec import contexts, normal
from codec.ans import Stack
from codec.errors import MalformedContainerError
from codec.probabilities import PRECISION, surprise_bits

Pictures = UInt8[np.ndarray, "N H W"]
"""Of 0 and 1."""
Picture = UInt8[np.ndarray, "H W"]
Latents = Int64[np.ndarray, "N D"]
"""Integers j, the levels side by side, top first."""
Seen = Sequence[np.ndarray]
"""What posteriors see of pictures, a row a picture in each array."""

T = TypeVar("T")
Steps = Generator[Any, Any, T]
"""What goes on whenever a network has run, so that whoever runs networks can do something else between two runs: it
yields what the model yields, is sent what that needs, and returns what all is for."""

_MARGIN_BITS = 64
"""What is left on the stack when the first latents have left it: on a short state, a push would cost too much."""
_BLOCK = 64
"""Pictures whose posteriors are prepared at once, which bounds the memory."""


@runtime_checkable
class LatentModel(Protocol):
    """Exact networks: integers in, integers out, the same on every machine and in any batch.

    Attributes:
        sizes: how many latents each level has, top first.
        shape: H, W of a picture.
        contexts: logits of white by context, for pictures that are coded directly; see `codec.contexts`.
    """

    sizes: tuple[int, ...]
    shape: tuple[int, int]
    contexts: Int32[np.ndarray, " contexts"]

    def encode(self, pictures: Pictures) -> Steps[Seen]:
        """Give what the posteriors see."""

    def infer(self, z: Latents, seen: Seen) -> Steps[tuple[Int64[np.ndarray, "N D"], Int64[np.ndarray, "N D"]]]:
        """Give the means and scales of q(z given x), see `codec.normal`; a level's depend on the z before it alone."""

    def decode(self, z: Latents) -> Steps[Int32[np.ndarray, "N P"]]:
        """Give the logit of white of every pixel in reading order, in units of 1/256 nats."""


@dataclass(frozen=True)
class Cost:
    """What a picture costs, in bits.

    Attributes:
        likelihood_bits: -log2 p(x given z), or of x itself where it is coded directly.
        prior_bits: -log2 p(z).
        posterior_bits: -log2 q(z given x), which come back.
    """

    likelihood_bits: float
    prior_bits: float = 0.0
    posterior_bits: float = 0.0

    @property
    def net_bits(self) -> float:
        """The cost in all; of bits-back coding, minus the ELBO by the latents that were drawn."""
        return self.likelihood_bits + self.prior_bits - self.posterior_bits


@dataclass(frozen=True)
class Packed:
    """Pictures on a stack.

    Attributes:
        payload: the stack's bytes.
        direct: how many of the pictures, the last ones, are coded directly.
        costs: of each picture, in their order.
    """

    payload: bytes
    direct: int
    costs: tuple[Cost, ...]


def pack(pictures: Pictures, model: LatentModel) -> Steps[Packed]:
    """Put pictures on a stack, the last one first, so that the first comes off first.

    Args:
        pictures: 0 and 1.
        model: that they are coded under.

    Returns:
        The stack.
    """
    stack, direct = Stack(), 0
    costs: list[Cost] = []
    needed = normal.prior_entropy_bits() * sum(model.sizes) + _MARGIN_BITS
    for start in reversed(range(0, len(pictures), _BLOCK)):
        block = pictures[start : start + _BLOCK]
        seen = yield from model.encode(block)
        for row in reversed(range(len(block))):
            if direct == len(costs) and stack.bits < needed:
                costs.append(_push_directly(stack, block[row], model))
                direct += 1
            else:
                costs.append((yield from push(stack, block[row], [part[row : row + 1] for part in seen], model)))
    return Packed(stack.to_bytes(), direct, tuple(reversed(costs)))


def unpack(payload: bytes, count: int, direct: int, model: LatentModel) -> Steps[Pictures]:
    """Take pictures off a stack, the first one first.

    Args:
        payload: as `pack` gave it.
        count: how many there are.
        direct: how many of them, the last ones, are coded directly.
        model: that they are coded under.

    Returns:
        0 and 1.

    Raises:
        MalformedContainerError: the payload is not what `pack` writes.
    """
    stack = Stack.from_bytes(payload)
    pictures = np.zeros((count, *model.shape), dtype=np.uint8)
    for index in range(count - direct):
        if stack.bits < _MARGIN_BITS:
            raise MalformedContainerError(
                f"the coded bits end after {index} of {count} pictures: the archive is damaged or of another model, "
                "send it as it was written"
            )
        pictures[index] = yield from pop(stack, model)
    for index in range(count - direct, count):
        if not stack.bits:
            break  # an empty stack has black pictures alone
        pictures[index] = contexts.pop(stack, model.shape, model.contexts)
    if stack.bits:
        raise MalformedContainerError(
            f"{stack.bits} coded bits are left after {count} pictures, expected none: the archive is damaged or of "
            "another model, send it as it was written"
        )
    return pictures


def push(stack: Stack, picture: Picture, seen: Sequence[np.ndarray], model: LatentModel) -> Steps[Cost]:
    """Put a picture on a stack, with latents that the stack gives.

    Args:
        stack: to put on.
        picture: 0 and 1.
        seen: what the posteriors see of it, one row.
        model: that it is coded under.

    Returns:
        What it costs.
    """
    z = np.zeros((1, sum(model.sizes)), dtype=np.int64)
    posterior_bits = 0.0
    for level in _levels(model):
        moments = yield from model.infer(z, seen)
        means, scales = (part[0, level] for part in moments)
        z[0, level] = normal.pop(stack, means, scales)
        posterior_bits += surprise_bits(normal.intervals(z[0, level], means, scales)[1])
    logits = yield from model.decode(z)
    pixels, prior = contexts.bernoulli(picture.ravel(), logits[0]), normal.prior_intervals(z[0])
    for starts, sizes in (pixels, prior):
        stack.push_all(starts.tolist(), sizes.tolist())
    return Cost(surprise_bits(pixels[1]), surprise_bits(prior[1]), posterior_bits)


def pop(stack: Stack, model: LatentModel) -> Steps[Picture]:
    """Take a picture off a stack, and give it back the latents.

    Args:
        stack: to take from.
        model: that it was coded under.

    Returns:
        0 and 1.
    """
    z = np.array([normal.pop_prior(stack, sum(model.sizes))], dtype=np.int64)
    logits = yield from model.decode(z)
    bits = stack.pop_all(contexts.bernoulli_tables(logits[0]))
    picture = np.array(bits, dtype=np.uint8).reshape(model.shape)
    seen = yield from model.encode(picture[None])
    means, scales = yield from model.infer(z, seen)
    starts, sizes = normal.intervals(z[0], means[0], scales[0])
    stack.push_all(starts.tolist(), sizes.tolist())
    return picture


def net_bits(
    pictures: Pictures, model: LatentModel, noise: Float[np.ndarray, "N D"]
) -> Steps[Float64[np.ndarray, " N"]]:
    """Tell what pictures would cost with latents drawn by noise instead of from a stack.

    The mean over the noise is minus the ELBO, and -log2 of the mean of 2^-bits, of several draws of a picture,
    that much nearer to -log2 p(x) (Burda, Grosse & Salakhutdinov 2016, eq. 8).

    Args:
        pictures: 0 and 1.
        model: that they are coded under.
        noise: standard normal.

    Returns:
        Bits of each picture.
    """
    seen = yield from model.encode(pictures)
    z = np.zeros(noise.shape, dtype=np.int64)
    bits = np.zeros(len(pictures))
    for level in _levels(model):
        moments = yield from model.infer(z, seen)
        means, scales = (part[:, level] for part in moments)
        z[:, level] = normal.nearest(means, scales, noise[:, level])
        bits -= _sums(normal.intervals(z[:, level], means, scales)[1])
    logits = yield from model.decode(z)
    pixels = contexts.bernoulli(pictures.reshape(len(pictures), -1), logits)
    return bits + _sums(pixels[1]) + _sums(normal.prior_intervals(z)[1])


def _push_directly(stack: Stack, picture: Picture, model: LatentModel) -> Cost:
    """Put a picture on a stack without latents."""
    starts, sizes = contexts.intervals(picture, model.contexts)
    stack.push_all(starts.tolist(), sizes.tolist())
    return Cost(surprise_bits(sizes))


def _sums(sizes: Int64[np.ndarray, "N K"]) -> Float64[np.ndarray, " N"]:
    """Sum -log2 f / T over each row."""
    return (PRECISION - np.log2(sizes.astype(np.float64))).sum(axis=1)


def _levels(model: LatentModel) -> Iterator[slice]:
    """Give the places of each level's latents, of those that have some."""
    for size, end in zip(model.sizes, accumulate(model.sizes), strict=True):
        if size:
            yield slice(end - size, end)
