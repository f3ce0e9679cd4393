"""A sound of 16 bits, sample by sample under what those before say of the next, in integers alone.

Each sample is coded under a logistic distribution around its linear prediction (`codec.prediction`), whose scale goes
by how far off the predictions before it were. Wide distributions are coded in two parts: a bucket of 2^h values, and
which of these it is. docs/format.md has every step.
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

_TRIED = (3, 5)
_SAMPLE_BITS = 16
_LEAST, _MOST = -(1 << _SAMPLE_BITS - 1), (1 << _SAMPLE_BITS - 1) - 1
_STEP_BITS = MEAN_STEPS.bit_length() - 1
_HALF = MEAN_STEPS // 2
_MIDDLE = VALUES // 2
_FINEST, _PER_OCTAVE = 27, 4
_SHIFTS = tuple(max(0, scale - _FINEST + _PER_OCTAVE - 1) // _PER_OCTAVE for scale in range(SCALES))
"""h of each scale: in units of a bucket it is at most `_FINEST`."""
_PREDICTION_SHIFT = WEIGHT_BITS - _STEP_BITS
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
    """How far off predictions were of late."""

    def __init__(self) -> None:
        self._fast = self._slow = _FIRST_SIZE << _SIZE_BITS

    @property
    def scale(self) -> int:
        """The scale of the next sample: j of s(j)."""
        return bisect_right(_BORDERS, (5 * self._fast + self._slow) >> _SIZE_BITS + _SHARE_BITS)

    def add(self, size: int) -> None:
        """Take in how far off a prediction was, in units of a mean."""
        self._fast += (size << _SIZE_BITS) - self._fast >> _FAST
        self._slow += (size << _SIZE_BITS) - self._slow >> _SLOW


def write_sound(samples: Samples) -> Residual:
    """Write a sound, with the speed of forgetting that takes the fewest bits.

    Args:
        samples: 16-bit values.

    Returns:
        A byte for the speed, and what the range coder wrote.
    """
    values = samples.astype(np.int64)
    found = [(forgetting, _Coded.of(values, forgetting)) for forgetting in _TRIED]
    forgetting, coded = min(found, key=lambda one: one[1].bits)
    encoder = Encoder()
    for start, size in coded.symbols():
        encoder.push(start, size)
    return Residual(bytes([forgetting]) + encoder.finish(), coded.bits)


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
    if not data or not 1 <= data[0] <= SLOWEST:
        raise MalformedContainerError(
            f"the residual of the sound begins with {data[:1].hex() or 'nothing'}, expected 01 to {SLOWEST:02x}: it is "
            "damaged, send it as it was written"
        )
    decoder, predictor, spread = Decoder(data[1:]), Predictor(data[0]), Spread()
    values = np.zeros(ORDER + length, dtype=np.int64)
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        for place in range(first, last):
            mean = _mean(int(values[place : place + ORDER] @ predictor.weights))
            sample = _pop(decoder, mean, spread.scale)
            values[place + ORDER] = sample
            spread.add(abs(MEAN_STEPS * sample - mean))
        if last - first == BLOCK:
            predictor.learn(values[first : last + ORDER])
    decoder.finish()
    return values[ORDER:].astype(np.int16)


@dataclass(frozen=True)
class _Coded:
    """What a sound is written as.

    Attributes:
        starts: of the part of 0 .. T - 1 that each sample's bucket owns.
        sizes: of these parts.
        rests: what follows a bucket: which of its values it is, or one of all where it is a bucket at the end.
        rest_bits: of each rest.
        bits: -log2 of the probability of all.
    """

    starts: Numbers
    sizes: Numbers
    rests: Numbers
    rest_bits: Numbers
    bits: float

    @classmethod
    def of(cls, values: Numbers, forgetting: int) -> "_Coded":
        """Weigh a sound."""
        means = _means(values, forgetting)
        wide = _scales(np.abs(MEAN_STEPS * values - means))
        shifts = np.array(_SHIFTS)[wide]
        above = values - (means >> _STEP_BITS)
        buckets = np.clip(_MIDDLE + (above >> shifts), 0, VALUES - 1)
        is_end = (buckets == 0) | (buckets == VALUES - 1)
        starts, sizes = logistic.intervals(buckets, _bucket_mean(means, shifts), wide - _PER_OCTAVE * shifts)
        rests = np.where(is_end, values - _LEAST, above & ((1 << shifts) - 1))
        rest_bits = np.where(is_end, _SAMPLE_BITS, shifts)
        bits = float((PRECISION - np.log2(sizes) + rest_bits).sum())
        return cls(starts, sizes, rests, rest_bits, bits)

    def symbols(self) -> Iterator[tuple[int, int]]:
        """Give the parts of 0 .. T - 1 in the order of coding."""
        columns = (array.tolist() for array in (self.starts, self.sizes, self.rests, self.rest_bits))
        for start, size, rest, bits in zip(*columns, strict=True):
            yield start, size
            if bits:
                yield rest << PRECISION - bits, 1 << PRECISION - bits


def _means(values: Numbers, forgetting: int) -> Numbers:
    """Predict every sample of a sound, in units of 1/16."""
    predictor, whole = Predictor(forgetting), np.concatenate([np.zeros(ORDER, dtype=np.int64), values])
    before, sums = np.lib.stride_tricks.sliding_window_view(whole, ORDER), np.empty(len(values), dtype=np.int64)
    for first in range(0, len(values), BLOCK):
        last = min(first + BLOCK, len(values))
        sums[first:last] = before[first:last] @ predictor.weights
        if last - first == BLOCK:
            predictor.learn(whole[first : last + ORDER])
    return np.clip(sums + (1 << _PREDICTION_SHIFT - 1) >> _PREDICTION_SHIFT, MEAN_STEPS * _LEAST, MEAN_STEPS * _MOST)


def _mean(total: int) -> int:
    """Give the mean of a sample in units of 1/16, of the sum of weighted values before it."""
    rounded = total + (1 << _PREDICTION_SHIFT - 1) >> _PREDICTION_SHIFT
    return min(max(rounded, MEAN_STEPS * _LEAST), MEAN_STEPS * _MOST)


def _scales(sizes: Numbers) -> Numbers:
    """Give the scale of every sample, of how far off the predictions are."""
    spread, found = Spread(), np.empty(len(sizes), dtype=np.int64)
    for place, size in enumerate(sizes.tolist()):
        found[place] = spread.scale
        spread.add(size)
    return found


def _bucket_mean(mean: _N, shift: _N) -> _N:
    """Give the mean in units of 1/16 bucket, where bucket 128 begins at the whole value below the mean."""
    return MEAN_STEPS * _MIDDLE - _HALF + ((mean & MEAN_STEPS - 1) + _HALF >> shift)


def _pop(decoder: Decoder, mean: int, scale: int) -> int:
    """Read a sample."""
    shift = _SHIFTS[scale]
    bucket = logistic.pop_one(decoder, _bucket_mean(mean, shift), scale - _PER_OCTAVE * shift)
    middle = mean >> _STEP_BITS
    if bucket in (0, VALUES - 1):
        sample = _pop_rest(decoder, _SAMPLE_BITS) + _LEAST
        is_there = min(max(_MIDDLE + (sample - middle >> shift), 0), VALUES - 1) == bucket
    else:
        sample = middle + (bucket - _MIDDLE << shift) + _pop_rest(decoder, shift)
        is_there = _LEAST <= sample <= _MOST
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
