"""A residual with its parameters: the usual ones, which take no bytes, or a picture's own."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8

from codec.errors import MalformedContainerError
from codec.residual import Parameters, decode, encode
from codec.residual_fit import bits_under, fit

USUAL = Parameters(
    weights=(
        (164, 158, -89, -2, -12, -11, 32, -50, -23, -50, 49, -19, 39, -15),
        (230, 197, -190, 18, 0, 0, 0, 0, -1, 0, 2, -1, 3, 3, 189, -195, -17, -227, 252, 0, 0, -1, -3),
        (
            *(228, 189, -185, 22, 0, 0, 0, -2, -1, -2, 2, 0, 2, 2, 116, -111),
            *(-24, -135, 148, 7, -13, 10, 3, 68, -75, 3, -90, 105, -8, 13, -11, -5),
        ),
    ),
    scales=(
        (
            *(16, 16, 16, 16, 16, 16, 16, 16, 16, 17, 18, 20, 21, 23, 24, 26),
            *(27, 29, 30, 32, 32, 33, 34, 35, 36, 37, 38, 39, 40, 40, 40, 40),
        ),
        (
            *(3, 3, 3, 3, 3, 4, 6, 6, 8, 10, 12, 13, 14, 15, 15, 16),
            *(17, 18, 19, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34),
        ),
        (
            *(0, 0, 0, 0, 3, 3, 3, 3, 6, 8, 10, 12, 13, 14, 15, 16),
            *(17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33),
        ),
    ),
)
"""Of small pictures, where a picture's own would take more bytes than they save; fitted to CIFAR-10."""

_USUAL, _OWN = 0, 1


@dataclass(frozen=True)
class Residual:
    """A coded residual, of a picture or a sound.

    Attributes:
        data: parameters, and the values under them; of a picture 0 and the values under `USUAL`, or 1 and its own.
        bits: -log2 of the probability of the values under these parameters.
    """

    data: bytes
    bits: float


def write_residual(picture: UInt8[np.ndarray, "H W C"], decoded: Integer[np.ndarray, "H W C"]) -> Residual:
    """Write a picture, given what a decoder makes of its codes, with the parameters that take fewer bytes.

    Args:
        picture: any.
        decoded: its means in units of 1/16, 0 .. 4080.

    Returns:
        The bytes, and what they came to.
    """
    own, bits = fit(picture, decoded)
    stored, usual = own.write(), usual_of(picture.shape[2])
    usual_bits = bits_under(picture, decoded, usual)
    if usual_bits <= bits + 8 * len(stored):
        return Residual(bytes([_USUAL]) + encode(picture, decoded, usual), usual_bits)
    return Residual(bytes([_OWN]) + stored + encode(picture, decoded, own), bits)


def read_residual(data: bytes, decoded: Integer[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    """Read what `write_residual` wrote.

    Args:
        data: all of it.
        decoded: as it was written with.

    Returns:
        The picture; of damaged bytes another one, which a checksum tells.

    Raises:
        MalformedContainerError: it has no such beginning, or is not what the picture is written as.
    """
    kind, rest = data[:1], data[1:]
    if kind not in (bytes([_USUAL]), bytes([_OWN])):
        raise MalformedContainerError(
            f"the residual begins with {kind.hex() or 'nothing'}, expected 00 or 01: it is damaged, send it as it was "
            "written"
        )
    channels = decoded.shape[2]
    parameters = usual_of(channels)
    if kind == bytes([_OWN]):
        parameters, rest = Parameters.read(rest, channels)
    return decode(rest, decoded, parameters)


def usual_of(channels: int) -> Parameters:
    """Give the usual parameters of pictures of 1 .. 3 channels."""
    return Parameters(USUAL.weights[:channels], USUAL.scales[:channels])
