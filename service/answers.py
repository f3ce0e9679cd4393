"""Answers: arrays to JSON, npy, npz, PNG or a container, with the headers that every answer bears."""

import base64
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.arrays import write_npy, write_npz
from media.audio import write_wav
from media.images import contact_sheet, write_png
from service.bodies import CONTAINER, JSON, NPY, NPZ
from service.limits import check_json_values
from service.negotiation import NotAcceptableError, choose
from service.settings import Settings

PNG = "image/png"
WAV = "audio/wav"
NUMBERS = (JSON, NPY, NPZ)
"""What an answer of numbers can be, the default first."""
MEDIA = (JSON, PNG, WAV, NPY, NPZ)
"""What an answer of pictures or sounds can be, the default first."""
MEDIA_FROM_MEDIA = (PNG, WAV, JSON, NPY, NPZ)
"""Likewise, for an endpoint that was given something as compact as a picture or a sound."""
PICTURES = (PNG, JSON, NPY, NPZ)
"""What an answer of pictures can be, the default first."""
NUMBERS_OR_MAPS = (*NUMBERS, PNG)
"""What an answer of numbers can be that have places in a picture, the default first."""
CONTAINERS = (CONTAINER, JSON)
"""What an answer of containers can be, the default first."""

IMAGES = "images"
"""The array of pictures: a PNG shows it, and each JSON item holds its own as `image`, a PNG file in base64."""

SOUNDS = "sounds"
"""The array of sounds: a WAV file holds one, and each JSON item its own as `audio`, such a file in base64."""

_SMALL_BYTES = 2**20
_SMALL_NUMBERS = 2**10

HEADER_ITEMS = 256
"""So many items' figures fit into a header; JSON holds them all."""

Row = dict[str, Any]
Items = NDArray[Any] | Sequence[NDArray[Any]]
"""An array whose axis 0 is the item, or an array an item where they may differ in size."""


@dataclass(slots=True)
class Answer:
    """What an endpoint has to say.

    Attributes:
        arrays: by name, the primary one first.
        rows: members of each JSON item besides those of the arrays.
        container: the first container, which is the body where it is the only one; None where there is none.
        seed: of the noise, where some was used.
        headers: of this endpoint's own.
        media_type: of the body, where options or items decide it; None for what was negotiated.
        sample_rates_hz: of each sound, where there are some.
        columns: pictures in a row of a contact sheet; None for the squarest one.
    """

    arrays: dict[str, Items] = field(default_factory=dict)
    rows: Sequence[Row] | None = None
    container: bytes | None = None
    seed: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str | None = None
    sample_rates_hz: Sequence[int] = ()
    columns: int | None = None

    def __len__(self) -> int:
        """Count the items."""
        return len(self.rows) if self.rows is not None else len(next(iter(self.arrays.values())))

    def is_small(self, media_type: str) -> bool:
        """Tell whether it is written in less time than a thread takes to begin."""
        if media_type == JSON:
            return not {IMAGES, SOUNDS} & self.arrays.keys() and _count_numbers(self) <= _SMALL_NUMBERS
        primary = next(iter(self.arrays.values()), None)
        return media_type == NPY and isinstance(primary, np.ndarray) and primary.nbytes <= _SMALL_BYTES


def type_for(accept: str | None, offers: Sequence[str], shapes: Iterable[tuple[int, ...]]) -> str:
    """Choose the type of an answer by the shapes of its items, before they are computed.

    Args:
        accept: the Accept header; None where there is none.
        offers: what the answer can be, the default first.
        shapes: of the items; differing ones leave JSON alone, which holds each item by itself, and a WAV file holds
            one.

    Returns:
        One of the offers.

    Raises:
        NotAcceptableError: none of those that can hold the items is accepted.
    """
    sizes = list(shapes)
    if len(sizes) > 1:
        offers = tuple(offer for offer in offers if offer != WAV)
    if len(set(sizes)) <= 1:
        return choose(accept, tuple(offers))
    try:
        return choose(accept, (JSON,))
    except NotAcceptableError as error:
        raise NotAcceptableError(
            f"the items differ in size, which only {JSON} can hold; accept it, or send them one by one"
        ) from error


def check_count(media_type: str, items: int) -> None:
    """Refuse a type that cannot hold so many items, before they are computed.

    Raises:
        NotAcceptableError: it is a WAV file, which holds one sound.
    """
    if media_type == WAV and items > 1:
        raise NotAcceptableError(f"there are {items} sounds, and a WAV file holds one; accept {JSON} or {NPZ}")


def write(answer: Answer, media_type: str, reference: str, settings: Settings) -> bytes:
    """Write an answer's body.

    Args:
        answer: what to say.
        media_type: one of those that the endpoint offers.
        reference: the model's, for JSON.
        settings: the limits.

    Returns:
        The bytes.

    Raises:
        NotAcceptableError: the items differ in size, and the type needs them equal.
        TooLargeError: there are more numbers than JSON may hold.
    """
    if media_type == JSON:
        check_json_values(settings, _count_numbers(answer))
        return _json(answer, reference)
    if media_type == CONTAINER and answer.container is not None:
        return answer.container
    if media_type == PNG:
        return write_png(contact_sheet(_stack(answer.arrays[IMAGES]), answer.columns))
    if media_type == WAV:
        return _one_sound(answer)
    if media_type == NPY:
        return write_npy(_stack(next(iter(answer.arrays.values()))))
    return write_npz({name: _stack(items) for name, items in answer.arrays.items()})


def _one_sound(answer: Answer) -> bytes:
    """Write the sound of an answer as a file."""
    sounds = answer.arrays[SOUNDS]
    check_count(WAV, len(sounds))
    return write_wav(sounds[0], sample_rate_hz=answer.sample_rates_hz[0])


def _count_numbers(answer: Answer) -> int:
    """Count the numbers of an answer's arrays; pictures and sounds are text in JSON, and cheap."""
    return sum(_size(items) for name, items in answer.arrays.items() if name not in (IMAGES, SOUNDS))


def _size(items: Items) -> int:
    """Count the numbers of all items."""
    return items.size if isinstance(items, np.ndarray) else sum(item.size for item in items)


def _stack(items: Items) -> NDArray[Any]:
    """Put items of one size into one array."""
    if isinstance(items, np.ndarray):
        return items
    if len({item.shape for item in items}) > 1:
        raise NotAcceptableError(f"the items differ in size, which this type cannot hold; accept {JSON}")
    return np.stack(items)


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
    for name, items in answer.arrays.items():
        if name == IMAGES:
            item["image"] = in_base64(write_png(items[index]))
        elif name == SOUNDS:
            sample_rate_hz = answer.sample_rates_hz[index]
            item["audio"] = in_base64(write_wav(items[index], sample_rate_hz=sample_rate_hz))
            item["sample_rate"] = sample_rate_hz
        else:
            item[name] = plain(items[index])
    return item if answer.rows is None else item | answer.rows[index]


def in_base64(data: bytes) -> str:
    """Give bytes as JSON can hold them."""
    return base64.b64encode(data).decode("ascii")


def plain(value: NDArray[Any]) -> object:
    """Give an array as JSON can hold it: null where a number is not finite."""
    listed = value.tolist()
    return number(listed) if isinstance(listed, float) else listed


def number(value: float) -> float | None:
    """Give a number as JSON can hold it: null where it is not finite."""
    return value if math.isfinite(value) else None


def figures(values: Sequence[float], decimals: int) -> str:
    """Write one figure an item for a header, as many as fit."""
    return ",".join(f"{value:.{decimals}f}" for value in values[:HEADER_ITEMS])
