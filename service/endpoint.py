"""The one path that every tensor endpoint takes: body, options, model, operation, answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

from jaxtyping import Int32
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from service import answers, bodies, negotiation, pictures, problems
from service.answers import Answer
from service.bodies import (
    IMAGES,
    JSON,
    MEDIA_BODIES,
    NPY,
    OPTION_BODIES,
    SOUNDS,
    Body,
    UnsupportedTypeError,
    modality_of,
)
from service.engine.abilities import Ability
from service.engine.catalog import Modality
from service.engine.lanes import Caller, Lane, as_caller
from service.engine.opening import ServedModel
from service.engine.progress import Progress
from service.errors import ParameterError
from service.jobs import Order, accepted, prefers_job
from service.operations import check_images
from service.option_reading import draws, read_options, read_query, refuse_options
from service.options import Options
from service.presence import while_wanted
from service.replies import Reply
from service.requests import Deadline, Phases, Service, lane_of, service_of
from service.sounds import Sounds, sounds
from service.streaming import EVENTS, EventStream

O = TypeVar("O", bound=Options)  # noqa: E741 - options


@dataclass(slots=True)
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
        offers: what a model of this modality can answer here, the default first.
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
    offers: tuple[str, ...]


async def _by_option(service: Service, body: Body, options: Options) -> str | None:
    """Name the model as the options do, or leave it to the default."""
    del service, body
    return options.model


Preview = Callable[[Call[O], Sequence[Int32[NDArray[Any], "n *grid"]]], Awaitable[bytes]]


@dataclass(frozen=True)
class Endpoint(Generic[O]):
    """What sets one endpoint apart from the others.

    Attributes:
        ability: what the model must be able to do; the path is `/<ability>`.
        options: their type.
        accepted: media types of the body.
        offers: media types of the answer, the default first.
        answer: from the call to what is to be said.
        summary: a sentence for the documentation.
        find: names the model by the body, where that says it.
        preview: shows codes in the making as a PNG; None where there is nothing to be seen before the end.
        echoed: members beside the items of another endpoint's answer, which is taken as it is; they do not count.
        members: JSON schemas of the members beside items and options that `answer` reads.
    """

    ability: Ability
    options: type[O]
    accepted: tuple[str, ...]
    offers: tuple[str, ...]
    answer: Callable[[Call[O]], Awaitable[Answer]]
    summary: str
    find: Callable[[Service, Body, O], Awaitable[str | None]] = _by_option
    preview: "Preview[O] | None" = None
    echoed: Sequence[str] = ()
    members: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where it is."""
        return f"/{self.ability}"

    async def handle(self, request: Request) -> Response:
        """Answer a request.

        Raises:
            ServiceError: whatever is wrong; `service.problems` makes the answer of it.
        """
        service = service_of(request)
        service.engine.check_ready()
        accept = request.headers.get("accept")
        negotiation.choose(accept, self.offers)
        body = await bodies.receive(request, self.accepted, service.settings)
        if body.items and self.accepted == OPTION_BODIES:
            raise ParameterError(f"{self.path} takes options alone, no items; say how many with n")
        options = self._read_options(request, body)
        reference = await self.find(service, body, options)
        model = self._find_model(service, reference, body, options)
        offers = negotiation.offers_of(self.offers, model.manifest.geometry.modality)
        media_type = negotiation.choose(accept, offers)
        deadline = Deadline(service.settings.deadline_s)
        caller = Caller(lane_of(request), deadline.end_s)
        call = Call(service, model, body, options, Phases(), deadline, caller, accept, media_type, offers)
        if media_type == EVENTS and self.preview is not None:
            return self._stream(request, call, self.preview)
        if prefers_job(request.headers.get("prefer", "")):
            return self._defer(request, call)
        return await while_wanted(request.receive, deadline, self._respond(call))

    def _find_model(self, service: Service, reference: str | None, body: Body, options: O) -> ServedModel:
        """Find the model that is named, else the default of what the body holds."""
        if reference is not None:
            model = service.engine.model(reference, self.ability)
        elif self.accepted == MEDIA_BODIES:
            model = service.engine.model(None, self.ability, self._modality(service, body))
        else:
            is_sound = options.sample_rate is not None or options.asked.get("speaker") is not None
            model = service.engine.model(None, self.ability, "audio" if is_sound else None)
        if options.sample_rate is not None and model.manifest.geometry.modality != "audio":
            raise ParameterError(f"sample_rate is given, and {model.reference} is a model of pictures; leave it out")
        return model

    def _modality(self, service: Service, body: Body) -> Modality | None:
        """Tell which kind of model a body is for."""
        modality = modality_of(body)
        if modality != "audio" or service.engine.takes("audio"):
            return modality
        if body.media_type == NPY:
            return "image"
        raise UnsupportedTypeError(
            f"the body holds {' or '.join(SOUNDS)}, and no audio model is served; send one of: {', '.join(IMAGES)}"
        )

    def _stream(self, request: Request, call: Call[O], preview: Preview[O]) -> Response:
        """Answer with what there is of the answer, as it grows."""
        call.caller.progress = Progress()
        work = partial(self._respond, replace(call, accept=JSON, media_type=JSON))
        return EventStream(request, call.deadline, call.caller.progress, work, partial(preview, call))

    def _defer(self, request: Request, call: Call[O]) -> Response:
        """Answer that the answer comes later."""
        service, deadline, progress = call.service, Deadline(call.service.settings.job_deadline_s), Progress()
        later = replace(call, deadline=deadline, caller=Caller(Lane.BULK, deadline.end_s, progress=progress))
        order = Order(
            self.path,
            call.model.reference,
            len(call.body.data),
            deadline.limit_s,
            progress,
            partial(self._respond, later),
            partial(problems.answer, request),
        )
        return accepted(service.jobs.accept(order))

    def _read_options(self, request: Request, body: Body) -> O:
        """Read the options of the query and of a JSON body."""
        if not body.members and not draws(self.options):
            return read_query(self.options, request.scope["query_string"])
        others = (*self.echoed, *self.members)
        members = {name: value for name, value in body.members.items() if name not in others}
        return read_options(self.options, request.query_params.multi_items(), members)

    async def _respond(self, call: Call[O]) -> Response:
        """Compute and write an answer, and count its items."""
        with as_caller(call.caller):
            answer = await self.answer(call)
        media_type = answer.media_type or call.media_type
        write = partial(answers.write, answer, media_type, call.model.reference, call.service.settings)
        with call.phases.measure("encode"):
            content = write() if answer.is_small(media_type) else await call.service.off_loop(write)
        call.phases.durations_ms["queue"] = call.caller.queue_s * 1e3
        call.service.metrics.requests.observe_rows(self.path, len(answer), call.phases.durations_ms)
        return Reply(content, media_type, _headers(answer, call))


def _headers(answer: Answer, call: Call[Any]) -> list[tuple[str, str]]:
    """Give the headers that every answer bears."""
    headers = [
        ("x-latentd-model", call.model.reference),
        ("server-timing", call.phases.header()),
        *answer.headers.items(),
    ]
    if answer.seed is not None:
        headers.append(("x-latentd-seed", str(answer.seed)))
    if answer.sample_rates_hz:
        headers.append(("x-latentd-sample-rate", answers.figures(answer.sample_rates_hz, 0)))
    return headers


async def read_inputs(call: Call[Any]) -> pictures.Pictures | Sounds:
    """Read a call's pictures or sounds, whichever its model takes, in a thread."""
    if call.model.manifest.geometry.modality == "audio":
        return await read_sounds(call)
    return await read_pictures(call)


async def read_sounds(call: Call[Any]) -> Sounds:
    """Read a call's sounds in a thread, checked against the model."""

    def read() -> Sounds:
        options, settings = call.options, call.service.settings
        refuse_options(options, ("binarize",), f"{call.model.reference} is a model of sounds")
        return sounds(call.body, call.model, options.fit, options.sample_rate, settings, call.deadline.check)

    with call.phases.measure("media"):
        return read() if call.body.is_cheap else await call.service.off_loop(read)


async def read_pictures(call: Call[Any]) -> pictures.Pictures:
    """Read a call's pictures in a thread, checked against the model."""

    def read() -> pictures.Pictures:
        options = call.options
        given = pictures.pictures(call.body, call.model, options.fit, call.service.settings, call.deadline.check)
        images = check_images(call.model, given.images, binarize=options.binarize)
        return pictures.Pictures(images, given.placements)

    with call.phases.measure("media"):
        return read() if call.body.is_cheap else await call.service.off_loop(read)
