"""Answers: arrays to JSON, npy, npz or PNG, with the headers that every answer bears."""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from media.arrays import write_npy, write_npz
from media.images import contact_sheet, write_png
from service.bodies import JSON, NPY, NPZ
from service.negotiation import NotAcceptableError

PNG = "image/png"
NUMBERS = (JSON, NPY, NPZ)
"""What an answer of numbers can be, the default first."""
PICTURES = (JSON, PNG, NPY, NPZ)
"""What an answer of pictures can be, the default first."""
PICTURES_FROM_PICTURES = (PNG, JSON, NPY, NPZ)
"""Likewise, for an endpoint that was given a picture."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What an endpoint has to say.

    Attributes:
        arrays: by name, the primary one first; axis 0 is the item.
        pictures: the items as pictures, for an endpoint that answers these.
        rows: members of each JSON item besides the arrays, or in their place where `arrays_in_json` is false.
        arrays_in_json: whether JSON items hold the rows of the arrays.
        seed: of the noise, where some was used.
        headers: of this endpoint's own.
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    pictures: Sequence[UInt8[np.ndarray, "H W C"]] | None = None
    rows: Sequence[Row] | None = None
    arrays_in_json: bool = True
    seed: int | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the items."""
        return len(self.pictures) if self.pictures is not None else len(next(iter(self.arrays.values())))


def write(answer: Answer, media_type: str, reference: str) -> bytes:
    """Write an answer's body.

    Args:
        answer: what to say.
        media_type: one of those that the endpoint offers.
        reference: the model's, for JSON.

    Returns:
        The bytes.

    Raises:
        NotAcceptableError: the pictures differ in size, and the type needs them equal.
    """
    if media_type == JSON:
        return _json(answer, reference)
    if media_type == PNG:
        return write_png(contact_sheet(_stack(answer.pictures or ())))
    arrays = dict(answer.arrays)
    if answer.pictures is not None:
        arrays = {"images": _stack(answer.pictures)} | arrays
    return write_npy(next(iter(arrays.values()))) if media_type == NPY else write_npz(arrays)


def _stack(pictures: Sequence[UInt8[np.ndarray, "H W C"]]) -> UInt8[np.ndarray, "B H W C"]:
    """Put pictures of one size into one array."""
    if len({picture.shape for picture in pictures}) > 1:
        raise NotAcceptableError(f"the pictures differ in size, which this type cannot hold; accept {JSON}")
    return np.stack(pictures)


def _json(answer: Answer, reference: str) -> bytes:
    """Write the items as JSON, one object a row."""
    document: Row = {"model": reference}
    if answer.seed is not None:
        document["seed"] = answer.seed
    document["items"] = [_item(answer, index) for index in range(len(answer))]
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def _item(answer: Answer, index: int) -> Row:
    """Write one item."""
    item: Row = {}
    if answer.pictures is not None:
        item["image"] = base64.b64encode(write_png(answer.pictures[index])).decode("ascii")
    if answer.arrays_in_json:
        item |= {name: _plain(array[index]) for name, array in answer.arrays.items()}
    if answer.rows is not None:
        item |= answer.rows[index]
    return item


def _plain(value: NDArray[Any]) -> object:
    """Turn an array's row into what JSON can hold: null where a number is not finite."""
    listed = value.tolist()
    return number(listed) if isinstance(listed, float) else listed


def number(value: float) -> float | None:
    """Give a number as JSON can hold it: null where it is not finite."""
    return value if math.isfinite(value) else None
