"""The latents of a body: vectors of real numbers or grids of codes, in whatever form they were sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Integer
from numpy.typing import NDArray

from media.arrays import read_npy, read_npz
from service.bodies import JSON, NPY, NPZ, Body, is_of_floats, read_member
from service.engine.opening import ServedModel
from service.errors import ParameterError
from service.levels import CODES, VECTORS, axis_names, codebook_axis, input_sides, levels_of, names_of
from service.limits import check_rows
from service.settings import Settings
from service.vectors import Z, quantities_of

_VECTORS = (Z, "mean")
"""Names of real-valued latents, for a message about them where codes are wanted."""

KNOWN = "known"
"""The member of a JSON body that holds known codes."""
KNOWN_SCHEMA = {
    "description": "codes that are not drawn but taken, -1 where one is to be drawn: of one item, for all, or of each; "
    "for a model of several levels an object with those of each, such as `codes_0`",
    "anyOf": [{"type": "array"}, {"type": "object"}],
}
"""What OpenAPI says of it."""


@dataclass(frozen=True)
class _Array:
    """An array of latents.

    Attributes:
        names: of the array or the member that holds it, the preferred one first.
        axes: with that of the items.
    """

    names: tuple[str, ...]
    axes: int


@dataclass(frozen=True)
class _Kind:
    """A kind of latents.

    Attributes:
        arrays: that an item has.
        beside: names that `/encode` or `/sample` answers along with them, which do not count.
        foreign: names of latents of the other kind.
        kinds: NumPy's letters of the element types.
        meaning: for messages.
    """

    arrays: tuple[_Array, ...]
    beside: tuple[str, ...]
    foreign: tuple[str, ...]
    kinds: str
    meaning: str

    @property
    def names(self) -> list[str]:
        """The preferred names of its arrays."""
        return [array.names[0] for array in self.arrays]


_MOVED = ("image", "t", "dimension", "value")
"""What answers about moves in the space of latents hold beside z."""


def _of_vectors(model: ServedModel) -> _Kind:
    """Give the array of real-valued latents of a model: z, or the one of its outputs that stands for it."""
    point, *others = quantities_of(model)
    names = tuple(dict.fromkeys((Z, point)))
    meaning = "real-valued latents, float32 [B, D]"
    return _Kind((_Array(names, 2),), (*others, *_MOVED), (CODES,), "fiu", meaning)


def holds_vectors(body: Body, model: ServedModel) -> bool:
    """Tell whether a body that may hold pictures or real-valued latents holds the latter.

    Args:
        body: of pictures as they are in files, forms, arrays of bytes and JSON, or of latents.
        model: that will take them.
    """
    if body.media_type == JSON:
        return bool(body.items) and not body.items[0].keys().isdisjoint((Z, quantities_of(model)[0]))
    return body.media_type == NPZ or (body.media_type == NPY and is_of_floats(body))


def _of_codes(model: ServedModel) -> _Kind:
    """Give the arrays of codes of a model."""
    places = axis_names(len(input_sides(model)))
    arrays, told = [], []
    for name, level in levels_of(model).items():
        axes = ("B", *map(str, codebook_axis(level)), *places)
        arrays.append(_Array((name,), len(axes)))
        told.append(f"{name}, int32 [{', '.join(axes)}]")
    beside = (*names_of(model, VECTORS), "image", "audio", "sample_rate")
    return _Kind(tuple(arrays), beside, _VECTORS, "iu", "; ".join(told))


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
    (z,) = _read(body, _of_vectors(model), model, settings)
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
        return z.astype(np.float32)


def read_codes(body: Body, model: ServedModel, settings: Settings) -> dict[str, Integer[np.ndarray, "B *grid"]]:
    """Read grids of codes; what `/encode` answers is taken as it is.

    Args:
        body: of a type among `LATENT_BODIES`.
        model: that will decode them.
        settings: the limits.

    Returns:
        The codes of every level by name, of the type that they came in, not yet held against the model's grids and
        codebooks.

    Raises:
        ServiceError: none, too many, or no such array.
        MediaError: an array cannot be read.
    """
    kind = _of_codes(model)
    return dict(zip(kind.names, _read(body, kind, model, settings), strict=True))


def holds_known(body: Body) -> bool:
    """Tell whether a body of `OPTION_BODIES` holds known codes."""
    return body.media_type in (NPY, NPZ) or KNOWN in body.members


def read_known(body: Body, model: ServedModel, settings: Settings) -> dict[str, Integer[np.ndarray, "R *grid"]]:
    """Read codes that are known before others are drawn.

    Args:
        body: that holds some: options in JSON, with the codes as the member `known`: lists, or an object of them by
            name; or the arrays alone.
        model: that will draw the others.
        settings: the limits.

    Returns:
        The codes of those levels that have some, by name, of one row or of several, of the type that they came in, not
        yet held against the model's grids and codebooks.

    Raises:
        ServiceError: too many, or no such array.
        MediaError: an array cannot be read.
    """
    kind = _of_codes(model)
    wanted = f"{model.reference} has {kind.meaning}"
    if body.media_type == NPY:
        found = {kind.names[0]: _only_array(body, kind, wanted, settings)}
    elif body.media_type == NPZ:
        found = dict(read_npz(body.data, max_bytes=settings.max_body_bytes))
    else:
        found = _known_members(body.members[KNOWN], kind, wanted)
    unknown = sorted(found.keys() - set(kind.names))
    if unknown or not found:
        raise ParameterError(f"the known codes are named {unknown}; {wanted}, -1 where a code is to be drawn")
    for array in kind.arrays:
        if (codes := found.get(array.names[0])) is not None:
            _check_array(codes, array, kind, wanted, settings)
    return found


def _known_members(value: object, kind: _Kind, wanted: str) -> dict[str, NDArray[np.generic]]:
    """Read known codes of JSON; a grid that stands for all rows becomes one row."""
    members = value if isinstance(value, Mapping) else {kind.names[0]: value}
    if not isinstance(value, Mapping) and len(kind.arrays) > 1:
        raise ParameterError(f'"{KNOWN}" must be an object with {" and ".join(map(repr, kind.names))}; {wanted}')
    axes = {array.names[0]: array.axes for array in kind.arrays}
    found: dict[str, NDArray[np.generic]] = {}
    for name, codes in members.items():
        depth = axes.get(name, 0)
        rows = codes if depth and _is_nested(codes, depth, (int,)) else [codes]
        found[name] = _to_array(rows, depth - 1, name, kind, wanted) if depth else np.empty(0)
    return found


def _only_array(body: Body, kind: _Kind, wanted: str, settings: Settings) -> NDArray[np.generic]:
    """Read the one array of a body without names."""
    if len(kind.arrays) > 1:
        raise ParameterError(f"a body of {NPY} holds one array; {wanted}: send {NPZ}, with arrays of these names")
    return read_npy(body.data, max_bytes=settings.max_body_bytes)


def _read(body: Body, kind: _Kind, model: ServedModel, settings: Settings) -> list[NDArray[np.generic]]:
    """Read the arrays of one kind of latents."""
    wanted = f"{model.reference} takes {kind.meaning}"
    if body.media_type == NPY:
        found = [_only_array(body, kind, wanted, settings)]
    elif body.media_type == NPZ:
        arrays = read_npz(body.data, max_bytes=settings.max_body_bytes)
        found = [_named(arrays, array.names, wanted) for array in kind.arrays]
    else:
        found = _read_items(body, kind, wanted, settings)
    for array, latents in zip(kind.arrays, found, strict=True):
        _check_array(latents, array, kind, wanted, settings)
    return found


def _named(arrays: Mapping[str, NDArray[np.generic]], names: Sequence[str], wanted: str) -> NDArray[np.generic]:
    """Find an array of an archive."""
    name = next((name for name in names if name in arrays), None)
    if name is None:
        expected = " or ".join(map(repr, names))
        raise ParameterError(f"the archive holds {sorted(arrays)}; {wanted}, an array named {expected}")
    return arrays[name]


def _check_array(latents: NDArray[np.generic], array: _Array, kind: _Kind, wanted: str, settings: Settings) -> None:
    """Refuse an array of another type, or with other axes."""
    if latents.dtype.kind not in kind.kinds or latents.ndim != array.axes:
        raise ParameterError(f"the array is {latents.dtype} {list(latents.shape)}; {wanted}, as its /encode answers")
    check_rows(settings, len(latents))


def _read_items(body: Body, kind: _Kind, wanted: str, settings: Settings) -> list[NDArray[np.generic]]:
    """Read the latents of JSON items, an item a row."""
    check_rows(settings, len(body.items))
    if not body.items:
        members = ", ".join(f'"{name}": [...]' for name in kind.names)
        raise ParameterError(f'the request holds no latents; send an array or {{"items": [{{{members}}}]}}')
    for item in body.items:
        for foreign in kind.foreign:
            if foreign in item:
                raise ParameterError(f"an item holds {foreign!r}; {wanted}: send {' and '.join(map(repr, kind.names))}")
    found = []
    for array in kind.arrays:
        others = [name for other in kind.arrays if other is not array for name in other.names]
        rows = [read_member(item, array.names, (*kind.beside, *others)) for item in body.items]
        found.append(_to_array(rows, array.axes - 1, array.names[0], kind, wanted))
    return found


def _to_array(rows: object, depth: int, name: str, kind: _Kind, wanted: str) -> NDArray[np.generic]:
    """Make an array of rows that are lists in lists, so many deep."""
    is_real = "f" in kind.kinds
    number = (int, float) if is_real else (int,)
    if not _is_nested(rows, depth + 1, number):
        raise ParameterError(f'"{name}" must be {_describe(depth, is_real=is_real)}; {wanted}')
    try:
        return np.array(rows, dtype=np.float64 if is_real else np.int64)
    except ValueError as error:
        raise ParameterError(f"the items' {name} and their rows must be of one size; send such at a time") from error
    except OverflowError as error:
        raise ParameterError(f"the items' {name} hold numbers out of range; {wanted}") from error


def _describe(depth: int, *, is_real: bool) -> str:
    """Say what a member should be."""
    if is_real:
        return "a list of numbers"
    lists = ("a list of whole numbers", "a list of rows, each a list of whole numbers")
    return lists[depth - 1] if depth <= len(lists) else f"whole numbers in lists, {depth} deep"


def _is_nested(value: object, depth: int, number: tuple[type, ...]) -> bool:
    """Tell whether a JSON value is lists in lists, so many deep, of numbers; `true` is none."""
    if depth == 0:
        return type(value) in number
    return isinstance(value, list) and all(_is_nested(part, depth - 1, number) for part in value)
