"""The one path that every tensor endpoint takes: body, options, model, operation, answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from artifact.manifest import Capability
from service import answers, bodies, negotiation
from service.answers import Answer
from service.bodies import Body
from service.engine import ServedModel
from service.errors import UnavailableError
from service.options import Options, read_options
from service.requests import Deadline, Phases, Service, service_of

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
    """

    service: Service
    model: ServedModel
    body: Body
    options: O
    phases: Phases
    deadline: Deadline


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
    """

    capability: Capability
    options: type[O]
    accepted: Sequence[str]
    offers: Sequence[str]
    answer: Callable[[Call[O]], Awaitable[Answer]]
    summary: str

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
        if service.engine.state != "ready":
            raise UnavailableError(f"the service is {service.engine.state}; GET /readyz tells when it is ready")
        media_type = negotiation.choose(request.headers.get("accept"), self.offers)
        body = await bodies.receive(request, self.accepted, service.settings.max_body_bytes)
        options = read_options(self.options, request.query_params.multi_items(), body.members)
        model = service.engine.model(options.model, self.capability, "image")
        deadline, phases = Deadline(service.settings.deadline_s), Phases()
        call = Call(service, model, body, options, phases, deadline)
        try:
            async with asyncio.timeout(service.settings.deadline_s):
                answer = await self.answer(call)
                with phases.measure("encode"):
                    content = await service.off_loop(lambda: answers.write(answer, media_type, model.reference))
        except TimeoutError as error:
            raise deadline.error() from error
        finally:
            deadline.abandon()
        service.metrics.observe_rows(self.path, len(answer))
        return Response(content, headers=_headers(answer, model, phases), media_type=media_type)


def _headers(answer: Answer, model: ServedModel, phases: Phases) -> dict[str, str]:
    """Give the headers that every answer bears."""
    headers = {"x-latentd-model": model.reference, "server-timing": phases.header(), **answer.headers}
    return headers if answer.seed is None else headers | {"x-latentd-seed": str(answer.seed)}


async def read_pictures(call: Call[Any]) -> bodies.Pictures:
    """Read a call's pictures in a thread."""
    with call.phases.measure("media"):
        return await call.service.off_loop(
            lambda: bodies.pictures(call.body, call.model, call.options.fit, call.service.settings, call.deadline.check)
        )
