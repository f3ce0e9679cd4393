"""`POST /v2/models/.../infer`: tensors to tensors, past the framework's routing."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from service.bodies import CHEAP_BYTES, JSON, take_in
from service.engine.lanes import Caller, Lane, as_caller
from service.errors import ParameterError
from service.limits import check_json_values
from service.presence import while_wanted
from service.replies import Reply
from service.requests import Deadline, Phases, Service, lane_of, service_of
from service.v2 import checks, compression, messages
from service.v2.messages import HEADER_LENGTH, InferRequest
from service.v2.names import DATATYPES, PREFIX, Target, find

BINARY = "application/octet-stream"

_BEFORE, _BEHIND = f"{PREFIX}/models/", "/infer"
_CHEAP_JSON_BYTES = 4096
_BULK_FROM = 2
"""The protocol's priority 1 is the highest, 0 the default."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Inference:
    """A request for inference, by its path.

    Attributes:
        name: the protocol's name of the model.
        version: as the path has it; None where it has none.
    """

    name: str
    version: str | None = None

    @classmethod
    def at(cls, path: str) -> "Inference | None":
        """Read a path; None where it is another one."""
        if not (path.startswith(_BEFORE) and path.endswith(_BEHIND)):
            return None
        match path[len(_BEFORE) : -len(_BEHIND)].split("/"):
            case [name]:
                return cls(name)
            case [name, "versions", version]:
                return cls(name, version)
        return None

    @property
    def path(self) -> str:
        """Where it is, for the metrics: names that callers make up are not told apart."""
        return f"{_BEFORE}{{model}}{'' if self.version is None else '/versions/{version}'}{_BEHIND}"

    async def handle(self, request: Request) -> Response:
        """Answer a request.

        Raises:
            ServiceError: whatever is wrong; `service.problems` makes the answer of it.
        """
        service, phases = service_of(request), Phases()
        service.engine.check_ready()
        target = find(service.engine, self.name, self.version)
        body = await take_in(request, service.settings.max_body_bytes)
        with phases.measure("media"):
            asked, inputs = await _read(request, service, body, target)
        wanted = _wanted(asked, target)
        deadline = _deadline(service, asked)
        lane = Lane.BULK if asked.parameters.priority >= _BULK_FROM else lane_of(request)
        with as_caller(Caller(lane, deadline.end_s)) as caller:
            running = service.engine.run(target.model, target.role, inputs)
            with phases.measure("compute"):
                outputs = await while_wanted(request.receive, deadline, running)
        with phases.measure("encode"):
            write = partial(_write, asked, target, {name: outputs[name] for name in wanted}, wanted, service)
            is_small = all(wanted.values()) and sum(outputs[name].nbytes for name in wanted) <= CHEAP_BYTES
            content, header_length = write() if is_small else await service.off_loop(write)
        rows = len(next(iter(inputs.values())))
        phases.durations_ms["queue"] = caller.queue_s * 1e3
        service.metrics.requests.observe_rows(self.path, rows, phases.durations_ms)
        headers = [("x-latentd-model", target.model.reference), ("server-timing", phases.header())]
        if header_length is None:
            return Reply(content, JSON, headers)
        return Reply(content, BINARY, [*headers, (HEADER_LENGTH, str(header_length))])


async def _read(request: Request, service: Service, body: bytes, target: Target) -> tuple[InferRequest, Arrays]:
    """Read and check a body, in a thread where that takes long."""
    headers, settings = request.headers, service.settings
    encoding, header_length = headers.get("content-encoding", ""), headers.get(HEADER_LENGTH)

    def read() -> tuple[InferRequest, Arrays]:
        content = compression.decompress(body, encoding, settings.max_body_bytes)
        asked, binary = messages.split(content, header_length, settings.max_json_body_bytes)
        inputs = messages.read_inputs(asked, binary, target)
        checks.check(settings, target, inputs)
        return asked, inputs

    is_small = not encoding and len(body) <= CHEAP_BYTES
    is_cheap = is_small and messages.json_length(header_length, len(body)) <= _CHEAP_JSON_BYTES
    return read() if is_cheap else await service.off_loop(read)


def _wanted(asked: InferRequest, target: Target) -> dict[str, bool]:
    """Give the outputs that are asked for, and whether each shall follow the JSON object as bytes."""
    names = [tensor.name for tensor in target.outputs]
    default = asked.parameters.binary_data_output
    if not asked.outputs:
        return dict.fromkeys(names, default)
    wanted: dict[str, bool] = {}
    for output in asked.outputs:
        if output.name not in names or output.name in wanted:
            raise ParameterError(
                f"output {output.name[:80]!r} is unknown or asked for twice; {target.name} gives: {', '.join(names)}"
            )
        binary = output.parameters.binary_data
        wanted[output.name] = default if binary is None else binary
    return wanted


def _deadline(service: Service, asked: InferRequest) -> Deadline:
    """Give the service's deadline, or the caller's where that is earlier."""
    limit_s, timeout = service.settings.deadline_s, asked.parameters.timeout
    return Deadline(limit_s if timeout is None else min(limit_s, timeout / 1e6))


def _write(
    asked: InferRequest, target: Target, outputs: Arrays, wanted: dict[str, bool], service: Service
) -> tuple[bytes, int | None]:
    """Write an answer, and tell how long its JSON object is where bytes follow it."""
    in_json = [array for name, array in outputs.items() if not wanted[name]]
    check_json_values(service.settings, sum(array.size for array in in_json), "ask for binary_data_output")
    binary: list[memoryview] = []
    tensors = []
    for name, array in outputs.items():
        tensor: dict[str, Any] = {"name": name, "datatype": DATATYPES[str(array.dtype)], "shape": array.shape}  # type: ignore[index]  # a manifest's type
        if wanted[name]:
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            binary.append(_to_bytes(array))
        else:
            tensor["data"] = array.ravel().tolist()
        tensors.append(tensor)
    document: dict[str, Any] = {"model_name": target.name, "model_version": target.version}
    if asked.id is not None:
        document["id"] = asked.id
    try:
        head = json.dumps(document | {"outputs": tensors}, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise ParameterError(
            "an output holds numbers that are not finite, which JSON cannot; ask for binary_data_output"
        ) from error
    return b"".join((head, *binary)), len(head) if binary else None


def _to_bytes(array: NDArray[Any]) -> memoryview:
    """Give an array's elements in row-major order, little-endian."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data
