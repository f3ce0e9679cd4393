"""Moves in the space of real-valued latents, in NumPy alone: a path between two points, sweeps, a cloud."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

PathKind = Literal["linear", "spherical"]

_PARALLEL = 1e-6
"""Sines of an angle below this leave the direction of an arc to rounding."""

Vector = Float32[NDArray[np.float32], " D"]
Vectors = Float32[NDArray[np.float32], "n D"]


def path(start: Vector, end: Vector, steps: int, kind: PathKind) -> tuple[Vectors, PathKind]:
    """Lay points on a path from one point to another, both ends included as they are.

    Linear: z(t) = (1 - t) a + t b. Spherical, with the angle omega between a and b (White 2016, section 2.1):
    z(t) = (sin((1 - t) omega) a + sin(t omega) b) / sin omega, whose length goes from that of a to that of b with no
    dip in the middle, where a standard normal prior of many dimensions has next to no mass.

    Args:
        start: a.
        end: b.
        steps: how many points, at least 2; t goes from 0 to 1 evenly.
        kind: of path.

    Returns:
        The points; and which kind the path is: linear as well where no arc is defined, since an end is zero or the
        ends are (nearly) parallel or opposite.
    """
    a, b = start.astype(np.float64), end.astype(np.float64)
    t = np.linspace(0.0, 1.0, steps)[:, None]
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    cosine = np.clip(a @ b / lengths, -1.0, 1.0) if lengths > 0 else 1.0
    omega = np.arccos(cosine)
    if kind == "linear" or np.sin(omega) < _PARALLEL:
        return _narrow((1.0 - t) * a + t * b), "linear"
    return _narrow((np.sin((1.0 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega)), "spherical"


def sweep(point: Vector, dimensions: Sequence[int], values: Float32[NDArray[np.float32], "R S"]) -> Vectors:
    """Replace one coordinate of a point after the other by each of some values.

    Args:
        point: where the others stay.
        dimensions: R, which to replace.
        values: S of each.

    Returns:
        R times S points, those of the first dimension first.
    """
    rows, steps = values.shape
    z = np.broadcast_to(point, (rows, steps, point.size)).astype(np.float32)
    z[np.arange(rows)[:, None], np.arange(steps), np.asarray(dimensions)[:, None]] = values
    return z.reshape(rows * steps, point.size)


def cloud(point: Vector, noise: Vectors, scale: float, deviation: Vector | None) -> Vectors:
    """Move a point by noise: z = point + scale * deviation * noise.

    Args:
        point: in the middle.
        noise: standard normal.
        scale: of the noise.
        deviation: of each dimension; None for 1.

    Returns:
        As many points as there are rows of noise.
    """
    spread = np.ones(1) if deviation is None else deviation.astype(np.float64)
    return _narrow(point + scale * spread * noise.astype(np.float64))


def _narrow(z: Float64[NDArray[np.float64], "n D"]) -> Vectors:
    """Bring points to float32; what overflows becomes infinite, and is refused by whoever decodes it."""
    with np.errstate(over="ignore"):
        return z.astype(np.float32)
