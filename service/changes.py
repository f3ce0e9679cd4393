"""Changes to what is served that callers ask for, where the settings let them: here, and in the sibling processes."""

from urllib.parse import quote

from starlette.requests import Request

from service.engine.lifecycle import Changes
from service.errors import ForbiddenError, LoadError, UnavailableError
from service.requests import Service, service_of
from service.siblings import is_from_sibling, siblings_of

_TIMEOUT_S = 600.0


async def reload(request: Request) -> Changes:
    """Serve what the store holds now; see `Lifecycle.reload`.

    Raises:
        ForbiddenError: callers may not change what is served.
        LoadError: the store is empty or cannot be read, or a sibling has failed.
    """
    made = await _allowed(request).engine.lifecycle.reload()
    await _repeat(request, "/models/reload")
    return made


async def load(request: Request, name: str, version: int | None) -> Changes:
    """Serve a model; see `Lifecycle.load`.

    Raises:
        ForbiddenError: callers may not change what is served.
        UnknownModelError: the store has no such model or version.
        LoadError: it could not be loaded, here or by a sibling.
    """
    made = await _allowed(request).engine.lifecycle.load(name, version)
    await _repeat(request, _path(name, version, "load"))
    return made


async def unload(request: Request, name: str, version: int | None) -> Changes:
    """Serve a model no longer; see `Lifecycle.unload`.

    Raises:
        ForbiddenError: callers may not change what is served.
        UnknownModelError: it is not served.
        LoadError: a sibling has failed.
    """
    made = await _allowed(request).engine.lifecycle.unload(name, version)
    await _repeat(request, _path(name, version, "unload"))
    return made


def _allowed(request: Request) -> Service:
    """Give the service where callers may change what it serves."""
    service = service_of(request)
    service.engine.check_ready()
    if not service.settings.control:
        raise ForbiddenError(
            "callers may not change what is served; start the service with LATENTD_CONTROL=on to let them, or send the "
            "process SIGHUP to reload"
        )
    return service


def _path(name: str, version: int | None, change: str) -> str:
    reference = name if version is None else f"{name}@{version}"
    return f"/v2/repository/models/{quote(reference)}/{change}"


async def _repeat(request: Request, path: str) -> None:
    """Ask the siblings for what has been done here."""
    if is_from_sibling(request.scope):
        return
    answers = await siblings_of(request).broadcast("POST", path, timeout_s=_TIMEOUT_S)
    faults = [
        f"worker {worker}: {answer if isinstance(answer, UnavailableError) else answer.body.decode(errors='replace')}"
        for worker, answer in answers.items()
        if isinstance(answer, UnavailableError) or answer.status != 200
    ]
    if faults:
        raise LoadError(f"it is done, but not by every process; ask again, or restart them: {'; '.join(faults)}")
