"""Request bodies: what came in, taken in within the limits, and read as arrays."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request

from service.engine.catalog import Modality
from service.engine.opening import ServedModel
from service.errors import MalformedError, ParameterError, ServiceError, TooLargeError
from service.faults import naming
from service.limits import check_rows
from service.multipart import read_form
from service.option_reading import unknown
from service.settings import Settings

JSON = "application/json"
NPY = "application/x-npy"
NPZ = "application/x-npz"
FORM = "multipart/form-data"
CONTAINER = "application/vnd.latentd"
IMAGES = ("image/png", "image/jpeg", "image/webp")
SOUNDS = ("audio/wav", "audio/flac")

_HEAD_BYTES = 1024
_SOUND_PART = re.compile(rb"content-type:\s*audio/|\r\n\r\n(RIFF.{4}WAVE|fLaC)", re.IGNORECASE | re.DOTALL)
_FLOATS = re.compile(rb"""['"]descr['"]\s*:\s*['"][<>=|]?f""")

CHEAP_BYTES = 2**20
"""An array of so many bytes is read or written in less time than a thread takes to begin."""

MEDIA_BODIES = (*IMAGES, *SOUNDS, FORM, NPY, JSON)
"""What an endpoint that reads pictures or sounds takes."""
LATENT_BODIES = (NPY, NPZ, JSON)
"""What an endpoint that reads latents takes."""
CONTAINER_BODIES = (CONTAINER, FORM, JSON)
"""What an endpoint that reads containers takes."""
OPTION_BODIES = (JSON, NPY, NPZ)
"""What an endpoint that reads options takes, and perhaps codes that are known."""


class UnsupportedTypeError(ServiceError):
    """The body is of a type that the endpoint does not take."""


@dataclass(frozen=True)
class Body:
    """A body as it came.

    Attributes:
        media_type: without parameters, lower case; empty for no body at all.
        content_type: the whole header.
        data: the bytes.
        items: of a JSON body.
        members: of a JSON body, other than the items.
    """

    media_type: str
    content_type: str
    data: bytes
    items: Sequence[Mapping[str, object]] = ()
    members: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_cheap(self) -> bool:
        """Whether it is read in less time than a thread takes to begin: an array of moderate size."""
        return self.media_type == NPY and len(self.data) <= CHEAP_BYTES


async def receive(request: Request, accepted: Sequence[str], settings: Settings) -> Body:
    """Take a body in, no further than the limit for its type, whatever length it declares.

    Args:
        request: the request.
        accepted: media types that the endpoint takes; JSON is among them.
        settings: the limits.

    Returns:
        The body; JSON is parsed.

    Raises:
        UnsupportedTypeError: it is of another type.
        TooLargeError: it is longer.
        MalformedError: it is not the JSON that it says it is.
        ClientDisconnect: the caller left before its end.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    is_json = media_type == JSON
    max_bytes = min(settings.max_body_bytes, settings.max_json_body_bytes) if is_json else settings.max_body_bytes
    data = await take_in(request, max_bytes, _cure(media_type, accepted))
    if not data and not media_type:
        return Body("", "", b"")
    if media_type not in accepted:
        raise UnsupportedTypeError(_unsupported(media_type, accepted))
    return _json_body(data, content_type) if is_json else Body(media_type, content_type, data)


async def take_in(request: Request, max_bytes: int, cure: str = "; split it into several requests") -> bytes:
    """Take a body in as it is.

    Args:
        request: the request.
        max_bytes: the longest that is taken, whatever length it declares.
        cure: the end of the message about a body that is longer.

    Returns:
        The bytes.

    Raises:
        TooLargeError: it is longer.
        ClientDisconnect: the caller left before its end.
    """
    chunks, length, is_whole = [], 0, False
    while not is_whole:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        length += len(chunk)
        if length > max_bytes:
            raise TooLargeError(f"the body is larger than {max_bytes} bytes{cure}")
        chunks.append(chunk)
        is_whole = not message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _cure(media_type: str, accepted: Sequence[str]) -> str:
    """Say what to do about a body that is too long: which of the accepted types hold more than JSON does, or FLAC."""
    if media_type == JSON:
        others = " or ".join(other for other in accepted if other != JSON)
        return f" of JSON; {f'send {others}, or ' if others else ''}split it into several requests"
    if media_type in SOUNDS:
        smaller = "as audio/flac, or " if media_type != "audio/flac" else ""
        return f"; send it {smaller}at a lower rate, or have LATENTD_MAX_BODY_BYTES raised"
    return "; split it into several requests"


def _unsupported(media_type: str, accepted: Sequence[str]) -> str:
    """Say which types would do."""
    found = f"content type {media_type!r} is not taken here" if media_type else "the body has no content type"
    return f"{found}; send one of: {', '.join(accepted)}"


def _json_body(data: bytes, content_type: str) -> Body:
    """Take a JSON object apart into items and options."""
    try:
        content = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise MalformedError('the JSON body must be an object, such as {"items": [...]}')
    items = content.pop("items", [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ParameterError('"items" must be a list of objects, such as [{"image": "<base64>"}]')
    return Body(JSON, content_type, data, items, content)


def _refuse_constant(name: str) -> None:
    """Refuse what Python reads and JSON has not."""
    raise ValueError(f"{name} is not a JSON value")


def check_kind(body: Body, model: ServedModel, foreign: Sequence[str], kind: str, taken: Sequence[str]) -> None:
    """Refuse a body of the other kind of media than the model is of.

    Args:
        body: a file, or JSON items.
        model: which.
        foreign: media types of the other kind.
        kind: what the model is, for messages.
        taken: media types of files that it takes.

    Raises:
        UnsupportedTypeError: it is such a file.
        ParameterError: an item holds one.
    """
    if body.media_type in foreign:
        raise UnsupportedTypeError(
            f"{model.reference} is {kind}, and the body is {body.media_type}; send {' or '.join(taken)}, "
            "or leave model out, so that the body decides"
        )
    mine, other = ("audio", "image") if foreign is IMAGES else ("image", "audio")
    if any(other in item for item in body.items):
        raise ParameterError(f"an item holds {other!r}, and {model.reference} is {kind}; send {mine!r}")


def modality_of(body: Body) -> Modality | None:
    """Tell what a body holds, as far as that can be seen at its beginning: pictures, sounds, or neither."""
    if body.media_type == FORM:
        return "audio" if _SOUND_PART.search(body.data[:_HEAD_BYTES]) else "image"
    if body.media_type == NPY:
        return "audio" if is_of_floats(body) else "image"
    if body.items:
        return "audio" if "audio" in body.items[0] else "image" if "image" in body.items[0] else None
    kind = body.media_type.partition("/")[0]
    return "audio" if kind == "audio" else "image" if kind == "image" else None


def is_of_floats(body: Body) -> bool:
    """Tell whether an array's header says that it is of floating-point numbers."""
    return _FLOATS.search(body.data[:_HEAD_BYTES]) is not None


def files(
    body: Body, member: str, settings: Settings, *, taken: Sequence[str], beside: Sequence[str] = ()
) -> list[bytes]:
    """Give the files of a body, each as it was before it was wrapped.

    Args:
        body: a file, a form of files, or JSON items.
        member: the member of a JSON item that holds a file in base64.
        settings: the limits.
        taken: types of a file, for a message about one of another.
        beside: other members of a JSON item, which do not count.

    Returns:
        The files in their order; none of an empty body.

    Raises:
        ServiceError: too many, or not wrapped as the body's type says.
    """
    if body.media_type == FORM:
        parts = read_form(body.data, body.content_type, max_files=settings.max_rows)
        for part in parts:
            if part.media_type in (*IMAGES, *SOUNDS) and part.media_type not in taken:
                raise UnsupportedTypeError(_unsupported(part.media_type, taken))
        return [part.content for part in parts]
    if body.media_type == JSON:
        check_rows(settings, len(body.items))
        return [_base64(body.items, index, member, beside) for index in range(len(body.items))]
    return [body.data] if body.data else []


def read_member(item: Mapping[str, object], names: Sequence[str], beside: Sequence[str] = ()) -> object:
    """Give the one member of an item that counts.

    Args:
        item: of a JSON body.
        names: that the member can have; the first that the item has counts.
        beside: names of members that may be there and do not count.

    Raises:
        ParameterError: it has a name that nobody knows, or none of `names`.
    """
    known = (*names, *beside)
    for name in item:
        if name not in known:
            raise unknown(name, known, "an item")
    for name in names:
        if name in item:
            return item[name]
    raise ParameterError(f"an item has no {names[0]!r}; it should be an object with that member")


def _base64(items: Sequence[Mapping[str, object]], index: int, member: str, beside: Sequence[str]) -> bytes:
    """Decode the file of one of the items."""
    with naming(index, len(items)):
        text = read_member(items[index], (member,), beside)
        if not isinstance(text, str):
            raise ParameterError(f"{member!r} must be a string: the file in base64")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise MalformedError(f"{member!r} is not base64: {error}") from error
