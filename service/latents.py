"""The latents of a body: vectors of real numbers or grids of codes, in whatever form they were sent."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Integer
from numpy.typing import NDArray

from media.arrays import read_npy, read_npz
from service.bodies import NPY, NPZ, Body, read_member
from service.engine.opening import ServedModel
from service.errors import ParameterError
from service.limits import check_rows
from service.settings import Settings


@dataclass(frozen=True)
class _Kind:
    """A kind of latents.

    Attributes:
        names: of the array or the member that holds them, the preferred one first.
        beside: names that `/encode` or `/sample` answers along with them, which do not count.
        kinds: NumPy's letters of the element types.
        axes: of the array.
        meaning: for messages.
    """

    names: tuple[str, ...]
    beside: tuple[str, ...]
    kinds: str
    axes: int
    meaning: str


_VECTORS = _Kind(("z", "mean"), ("log_variance",), "fiu", 2, "real-valued latents, float32 [B, D]")
_CODES = _Kind(("codes",), ("z_q", "image"), "iu", 3, "codes, int32 [B, h, w]")


def read_vectors(body: Body, model: ServedModel, settings: Settings) -> Float32[np.ndarray, "B D"]:
    """Read real-valued latents; what `/encode` answers is taken as it is, and its mean counts.

    Args:
        body: of a type among `LATENT_BODIES`.
        model: that will decode them.
        settings: the limits.

    Returns:
        The latents, not yet held against the model's dimensions.

    Raises:
        ServiceError: none, too many, or no such array.
        MediaError: the array cannot be read.
    """
    z = _read(body, _VECTORS, model, settings)
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
        return z.astype(np.float32)


def read_codes(body: Body, model: ServedModel, settings: Settings) -> Integer[np.ndarray, "B h w"]:
    """Read grids of codes; what `/encode` answers is taken as it is.

    Args:
        body: of a type among `LATENT_BODIES`.
        model: that will decode them.
        settings: the limits.

    Returns:
        The codes, of the type that they came in, not yet held against the model's grid and codebook.

    Raises:
        ServiceError: none, too many, or no such array.
        MediaError: the array cannot be read.
    """
    return _read(body, _CODES, model, settings)


def _read(body: Body, kind: _Kind, model: ServedModel, settings: Settings) -> NDArray[np.generic]:
    """Read an array of one kind of latents."""
    wanted = f"{model.reference} takes {kind.meaning}"
    if body.media_type == NPY:
        array = read_npy(body.data, max_bytes=settings.max_body_bytes)
    elif body.media_type == NPZ:
        arrays = read_npz(body.data, max_bytes=settings.max_body_bytes)
        name = next((name for name in kind.names if name in arrays), None)
        if name is None:
            expected = " or ".join(map(repr, kind.names))
            raise ParameterError(f"the archive holds {sorted(arrays)}; {wanted}, an array named {expected}")
        array = arrays[name]
    else:
        array = _read_items(body, kind, wanted, settings)
    if array.dtype.kind not in kind.kinds or array.ndim != kind.axes:
        raise ParameterError(f"the array is {array.dtype} {list(array.shape)}; {wanted}, as its /encode answers")
    check_rows(settings, len(array))
    return array


def _read_items(body: Body, kind: _Kind, wanted: str, settings: Settings) -> NDArray[np.generic]:
    """Read the latents of JSON items, an item a row."""
    check_rows(settings, len(body.items))
    name = kind.names[0]
    if not body.items:
        raise ParameterError(f'the request holds no latents; send an array or {{"items": [{{"{name}": [...]}}]}}')
    other = _CODES if kind is _VECTORS else _VECTORS
    for item in body.items:
        for foreign in other.names:
            if foreign in item:
                raise ParameterError(f"an item holds {foreign!r}; {wanted}: send {name!r}")
    rows = [read_member(item, kind.names, kind.beside) for item in body.items]
    number = (int, float) if "f" in kind.kinds else (int,)
    if not all(_is_nested(row, kind.axes - 1, number) for row in rows):
        meaning = "a list of numbers" if kind is _VECTORS else "a list of rows, each a list of whole numbers"
        raise ParameterError(f'"{name}" must be {meaning}; {wanted}')
    try:
        return np.array(rows, dtype=np.float64 if kind is _VECTORS else np.int64)
    except ValueError as error:
        raise ParameterError(f"the items' {name} and their rows must be of one size; send such at a time") from error
    except OverflowError as error:
        raise ParameterError(f"the items' {name} hold numbers out of range; {wanted}") from error


def _is_nested(value: object, depth: int, number: tuple[type, ...]) -> bool:
    """Tell whether a JSON value is lists in lists, so many deep, of numbers; `true` is none."""
    if depth == 0:
        return type(value) in number
    return isinstance(value, list) and all(_is_nested(part, depth - 1, number) for part in value)
