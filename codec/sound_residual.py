"""A sound of 16 bits, sample by sample under what those before say of the next, in integers alone.

Each sample is coded under a logistic distribution around its linear prediction (`codec.prediction`), whose scale goes
by how far off the predictions before it were. Wide distributions are coded in two parts: a bucket of 2^h values, and
which of these it is. Low bits that no sample has are left out. docs/format.md has every step.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import TypeVar

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

Samples = Int16[np.ndarray, " T"]
Numbers = Int64[np.ndarray, " T"]
_N = TypeVar("_N", int, Numbers)


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

    @property
    def shift(self) -> int:
        """Of weighted sums, which it turns into means in units of 1/16 of what is coded."""
        return WEIGHT_BITS - _STEP_BITS + self.unused

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
                f"the residual of the sound begins with {data[:_PARAMETER_BYTES].hex() or 'nothing'}, expected a "
                f"second digit of 1 to {SLOWEST} and then at most {MOST_RIDGE_BITS:02x}: it is damaged, send it as it "
                "was written"
            )
        return found

    def predictor(self) -> Predictor:
        """Begin to predict."""
        return Predictor(self.forgetting, 1 << self.ridge_bits)


def write_sound(samples: Samples) -> Residual:
    """Write a sound, with the speed of forgetting that takes the fewest bits for its beginning.

    Args:
        samples: 16-bit values.

    Returns:
        The parameters, and what the range coder wrote.
    """
    values = samples.astype(np.int64)
    bits, power = int(np.bitwise_or.reduce(values)), int((values**2).sum()) // max(len(values), 1)
    unused = (bits & -bits).bit_length() - 1 if bits else 0
    ridge_bits = min(max(power.bit_length() - _RIDGE_BELOW, 0), MOST_RIDGE_BITS)
    tried = [Parameters(forgetting, unused, ridge_bits) for forgetting in _TRIED]
    found = [_Coded.of(values[:_TRIED_ON], parameters) for parameters in tried]
    coded = min(found, key=lambda one: one.bits)
    if len(values) > _TRIED_ON:
        coded = _Coded.of(values, coded.parameters)
    encoder = Encoder()
    for start, size in coded.symbols():
        encoder.push(start, size)
    return Residual(coded.parameters.write() + encoder.finish(), coded.bits)


def read_sound(data: bytes, length: int) -> Samples:
    """Read what `write_sound` wrote.

    Args:
        data: all of it.
        length: samples.

    Returns:
        The sound; of damaged bytes that pass for another one, that: a checksum tells.

    Raises:
        MalformedContainerError: the bytes are not what `write_sound` writes for any sound.
    """
    parameters = Parameters.read(data)
    decoder, predictor = Decoder(data[_PARAMETER_BYTES:]), parameters.predictor()
    spread = Spread(parameters.unused)
    values = np.zeros(ORDER + length, dtype=np.int64)
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        for place in range(first, last):
            mean = _mean(int(values[place : place + ORDER] @ predictor.weights), parameters)
            coded = _pop(decoder, mean, spread.scale, parameters)
            values[place + ORDER] = coded << parameters.unused
            spread.add(abs(MEAN_STEPS * coded - mean))
        if last - first == BLOCK:
            predictor.learn(values[first : last + ORDER])
    decoder.finish()
    return values[ORDER:].astype(np.int16)


@dataclass(frozen=True)
class _Coded:
    """What a sound is written as.

    Attributes:
        parameters: that it is written with.
        starts: of the part of 0 .. T - 1 that each sample's bucket owns.
        sizes: of these parts.
        rests: what follows a bucket: which of its values it is, or one of all where it is a bucket at the end.
        rest_bits: of each rest.
    """

    parameters: Parameters
    starts: Numbers
    sizes: Numbers
    rests: Numbers
    rest_bits: Numbers

    @classmethod
    def of(cls, values: Numbers, parameters: Parameters) -> "_Coded":
        """Weigh a sound."""
        means, coded = _means(values, parameters), values >> parameters.unused
        wide = _scales(np.abs(MEAN_STEPS * coded - means), parameters)
        shifts = np.array(_SHIFTS)[wide]
        above = coded - (means >> _STEP_BITS)
        buckets = np.clip(_MIDDLE + (above >> shifts), 0, VALUES - 1)
        is_end = (buckets == 0) | (buckets == VALUES - 1)
        starts, sizes = logistic.intervals(buckets, _bucket_mean(means, shifts), wide - _PER_OCTAVE * shifts)
        rests = np.where(is_end, coded - parameters.least, above & ((1 << shifts) - 1))
        return cls(parameters, starts, sizes, rests, np.where(is_end, _SAMPLE_BITS - parameters.unused, shifts))

    @property
    def bits(self) -> float:
        """Give -log2 of the probability of all."""
        return float((PRECISION - np.log2(self.sizes) + self.rest_bits).sum())

    def symbols(self) -> Iterator[tuple[int, int]]:
        """Give the parts of 0 .. T - 1 in the order of coding."""
        columns = (array.tolist() for array in (self.starts, self.sizes, self.rests, self.rest_bits))
        for start, size, rest, bits in zip(*columns, strict=True):
            yield start, size
            if bits:
                yield rest << PRECISION - bits, 1 << PRECISION - bits


def _means(values: Numbers, parameters: Parameters) -> Numbers:
    """Predict every sample of a sound, in units of 1/16 of what is coded."""
    predictor, whole = parameters.predictor(), np.concatenate([np.zeros(ORDER, dtype=np.int64), values])
    before, sums = np.lib.stride_tricks.sliding_window_view(whole, ORDER), np.empty(len(values), dtype=np.int64)
    for first in range(0, len(values), BLOCK):
        last = min(first + BLOCK, len(values))
        sums[first:last] = before[first:last] @ predictor.weights
        if last - first == BLOCK:
            predictor.learn(whole[first : last + ORDER])
    rounded = sums + (1 << parameters.shift - 1) >> parameters.shift
    return np.clip(rounded, MEAN_STEPS * parameters.least, MEAN_STEPS * parameters.most)


def _mean(total: int, parameters: Parameters) -> int:
    """Give the mean of a sample in units of 1/16 of what is coded, of the sum of weighted samples before it."""
    rounded = total + (1 << parameters.shift - 1) >> parameters.shift
    return min(max(rounded, MEAN_STEPS * parameters.least), MEAN_STEPS * parameters.most)


def _scales(sizes: Numbers, parameters: Parameters) -> Numbers:
    """Give the scale of every sample, of how far off the predictions are."""
    spread, found = Spread(parameters.unused), np.empty(len(sizes), dtype=np.int64)
    for place, size in enumerate(sizes.tolist()):
        found[place] = spread.scale
        spread.add(size)
    return found


def _bucket_mean(mean: _N, shift: _N) -> _N:
    """Give the mean in units of 1/16 bucket, where bucket 128 begins at the whole value below the mean."""
    return MEAN_STEPS * _MIDDLE - _HALF + ((mean & MEAN_STEPS - 1) + _HALF >> shift)


def _pop(decoder: Decoder, mean: int, scale: int, parameters: Parameters) -> int:
    """Read what a sample is coded as."""
    shift = _SHIFTS[scale]
    bucket = logistic.pop_one(decoder, _bucket_mean(mean, shift), scale - _PER_OCTAVE * shift)
    middle = mean >> _STEP_BITS
    if bucket in (0, VALUES - 1):
        sample = _pop_rest(decoder, _SAMPLE_BITS - parameters.unused) + parameters.least
        is_there = min(max(_MIDDLE + (sample - middle >> shift), 0), VALUES - 1) == bucket
    else:
        sample = middle + (bucket - _MIDDLE << shift) + _pop_rest(decoder, shift)
        is_there = parameters.least <= sample <= parameters.most
    if not is_there:
        raise MalformedContainerError(
            f"a sample of the sound is {sample} in bucket {bucket} around {middle}, where it is not: the container is "
            "damaged, send it as it was written"
        )
    return sample


def _pop_rest(decoder: Decoder, bits: int) -> int:
    """Read a number of so many bits, each as likely as the others."""
    if not bits:
        return 0
    size = TOTAL >> bits
    rest = decoder.target() // size
    decoder.pop(rest * size, size)
    return rest
