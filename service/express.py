"""The express way of arrays: a request of the same head and the same kind of array as one before is not decided anew.

Reading options, choosing a type and holding shapes against a model take longer than moving a small array. What comes of
them depends on the head of the request, the header of its array and the served models alone.
"""

import time
from dataclasses import dataclass
from weakref import ref

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from media.arrays import write_npy
from media.errors import MediaError
from service import bodies, negotiation
from service.bodies import NPY, Body
from service.discrete import level_of
from service.endpoint import Endpoint
from service.engine.lanes import Caller, as_caller
from service.engine.opening import ServedModel
from service.errors import ServiceError
from service.operations import check_images
from service.options import EncodeOptions, choose_output, read_query
from service.presence import while_wanted
from service.replies import Reply
from service.requests import Deadline, Phases, Service, lane_named

_MAGIC = b"\x93NUMPY\x01\x00"
_MOST_KNOWN = 1024
_MOST_BYTES = 2**20
"""Larger arrays are read in a thread, by the endpoint."""
_OTHER_WAYS = (b"prefer", b"expect")
"""Headers that ask for more than an answer."""

_Key = tuple[bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done with a request.

    Attributes:
        model: that encodes; it is not kept alive.
        generation: of the catalog, when this was decided; with other models served it may be decided otherwise.
        shape: of the array.
        offset: where its data begin in the body.
        size: of the body, in bytes.
        output: of the graph, that is answered.
        values: the only pixel values that are taken; None for any.
    """

    model: "ref[ServedModel]"
    generation: int
    shape: tuple[int, ...]
    offset: int
    size: int
    output: str
    values: bytes | None


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
        service: Service = scope["app"].state.service
        head = dict(scope["headers"])
        if head.get(b"content-type") != b"application/x-npy" or any(name in head for name in _OTHER_WAYS):
            return await self.endpoint.handle(Request(scope, receive))
        service.engine.check_ready()
        body = await bodies.take_in(Request(scope, receive), service.settings.max_body_bytes)
        decision = self._decide(scope, head, body, service)
        model = None if decision is None else decision.model()
        if decision is None or model is None:
            return await self.endpoint.handle(Request(scope, _again(body, receive)))
        deadline = Deadline(service.settings.deadline_s)
        caller = Caller(lane_named(head.get(b"priority", b"")), deadline.end_s)
        work = self._encode(scope, body, decision, model, caller, service)
        return await while_wanted(receive, deadline, work)

    async def _encode(
        self, scope: Scope, body: bytes, decision: Decision, model: ServedModel, caller: Caller, service: Service
    ) -> Response:
        """Run the graph and write its output."""
        images = np.frombuffer(body, np.uint8, offset=decision.offset).reshape(decision.shape)
        start_s = time.perf_counter()
        with as_caller(caller):
            outputs = await service.engine.run(model, "encode", {"x": images})
        content = write_npy(outputs[decision.output])
        phases = Phases()
        phases.durations_ms["compute"] = (time.perf_counter() - start_s) * 1e3
        phases.durations_ms["queue"] = caller.queue_s * 1e3
        rows = decision.shape[0]
        scope["state"]["rows"] = rows
        service.metrics.requests.observe_rows(self.endpoint.path, rows, phases.durations_ms)
        headers = (("x-latentd-model", model.reference), ("server-timing", phases.header()))
        return Reply(content, NPY, headers)

    def _decide(self, scope: Scope, head: dict[bytes, bytes], body: bytes, service: Service) -> Decision | None:
        """Find what is done with a request; None where the endpoint shall answer, or say what is wrong."""
        if not body.startswith(_MAGIC):
            return None
        offset = 10 + int.from_bytes(body[8:10], "little")
        key = (scope["query_string"], head.get(b"accept", b""), body[:offset])
        decision = self._known.get(key)
        if decision is None or decision.generation != service.engine.catalog.generation:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            if (decision := self._judge(*key, body, service)) is None:
                return None
            self._known[key] = decision
        if len(body) != decision.size or (decision.values and body[offset:].translate(None, decision.values)):
            return None
        return decision

    def _judge(self, query: bytes, accept: bytes, header: bytes, body: bytes, service: Service) -> Decision | None:
        """Decide as the endpoint would; None where that is not to take the array as it is and answer with an array."""
        engine = service.engine
        try:
            options = read_query(EncodeOptions, query)
            media_type = negotiation.choose(accept.decode("latin-1"), self.endpoint.offers)
            model = engine.model(options.model, "encode", "image")
            names = ("mean", "log_variance") if model.code_level is None else _codes_of(model)
            output = choose_output(options.output, names, names)[0]
            given = bodies.pictures(Body(NPY, NPY, body), model, "error", service.settings, lambda: None)
            images = check_images(model, given.images, binarize=None)
        except (ServiceError, MediaError):
            return None
        if media_type != NPY or options.binarize is not None or len(body) > _MOST_BYTES:
            return None
        (tensor,) = model.manifest.graphs["encode"].inputs
        values = None if tensor.values is None else bytes(tensor.values)
        generation = engine.catalog.generation
        return Decision(ref(model), generation, images.shape, len(header), len(body), output, values)


def _codes_of(model: ServedModel) -> tuple[str, ...]:
    """Name the output of a model of codes; refuse one whose codes are not one grid."""
    level_of(model)
    return ("codes",)


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that has been received once more, before what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
