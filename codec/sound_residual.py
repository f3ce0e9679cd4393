"""A sound of 16 bits, sample by sample under what those before say of the next, in integers alone.

Each sample is coded under a logistic distribution around its linear prediction (`codec.prediction`), whose scale goes
by how far off the predictions before it were. Wide distributions are coded in two parts: a bucket of 2^h values, and
which of these it is. Low bits that no sample has are left out. Whoever writes or reads may pause after each block.
docs/format.md has every step.
"""

import math
from bisect import bisect_right
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int16, Int64

from codec import logistic
from codec.errors import MalformedContainerError
from codec.logistic import MEAN_STEPS, VALUES
from codec.prediction import BLOCK, ORDER, WEIGHT_BITS, Predictor
from codec.probabilities import PRECISION, TOTAL
from codec.range_coder import Decoder, Encoder
from codec.residual_payload import Residual

SCALES = 72
"""s(j) = 2^(j / 4) units of a mean, for j = 0 .. 71."""
SLOWEST = 8
"""Largest k of `codec.prediction.Predictor`."""
MOST_RIDGE_BITS = 20

_TRIED, _TRIED_ON = (1, 2, 4), 1 << 15
"""Speeds of forgetting that are tried, on so many samples of the beginning."""
_RIDGE_BELOW = 6
"""A ridge of 1/64 to 1/32 of the mean square takes the fewest bits, of speech."""
_PARAMETER_BYTES = 2
_SAMPLE_BITS = 16
_STEP_BITS = MEAN_STEPS.bit_length() - 1
_HALF = MEAN_STEPS // 2
_MIDDLE = VALUES // 2
_FINEST, _PER_OCTAVE = 27, 4
_SHIFTS = tuple(max(0, scale - _FINEST + _PER_OCTAVE - 1) // _PER_OCTAVE for scale in range(SCALES))
"""h of each scale: in units of a bucket it is at most `_FINEST`."""
_BORDERS = tuple(isqrt(isqrt(1 << k)) for k in range(1, SCALES))
_FIRST_SIZE, _SIZE_BITS = 800, 8
_FAST, _SLOW = 3, 7
"""The mean sizes of late forget 1/8 and 1/128 at each sample."""
_SHARE_BITS = 3
"""A scale goes by 5/8 of the one and 1/8 of the other."""

T = TypeVar("T")
Samples = Int16[np.ndarray, " T"]
Values = Int64[np.ndarray, " T"]
Pauses = Generator[None, object, T]
"""Work that may be interrupted wherever it yields."""
Part = tuple[int, int]
"""Of 0 .. T - 1: where it starts, and its size."""


def write_sound(samples: Samples) -> Residual:
    """Write a sound, without a pause; see `writing_sound`."""
    return finished(writing_sound(samples))


def read_sound(data: bytes, length: int) -> Samples:
    """Read what `write_sound` wrote, without a pause; see `reading_sound`."""
    return finished(reading_sound(data, length))


def writing_sound(samples: Samples) -> Pauses[Residual]:
    """Write a sound, with the speed of forgetting that takes the fewest bits for its beginning.

    Args:
        samples: 16-bit values.

    Returns:
        The parameters, and what the range coder wrote.
    """
    values, best, least = samples.astype(np.int64), None, math.inf
    for parameters in _tried(values):
        bits = 0.0
        for parts in _blocks(values[:_TRIED_ON], parameters):
            bits += _bits(parts)
            yield
        if bits < least:
            best, least = parameters, bits
    if best is None:
        raise ValueError("no parameters are tried")
    return (yield from coding_sound(values, best))


def coding_sound(values: Values, parameters: "Parameters") -> Pauses[Residual]:
    """Write a sound with given parameters.

    Args:
        values: of 16 bits.
        parameters: any, `unused` bits of all values being 0.

    Returns:
        The parameters, and what the range coder wrote.
    """
    encoder, bits = Encoder(), 0.0
    for parts in _blocks(values, parameters):
        for part in parts:
            encoder.push(*part)
        bits += _bits(parts)
        yield
    return Residual(parameters.write() + encoder.finish(), bits)


def reading_sound(data: bytes, length: int) -> Pauses[Samples]:
    """Read what `write_sound` wrote.

    Args:
        data: all of it.
        length: samples.

    Returns:
        The sound; of damaged bytes that pass for another one, that: a checksum tells.

    Raises:
        MalformedContainerError: the bytes are not what is written for any sound.
    """
    parameters = Parameters.read(data)
    decoder, predictor = Decoder(data[_PARAMETER_BYTES:]), parameters.predictor()
    spread, values = Spread(parameters.unused), np.zeros(ORDER + length, dtype=np.int64)
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        for place in range(first, last):
            mean = parameters.mean(int(values[place : place + ORDER] @ predictor.weights))
            coded = _pop(decoder, Place.of(mean, spread.scale), parameters)
            values[place + ORDER] = coded << parameters.unused
            spread.add(abs(MEAN_STEPS * coded - mean))
        if last - first == BLOCK:
            predictor.learn(values[first : last + ORDER])
        yield
    decoder.finish()
    return values[ORDER:].astype(np.int16)


@dataclass(frozen=True)
class Parameters:
    """What is stored of a sound before its samples.

    Attributes:
        forgetting: see `codec.prediction.Predictor`.
        unused: low bits that are 0 in all samples, w; what is coded is x / 2^w.
        ridge_bits: q of the ridge 2^q, likewise.
    """

    forgetting: int
    unused: int
    ridge_bits: int

    @property
    def least(self) -> int:
        """The least value that is coded."""
        return -(1 << _SAMPLE_BITS - 1 - self.unused)

    @property
    def most(self) -> int:
        """The largest."""
        return -self.least - 1

    def write(self) -> bytes:
        """Give two bytes."""
        return bytes([self.forgetting | self.unused << 4, self.ridge_bits])

    @classmethod
    def read(cls, data: bytes) -> "Parameters":
        """Read what `write` gave.

        Raises:
            MalformedContainerError: there are no such parameters.
        """
        speed, ridge_bits = data[:_PARAMETER_BYTES] if len(data) >= _PARAMETER_BYTES else (0, 0)
        found = cls(speed & 15, speed >> 4, ridge_bits)
        if not (1 <= found.forgetting <= SLOWEST and found.ridge_bits <= MOST_RIDGE_BITS):
            raise MalformedContainerError(
                f"the sound has the speed {found.forgetting} and the ridge {found.ridge_bits}, expected 1 to {SLOWEST} "
                f"and 0 to {MOST_RIDGE_BITS}: it is damaged or cut short, send it as it was written"
            )
        return found

    def predictor(self) -> Predictor:
        """Begin to predict."""
        return Predictor(self.forgetting, 1 << self.ridge_bits)

    def mean(self, total: int) -> int:
        """Give the mean of a sample in units of 1/16 of what is coded, of the sum of weighted samples before it."""
        shift = WEIGHT_BITS - _STEP_BITS + self.unused
        return min(max(total + (1 << shift - 1) >> shift, MEAN_STEPS * self.least), MEAN_STEPS * self.most)


class Spread:
    """How far off predictions were of late.

    Args:
        unused: low bits that no sample has.
    """

    def __init__(self, unused: int) -> None:
        self._fast = self._slow = _FIRST_SIZE << _SIZE_BITS >> unused

    @property
    def scale(self) -> int:
        """The scale of the next sample: j of s(j)."""
        return bisect_right(_BORDERS, (5 * self._fast + self._slow) >> _SIZE_BITS + _SHARE_BITS)

    def add(self, size: int) -> None:
        """Take in how far off a prediction was, in units of a mean."""
        self._fast += (size << _SIZE_BITS) - self._fast >> _FAST
        self._slow += (size << _SIZE_BITS) - self._slow >> _SLOW


class Place(NamedTuple):
    """Where the values around a mean are coded.

    Attributes:
        middle: the whole value below the mean, where bucket 128 begins.
        shift: h of the 2^h values of a bucket.
        mean: in units of 1/16 bucket.
        scale: likewise.
    """

    middle: int
    shift: int
    mean: int
    scale: int

    @classmethod
    def of(cls, mean: int, scale: int) -> "Place":
        """Find the place for a mean in units of 1/16 value, and a scale."""
        shift = _SHIFTS[scale]
        centre = MEAN_STEPS * _MIDDLE - _HALF + ((mean & MEAN_STEPS - 1) + _HALF >> shift)
        return cls(mean >> _STEP_BITS, shift, centre, scale - _PER_OCTAVE * shift)

    def bucket(self, value: int) -> int:
        """Give the bucket of a value; those at the ends are for all that lie beyond as well."""
        return min(max(_MIDDLE + (value - self.middle >> self.shift), 0), VALUES - 1)


def _tried(values: Values) -> Iterator[Parameters]:
    """List the parameters to choose from."""
    bits, power = int(np.bitwise_or.reduce(values)), int((values**2).sum()) // max(len(values), 1)
    unused = (bits & -bits).bit_length() - 1 if bits else 0
    ridge_bits = min(max(power.bit_length() - _RIDGE_BELOW, 0), MOST_RIDGE_BITS)
    return (Parameters(forgetting, unused, ridge_bits) for forgetting in _TRIED)


def _blocks(values: Values, parameters: Parameters) -> Iterator[list[Part]]:
    """Give what the blocks of a sound are written as."""
    predictor, spread = parameters.predictor(), Spread(parameters.unused)
    whole = np.concatenate([np.zeros(ORDER, dtype=np.int64), values])
    before = np.lib.stride_tricks.sliding_window_view(whole, ORDER)
    for first in range(0, len(values), BLOCK):
        block, parts = values[first : first + BLOCK], list[Part]()
        totals = before[first : first + len(block)] @ predictor.weights
        for coded, total in zip((block >> parameters.unused).tolist(), totals.tolist(), strict=True):
            mean = parameters.mean(total)
            parts += _parts(coded, Place.of(mean, spread.scale), parameters)
            spread.add(abs(MEAN_STEPS * coded - mean))
        if len(block) == BLOCK:
            predictor.learn(whole[first : first + BLOCK + ORDER])
        yield parts


def _parts(value: int, place: Place, parameters: Parameters) -> list[Part]:
    """Give what a value is written as: its bucket, and which of its values it is, or which of all."""
    bucket = place.bucket(value)
    first = logistic.interval(bucket, place.mean, place.scale)
    if bucket in (0, VALUES - 1):
        bits, rest = _SAMPLE_BITS - parameters.unused, value - parameters.least
    else:
        bits, rest = place.shift, value - place.middle & (1 << place.shift) - 1
    return [first, (rest * (TOTAL >> bits), TOTAL >> bits)] if bits else [first]


def _bits(parts: list[Part]) -> float:
    """Give -log2 of the probability of what is written."""
    return PRECISION * len(parts) - sum(math.log2(size) for _, size in parts)


def _pop(decoder: Decoder, place: Place, parameters: Parameters) -> int:
    """Read a value."""
    bucket = logistic.pop_one(decoder, place.mean, place.scale)
    if bucket in (0, VALUES - 1):
        value = _pop_rest(decoder, _SAMPLE_BITS - parameters.unused) + parameters.least
    else:
        value = place.middle + (bucket - _MIDDLE << place.shift) + _pop_rest(decoder, place.shift)
    if not parameters.least <= value <= parameters.most:
        raise MalformedContainerError(
            f"a sample of the sound is {value << parameters.unused}, expected {-(1 << _SAMPLE_BITS - 1)} to "
            f"{(1 << _SAMPLE_BITS - 1) - 1}: it is damaged, send it as it was written"
        )
    if place.bucket(value) != bucket:
        raise MalformedContainerError(
            f"a sample of the sound is written in bucket {bucket}, expected {place.bucket(value)}: it is damaged, send "
            "it as it was written"
        )
    return value


def _pop_rest(decoder: Decoder, bits: int) -> int:
    """Read a number of so many bits, each as likely as the others."""
    if not bits:
        return 0
    size = TOTAL >> bits
    rest = decoder.target() // size
    decoder.pop(rest * size, size)
    return rest


def finished(pauses: Pauses[T]) -> T:
    """Do work to its end without a pause."""
    while True:
        try:
            next(pauses)
        except StopIteration as end:
            found: T = end.value
            return found
