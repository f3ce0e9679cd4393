"""The one path that every tensor endpoint takes: body, options, model, operation, answer."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from artifact.manifest import Capability
from service import answers, bodies, negotiation
from service.answers import Answer
from service.bodies import OPTION_BODIES, Body
from service.engine.lanes import Caller, as_caller
from service.engine.opening import ServedModel
from service.errors import ParameterError
from service.operations import check_images
from service.options import Options, draws, read_options, read_query
from service.presence import while_wanted
from service.requests import Deadline, Phases, Service, lane_of, service_of

O = TypeVar("O", bound=Options)  # noqa: E741 - options


@dataclass(frozen=True)
class Call(Generic[O]):
    """One request as an endpoint's own function sees it.

    Attributes:
        service: what all requests share.
        model: that answers.
        body: as it came.
        options: typed.
        phases: for the time that each phase takes.
        deadline: for threads to ask.
        caller: what the engine knows of it.
        accept: the Accept header; None where there is none.
        media_type: what the caller likes best of all that the endpoint offers.
    """

    service: Service
    model: ServedModel
    body: Body
    options: O
    phases: Phases
    deadline: Deadline
    caller: Caller
    accept: str | None
    media_type: str


async def _by_option(service: Service, body: Body, options: Options) -> str | None:
    """Name the model as the options do, or leave it to the default."""
    del service, body
    return options.model


@dataclass(frozen=True)
class Endpoint(Generic[O]):
    """What sets one endpoint apart from the others.

    Attributes:
        capability: what the model must have; the path is `/<capability>`.
        options: their type.
        accepted: media types of the body.
        offers: media types of the answer, the default first.
        answer: from the call to what is to be said.
        summary: a sentence for the documentation.
        find: names the model by the body, where that says it.
        echoed: members beside the items of another endpoint's answer, which is taken as it is; they do not count.
    """

    capability: Capability
    options: type[O]
    accepted: tuple[str, ...]
    offers: tuple[str, ...]
    answer: Callable[[Call[O]], Awaitable[Answer]]
    summary: str
    find: Callable[[Service, Body, O], Awaitable[str | None]] = _by_option
    echoed: Sequence[str] = ()

    @property
    def path(self) -> str:
        """Where it is."""
        return f"/{self.capability}"

    async def handle(self, request: Request) -> Response:
        """Answer a request.

        Raises:
            ServiceError: whatever is wrong; `service.problems` makes the answer of it.
        """
        service = service_of(request)
        service.engine.check_ready()
        accept = request.headers.get("accept")
        media_type = negotiation.choose(accept, self.offers)
        body = await bodies.receive(request, self.accepted, service.settings)
        if body.items and self.accepted == OPTION_BODIES:
            raise ParameterError(f"{self.path} takes options alone, no items; say how many with n")
        options = self._read_options(request, body)
        reference = await self.find(service, body, options)
        model = service.engine.model(reference, self.capability, "image")
        deadline = Deadline(service.settings.deadline_s)
        with as_caller(Caller(lane_of(request), deadline.end_s)) as caller:
            call = Call(service, model, body, options, Phases(), deadline, caller, accept, media_type)
            response, rows = await while_wanted(request.receive, deadline, self._respond(call))
        service.metrics.observe_rows(self.path, rows)
        return response

    def _read_options(self, request: Request, body: Body) -> O:
        """Read the options of the query and of a JSON body."""
        if not body.members and not draws(self.options):
            return read_query(self.options, request.scope["query_string"])
        members = {name: value for name, value in body.members.items() if name not in self.echoed}
        return read_options(self.options, request.query_params.multi_items(), members)

    async def _respond(self, call: Call[O]) -> tuple[Response, int]:
        """Compute and write an answer, and count its items."""
        answer = await self.answer(call)
        media_type = answer.media_type or call.media_type
        write = partial(answers.write, answer, media_type, call.model.reference, call.service.settings)
        with call.phases.measure("encode"):
            content = write() if answer.is_small(media_type) else await call.service.off_loop(write)
        return Response(content, headers=_headers(answer, call), media_type=media_type), len(answer)


def _headers(answer: Answer, call: Call[Any]) -> dict[str, str]:
    """Give the headers that every answer bears."""
    timing = call.phases.header(call.caller.queue_s)
    headers = {"x-latentd-model": call.model.reference, "server-timing": timing, **answer.headers}
    return headers if answer.seed is None else headers | {"x-latentd-seed": str(answer.seed)}


async def read_pictures(call: Call[Any]) -> bodies.Pictures:
    """Read a call's pictures in a thread, checked against the model."""

    def read() -> bodies.Pictures:
        options = call.options
        given = bodies.pictures(call.body, call.model, options.fit, call.service.settings, call.deadline.check)
        images = check_images(call.model, given.images, binarize=options.binarize)
        return bodies.Pictures(images, given.placements)

    with call.phases.measure("media"):
        return read() if call.body.is_cheap else await call.service.off_loop(read)
