"""The codebook of a model of integer codes."""

import json
from functools import partial

import numpy as np
from fastapi import APIRouter
from jaxtyping import Float32
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from codec.layout import MAX_LEVELS
from media.arrays import write_npy
from service import discrete, documentation, negotiation
from service.bodies import JSON, NPY
from service.engine.lanes import Caller, as_caller
from service.limits import check_json_values
from service.option_reading import read_options
from service.options import NoOptions
from service.presence import while_wanted
from service.requests import Deadline, Phases, service_of

router = APIRouter(tags=["models"])

_OFFERS = (JSON, NPY)
_SUMMARY = "The vector of every code of one codebook, float32 [K, D]."
_SCHEMA = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "codebook": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    },
    "required": ["model", "codebook"],
}


class CodebookOptions(NoOptions):
    """Which codebook of a model is told."""

    level: int = Field(default=0, ge=0, le=MAX_LEVELS, description="index of the level, the coarsest first")
    codebook: int = Field(default=0, ge=0, le=2**31, description="index of the codebook in its level")


@router.get(
    "/models/{name}/codebook",
    summary=_SUMMARY,
    openapi_extra={"parameters": documentation.parameters_of(CodebookOptions)},
    responses=documentation.responses(_SUMMARY, _OFFERS, _SCHEMA),
    response_class=Response,
)
async def codebook(request: Request, name: str) -> Response:
    """Answer a codebook."""
    options = read_options(CodebookOptions, request.query_params.multi_items(), {})
    media_type = negotiation.choose(request.headers.get("accept"), _OFFERS)
    service = service_of(request)
    service.engine.check_ready()
    model = service.engine.named(name)[-1]
    deadline, phases = Deadline(service.settings.deadline_s), Phases()
    with as_caller(Caller(expires_s=deadline.end_s)):
        with phases.measure("compute"):
            asked = discrete.codebook(service.engine, model, level=options.level, codebook=options.codebook)
            vectors = await while_wanted(request.receive, deadline, asked)
        if media_type == JSON:
            check_json_values(service.settings, vectors.size)
        with phases.measure("encode"):
            content = await service.off_loop(partial(_write, vectors, media_type, model.reference))
    headers = {"x-latentd-model": model.reference, "server-timing": phases.header()}
    return Response(content, headers=headers, media_type=media_type)


def _write(vectors: Float32[np.ndarray, "K D"], media_type: str, reference: str) -> bytes:
    """Write the answer's body."""
    if media_type == NPY:
        return write_npy(vectors)
    return json.dumps({"model": reference, "codebook": vectors.tolist()}, separators=(",", ":")).encode()
