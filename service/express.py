"""The express way to `/encode`: a request of the same head and the same kind of body as one before is not decided anew.

Reading options, choosing a type and holding shapes against a model take longer than moving a small array. What comes of
them depends on the head of the request, the header of its body and the served models alone. Small pictures are decoded
where they are: to hand them to a thread and back would take as long.
"""

import math
import time
from dataclasses import dataclass
from typing import Literal
from weakref import ref

import numpy as np
from jaxtyping import UInt8
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from media.arrays import write_npy
from media.errors import MediaError
from media.images import read_image
from service import bodies, negotiation, pictures
from service.bodies import NPY, Body
from service.endpoint import Endpoint
from service.engine.lanes import Caller, as_caller
from service.engine.opening import ServedModel
from service.errors import ServiceError
from service.metrics import Metrics
from service.operations import check_images
from service.option_reading import choose_output, read_query
from service.options import EncodeOptions
from service.presence import while_wanted
from service.replies import Reply
from service.requests import Deadline, Phases, Service, lane_named
from service.windows import is_cut

_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
BODIES = (b"application/x-npy", b"image/png")
"""Types of a body that goes this way."""
_OTHER_WAYS = (b"prefer", b"expect")
"""Headers that ask for more than an answer."""

MOST_BYTES = 2**20
_MOST_PNG_BYTES, _MOST_PNG_PIXELS = 2**15, 2**14
"""What is larger is read in a thread, by the endpoint."""
_MOST_KNOWN, _MOST_KEY_BYTES = 1024, 2**12

_CODES = ("codes",)
"""What a graph of codes gives whose outputs are answered as they are; of real-valued latents all do."""
_OPTIONS = frozenset(("model", "output"))
"""Those that leave the pictures and the outputs as they are."""

_CHANNELS: dict[int, Literal[1, 3]] = {1: 1, 3: 3}
_Key = tuple[bytes, bytes, bytes]
_Images = UInt8[np.ndarray, "B H W C"]
Buffer = bytes | memoryview
"""A body: as it came, or where its pieces were laid."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done with a request.

    Attributes:
        model: that encodes; it is not kept alive.
        generation: of the catalog, when this was decided; with other models served it may be decided otherwise.
        shape: of the pictures.
        output: of the graph, that is answered.
        values: the only pixel values that are taken; None for any.
    """

    model: "ref[ServedModel]"
    generation: int
    shape: tuple[int, ...]
    output: str
    values: bytes | None


@dataclass(frozen=True, slots=True)
class Match:
    """A request that is answered here.

    Attributes:
        model: that encodes.
        images: the pictures.
        output: of the graph, that is answered.
    """

    model: ServedModel
    images: _Images
    output: str


class Express:
    """Answers POSTs of arrays to `/encode` that want an array back.

    Args:
        endpoint: `/encode`, which answers everything else that is sent there.

    Attributes:
        endpoint: likewise.
    """

    def __init__(self, endpoint: Endpoint[EncodeOptions]) -> None:
        self.endpoint = endpoint
        self._known: dict[_Key, Decision] = {}

    async def handle(self, scope: Scope, receive: Receive) -> Response:
        """Answer a request, by the endpoint where it is not one of those.

        Raises:
            ServiceError: see `Endpoint.handle`.
        """
        if (outcome := scope.get("outcome")) is not None:
            return _go_on(outcome)
        service: Service = scope["app"].state.service
        head = dict(scope["headers"])
        is_other = scope.get("is_unmatched", False) or any(name in head for name in _OTHER_WAYS)
        if is_other or head.get(b"content-type") not in BODIES:
            return await self.endpoint.handle(Request(scope, receive))
        service.engine.check_ready()
        body = await bodies.take_in(Request(scope, receive), service.settings.max_body_bytes)
        found = self.match(scope["query_string"], head.get(b"accept", b""), head[b"content-type"], body, service)
        if found is None:
            return await self.endpoint.handle(Request(scope, _again(body, receive)))
        deadline = Deadline(service.settings.deadline_s)
        caller = Caller(lane_named(head.get(b"priority", b"")), deadline.end_s)
        response = await while_wanted(receive, deadline, self._encode(found, caller, service))
        scope["state"]["rows"] = len(found.images)
        return response

    async def _encode(self, found: Match, caller: Caller, service: Service) -> Response:
        """Run the graph and write its output."""
        start_s = time.perf_counter()
        with as_caller(caller):
            outputs = await service.engine.run(found.model, "encode", {"x": found.images})
        work_s = time.perf_counter() - start_s
        return self.reply(outputs[found.output], found.model.reference, caller, work_s, service.metrics)

    def reply(self, output: np.ndarray, reference: str, caller: Caller, work_s: float, metrics: Metrics) -> Reply:
        """Write an answer, and count its items.

        Args:
            output: of the graph, `[B, ...]`.
            reference: of the model.
            caller: who asked.
            work_s: how long the graph took, with the wait for it.
            metrics: where that is counted.

        Returns:
            The answer.
        """
        phases = Phases()
        phases.durations_ms["compute"] = work_s * 1e3
        phases.durations_ms["queue"] = caller.queue_s * 1e3
        metrics.requests.observe_rows(self.endpoint.path, len(output), phases.durations_ms)
        return Reply(write_npy(output), NPY, (("x-latentd-model", reference), ("server-timing", phases.header())))

    def wants_array(self, accept: bytes) -> bool:
        """Tell whether an array is what a caller likes best, by the Accept header; empty where there is none."""
        try:
            return negotiation.choose(accept.decode("latin-1"), self.endpoint.offers) == NPY
        except ServiceError:
            return False

    def match(self, query: bytes, accept: bytes, content_type: bytes, body: Buffer, service: Service) -> Match | None:
        """Find what is done with a request.

        Args:
            query: of the request.
            accept: its header; empty where there is none.
            content_type: likewise, one of `BODIES`.
            body: all of it.
            service: what all requests share.

        Returns:
            What is run; None where the endpoint shall answer, or say what is wrong.
        """
        decision = self._decide(query, accept, content_type, body, service)
        model = None if decision is None else decision.model()
        images = None if decision is None else _read(body, decision)
        return None if decision is None or model is None or images is None else Match(model, images, decision.output)

    def _decide(
        self, query: bytes, accept: bytes, content_type: bytes, body: Buffer, service: Service
    ) -> Decision | None:
        """Find what is done with a body of this kind; None where that is not known."""
        if (header := _header(content_type, body)) is None:
            return None
        key = (query, accept, header)
        if sum(map(len, key)) > _MOST_KEY_BYTES:
            return None
        decision = self._known.get(key)
        if decision is None or decision.generation != service.engine.catalog.generation:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            if (decision := self._judge(query, accept, content_type, bytes(body), service)) is not None:
                self._known[key] = decision
        return decision

    def _judge(
        self, query: bytes, accept: bytes, content_type: bytes, body: bytes, service: Service
    ) -> Decision | None:
        """Decide as the endpoint would; None where that is not to take the pictures as they are for an array."""
        engine, media_type = service.engine, content_type.decode()
        try:
            options = read_query(EncodeOptions, query)
            model = engine.model(options.model, "encode", "image")
            names = tuple(tensor.name for tensor in model.manifest.graphs["encode"].outputs)
            is_plain = model.code_level is None or names == _CODES
            if not is_plain or not options.model_fields_set <= _OPTIONS or not self.wants_array(accept):
                return None
            output = choose_output(options.output, names, names)[0]
            given = pictures.pictures(
                Body(media_type, media_type, body), model, "error", service.settings, lambda: None
            )
            images = check_images(model, given.images, binarize=None)
        except (ServiceError, MediaError):
            return None
        if is_cut(service.settings, model, images.shape[1:3]):
            return None
        values = model.manifest.graphs["encode"].inputs[0].values
        allowed = None if values is None else bytes(values)
        decision = Decision(ref(model), engine.catalog.generation, images.shape, output, allowed)
        # What is read the short way must be what is read the long way, whatever the header says.
        is_same = (short := _read(body, decision)) is not None and np.array_equal(short, images)
        return decision if is_same else None


def _go_on(outcome: Response | Exception) -> Response:
    """Go on with what has become of a request elsewhere."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _header(content_type: bytes, body: Buffer) -> bytes | None:
    """Give what a body says of itself; None for one that is read elsewhere."""
    if content_type == b"application/x-npy" and body[:8] == _NPY_MAGIC and len(body) <= MOST_BYTES:
        return bytes(body[: 10 + int.from_bytes(body[8:10], "little")])
    if content_type == b"image/png" and body[:16] == _PNG_MAGIC and len(body) <= _MOST_PNG_BYTES:
        pixels = int.from_bytes(body[16:20], "big") * int.from_bytes(body[20:24], "big")
        return bytes(body[:29]) if pixels <= _MOST_PNG_PIXELS else None
    return None


def _read(body: Buffer, decision: Decision) -> _Images | None:
    """Read the pictures; None where they are not what was decided on."""
    if body[:16] == _PNG_MAGIC:
        try:
            images = read_image(bytes(body), channels=_CHANNELS[decision.shape[3]], max_pixels=_MOST_PNG_PIXELS)[None]
        except MediaError:
            return None
        if images.shape != decision.shape:
            return None
    else:
        offset = 10 + int.from_bytes(body[8:10], "little")
        if len(body) - offset != math.prod(decision.shape):
            return None
        images = np.frombuffer(body, np.uint8, offset=offset).reshape(decision.shape)
    is_foreign = decision.values is not None and images.tobytes().translate(None, decision.values)
    return None if is_foreign else images


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that has been received once more, before what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
