"""What a decoder's mean does not say of a picture, in integers alone: every pixel comes back as it was.

Planes are coded one after the other, each value under a logistic distribution around the decoder's mean, corrected by
how what is known lies to that mean: the values before it in its plane, the means around it, and the values of earlier
planes around it. Its scale goes by how far off the values near it were. Weights and scales are chosen for each picture
and stored before the values. A plane's values are coded in diagonals, so that a decoder computes a diagonal at a time.
docs/format.md has every step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from codec import logistic
from codec.errors import MalformedContainerError
from codec.logistic import MEAN_LIMIT, MEAN_STEPS
from codec.range_coder import Decoder, Encoder

OWN = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
"""(row, column), relative to a value, of those of its plane that it is predicted from."""
OTHERS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))
"""Likewise of each earlier plane."""
AROUND = tuple(place for place in OTHERS if place != (0, 0))
"""Likewise of the means of its own plane."""
WEIGHT_STEPS = 256
"""A weight is a signed integer of 16 bits in units of 1/256."""
CONTEXTS = 32
"""A value's context tells how large the errors around it are: t_k = floor(2^(k / 2)), k = 7 .. 37, are the borders."""

_OWN_SIZES = (4, 4, 2, 2, 2, 2)
_OTHER_SIZES = {(0, 0): 4, (-1, 0): 1, (0, -1): 1, (0, 1): 1, (1, 0): 1}
_BORDERS = np.array([isqrt(1 << k) for k in range(7, 7 + CONTEXTS - 1)], dtype=np.int64)
_WEIGHT = np.dtype("<i2")
_MARGIN = 2
_ORDER_OF_COLOURS = (1, 0, 2)

Plane = Int64[np.ndarray, "H W"]
Framed = Int64[np.ndarray, "rows columns"]
"""A plane with a margin around it."""


@dataclass(frozen=True)
class Parameters:
    """What is stored of a picture before its values.

    Attributes:
        weights: of each plane in the order of coding: of `OWN`, of `AROUND`, then of `OTHERS` for each earlier plane.
        scales: of each plane, a scale for each context.
    """

    weights: tuple[tuple[int, ...], ...]
    scales: tuple[tuple[int, ...], ...]

    def write(self) -> bytes:
        """Give plane after plane: weights, little-endian, then scales, a byte each."""
        rows = zip(self.weights, self.scales, strict=True)
        return b"".join(np.array(weights, dtype=_WEIGHT).tobytes() + bytes(scales) for weights, scales in rows)

    @classmethod
    def read(cls, data: bytes, planes: int) -> tuple["Parameters", bytes]:
        """Read what `write` gave, and give what follows.

        Raises:
            MalformedContainerError: it ends too early, or has a scale that there is not.
        """
        weights, scales, start = [], [], 0
        for plane in range(planes):
            middle = start + _WEIGHT.itemsize * weights_of(plane)
            end = middle + CONTEXTS
            if len(data) < end or max(data[middle:end]) >= logistic.SCALES:
                raise MalformedContainerError(
                    f"plane {plane} has no {weights_of(plane)} weights and {CONTEXTS} scales below {logistic.SCALES}: "
                    "they are damaged or cut short, send them as they were written"
                )
            weights.append(tuple(np.frombuffer(data[start:middle], dtype=_WEIGHT).tolist()))
            scales.append(tuple(data[middle:end]))
            start = end
        return cls(tuple(weights), tuple(scales)), data[start:]


def weights_of(plane: int) -> int:
    """Count the weights of the plane that is coded after so many others."""
    return len(OWN) + len(AROUND) + plane * len(OTHERS)


def order_of(channels: int) -> tuple[int, ...]:
    """Give the channels in the order of coding: of colours green first, which says most of the others."""
    return _ORDER_OF_COLOURS if channels == len(_ORDER_OF_COLOURS) else tuple(range(channels))


@dataclass(frozen=True)
class Prediction:
    """What a plane's values are coded under.

    Attributes:
        means: 0 .. `MEAN_LIMIT`.
        contexts: 0 .. `CONTEXTS` - 1.
    """

    means: Plane
    contexts: Plane


class Planes:
    """The planes of a picture that are known, with what they say of the next.

    Args:
        height: rows.
        width: columns.
    """

    def __init__(self, height: int, width: int) -> None:
        self._inside = framed(np.ones((height, width), dtype=np.int64))
        self._values: list[tuple[Framed, Plane]] = []
        self._sizes: list[Framed] = []

    def apart(self, values: Framed, decoded: Plane, place: tuple[int, int]) -> Plane:
        """Give how far what stands at a place relative to each lies from the mean there; 0 where that is outside."""
        return moved(values, *place) - decoded * moved(self._inside, *place)

    def features(self, values: Framed, decoded: Plane) -> Iterator[Plane]:
        """Give what the next plane is predicted from, in the order of its weights, given all its own values."""
        yield from (self.apart(values, decoded, place) for place in OWN)
        yield from self.known(decoded)

    def known(self, decoded: Plane) -> Iterator[Plane]:
        """Give those features that are known before any value of the plane is."""
        means = framed(decoded)
        yield from (self.apart(means, decoded, place) for place in AROUND)
        for others, mean in self._values:
            yield from (self.apart(others, mean, place) for place in OTHERS)

    def sizes(self, shape: tuple[int, int]) -> Plane:
        """Give what earlier planes add to the sum of sizes around each value."""
        found = np.zeros(shape, dtype=np.int64)
        for sizes in self._sizes:
            for place, share in _OTHER_SIZES.items():
                found += share * moved(sizes, *place)
        return found

    def predict(self, values: Plane, decoded: Plane, weights: tuple[int, ...]) -> Prediction:
        """Predict the next plane, all of whose values are known, and add it."""
        whole = framed(MEAN_STEPS * values)
        correction = np.zeros_like(values)
        for weight, feature in zip(weights, self.features(whole, decoded), strict=True):
            correction += weight * feature
        means, around = corrected(decoded, correction), self.sizes(values.shape)
        sizes = framed(np.abs(MEAN_STEPS * values - means))
        for share, place in zip(_OWN_SIZES, OWN, strict=True):
            around += share * moved(sizes, *place)
        self._values.append((whole, decoded))
        self._sizes.append(sizes)
        return Prediction(means, contexts(around))

    def read(self, decoder: Decoder, decoded: Plane, weights: tuple[int, ...], scales: tuple[int, ...]) -> Plane:
        """Read the next plane, diagonal by diagonal, and add it."""
        shape, own, shares = decoded.shape, np.array(weights[: len(OWN)]), np.array(_OWN_SIZES)
        whole, sizes = (framed(np.zeros(shape, dtype=np.int64)) for _ in range(2))
        # What does not wait for values: all but the products of weights and values of the plane itself.
        fixed = np.zeros(shape, dtype=np.int64)
        for weight, feature in zip(weights, self.features(whole, decoded), strict=True):
            fixed += weight * feature
        correction, around, means = fixed.ravel(), self.sizes(shape).ravel(), decoded.ravel()
        by_context, width = np.array(scales), whole.shape[1]
        steps = np.array([row * width + column for row, column in OWN])
        for places in diagonals(*shape):
            rows, columns = np.divmod(places, shape[1])
            inner = (rows + _MARGIN) * width + columns + _MARGIN
            seen = inner[:, None] + steps
            mean = corrected(means[places], correction[places] + whole.ravel()[seen] @ own)
            scale = by_context[contexts(around[places] + sizes.ravel()[seen] @ shares)]
            found = MEAN_STEPS * np.array(logistic.pop(decoder, mean, scale))
            whole.ravel()[inner] = found
            sizes.ravel()[inner] = np.abs(found - mean)
        self._values.append((whole, decoded))
        self._sizes.append(sizes)
        return moved(whole, 0, 0) // MEAN_STEPS


def encode(picture: UInt8[np.ndarray, "H W C"], decoded: Integer[np.ndarray, "H W C"], parameters: Parameters) -> bytes:
    """Write a picture, given what a decoder makes of its codes.

    Args:
        picture: any.
        decoded: its means in units of 1/16, 0 .. 4080.
        parameters: see `codec.residual_fit.fit`.

    Returns:
        The values; parameters are not among them.
    """
    encoder, planes = Encoder(), Planes(*picture.shape[:2])
    for number, channel in enumerate(order_of(picture.shape[2])):
        values = picture[..., channel].astype(np.int64)
        found = planes.predict(values, decoded[..., channel].astype(np.int64), parameters.weights[number])
        scales = np.array(parameters.scales[number])[found.contexts]
        order = np.concatenate(list(diagonals(*values.shape)))
        starts, lengths = logistic.intervals(*(array.ravel()[order] for array in (values, found.means, scales)))
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            encoder.push(start, length)
    return encoder.finish()


def decode(data: bytes, decoded: Integer[np.ndarray, "H W C"], parameters: Parameters) -> UInt8[np.ndarray, "H W C"]:
    """Read what `encode` wrote.

    Args:
        data: the values.
        decoded: as they were written with.
        parameters: likewise.

    Returns:
        The picture; of damaged bytes that pass for another one, that: a checksum tells.

    Raises:
        MalformedContainerError: the bytes are not what `encode` writes for any picture.
    """
    decoder, planes = Decoder(data), Planes(*decoded.shape[:2])
    picture = np.empty(decoded.shape, dtype=np.uint8)
    for number, channel in enumerate(order_of(decoded.shape[2])):
        means = decoded[..., channel].astype(np.int64)
        picture[..., channel] = planes.read(decoder, means, parameters.weights[number], parameters.scales[number])
    decoder.finish()
    return picture


def framed(plane: Plane) -> Framed:
    """Put a margin of zeros around a plane."""
    return np.pad(plane, _MARGIN)


def moved(plane: Framed, row: int, column: int) -> Plane:
    """Give what stands so many rows and columns from each place of a framed plane."""
    height, width = plane.shape
    return plane[_MARGIN + row : height - _MARGIN + row, _MARGIN + column : width - _MARGIN + column]


def corrected(decoded: Int64[np.ndarray, "*N"], correction: Int64[np.ndarray, "*N"]) -> Int64[np.ndarray, "*N"]:
    """Give clip(mean + floor(correction / 256 + 1/2), 0, 4080)."""
    return np.clip(decoded + (correction + WEIGHT_STEPS // 2) // WEIGHT_STEPS, 0, MEAN_LIMIT)


def contexts(sizes: Int64[np.ndarray, "*N"]) -> Int64[np.ndarray, "*N"]:
    """Give the number of borders that are at most each size."""
    return np.searchsorted(_BORDERS, sizes, side="right")


def diagonals(height: int, width: int) -> Iterator[Int64[np.ndarray, " n"]]:
    """Give the places of a plane in the order of coding: those of equal column + 2 row together, from the top.

    Each only depends on earlier ones, since a place looks one column to the right at most, in the row above.

    Args:
        height: rows.
        width: columns.

    Yields:
        row * width + column.
    """
    for number in range(width + 2 * (height - 1)):
        first, last = max(0, (number - width + 2) // 2), min(height - 1, number // 2)
        rows = np.arange(first, last + 1)
        yield rows * width + number - 2 * rows
