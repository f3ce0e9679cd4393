"""Who may ask, and how often: API keys, rates, and the pages of other origins."""

import hashlib
import hmac
import logging
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service import documentation, problems
from service.errors import ConfigurationError, RateLimitedError, ServiceError, UnauthorizedError
from service.rates import Limiter, Rate
from service.settings import Settings
from service.siblings import is_from_sibling

PROBES = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Paths that whoever runs the service asks without a key, as often as they like."""

_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<digest>[0-9a-fA-F]{64})"
    r"(?::(?P<per_s>\d+(?:\.\d+)?)(?::(?P<burst>\d+))?)?"
)
_FORM = "expected name:sha256-of-key, then :rate_per_s and :burst where the key has a rate"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """An API key, which itself is kept nowhere.

    Attributes:
        name: its holder's, for the log.
        digest: SHA-256 of the key.
        rate: its limit; None for none.
    """

    name: str
    digest: bytes
    rate: Rate | None


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a file of keys: a line each, what follows a # is a comment.

    Args:
        path: of the file.

    Returns:
        The keys, at least one.

    Raises:
        ConfigurationError: the file cannot be read, or a line is not as it should be.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"LATENTD_API_KEYS_FILE {path} cannot be read: {error}") from error
    keys: list[Key] = []
    for number, line in enumerate(lines, start=1):
        if text := line.partition("#")[0].strip():
            keys.append(_read_line(text, f"{path}, line {number}", keys))
    if not keys:
        raise ConfigurationError(f"LATENTD_API_KEYS_FILE {path} holds no key, so nobody could ask; {_FORM}")
    return tuple(keys)


def _read_line(text: str, place: str, before: Iterable[Key]) -> Key:
    """Read a line; what it says is not quoted, since it may be a key that was meant to be hashed."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"{place}: {_FORM}; a key itself must not stand there")
    name, digest, rate = match["name"], bytes.fromhex(match["digest"]), _read_rate(match, place)
    if any(name == key.name or digest == key.digest for key in before):
        raise ConfigurationError(f"{place}: the name {name}, or its key, stands there twice; give each its own")
    return Key(name, digest, rate)


def _read_rate(match: re.Match[str], place: str) -> Rate | None:
    """Read the last parts of a line; without a burst, a second's worth."""
    if match["per_s"] is None:
        return None
    per_s = float(match["per_s"])
    burst = math.ceil(per_s) if match["burst"] is None else int(match["burst"])
    if per_s == 0 or burst == 0:
        raise ConfigurationError(f"{place}: rate and burst are above 0; leave them out for a key without a limit")
    return Rate(per_s, burst)


class Keyring:
    """The keys of a file, as it was last read.

    Args:
        path: of the file.

    Raises:
        ConfigurationError: see `read_keys`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = read_keys(path)

    def reload(self) -> None:
        """Read the file again; where it is bad, the keys stay as they are and the log says why."""
        try:
            self._keys = read_keys(self._path)
        except ConfigurationError as error:
            _LOG.error("the API keys stay as they were: %s", error)
        else:
            _LOG.info("%d API keys are known: %s", len(self._keys), ", ".join(key.name for key in self._keys))

    def find(self, presented: bytes) -> Key | None:
        """Find a key, in a time that tells nothing about the others."""
        digest = hashlib.sha256(presented).digest()
        found = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return found[0] if found else None


class Guard:
    """ASGI layer that turns away whoever may not ask.

    Args:
        app: what answers.
        keyring: None where anybody may ask.
        client_rate: of one client address where anybody may ask; None for none.
        open_paths: answered to anybody at any rate.
    """

    def __init__(
        self, app: ASGIApp, keyring: Keyring | None, client_rate: Rate | None, open_paths: frozenset[str]
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._client_rate = client_rate
        self._open = open_paths
        self._limiter = Limiter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or say why not."""
        if scope["type"] != "lifespan" and scope["path"] not in self._open and not is_from_sibling(scope):
            try:
                self._admit(scope)
            except ServiceError as error:
                await problems.refuse(scope, receive, send, error)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        """Check a request's key and rate; the key's name is left in the request's state, for the log."""
        if self._keyring is None:
            address = (scope.get("client") or ("",))[0]
            self._count(address, self._client_rate, f"the address {address}")
            return
        presented = _presented_key(scope)
        if presented is None:
            raise UnauthorizedError("the request bears no key; send Authorization: Bearer KEY, or X-API-Key: KEY")
        key = self._keyring.find(presented)
        if key is None:
            raise UnauthorizedError("the key is not known; ask whoever runs the service for one")
        scope.setdefault("state", {})["key"] = key.name
        self._count(key.name, key.rate, f"the key of {key.name}")

    def _count(self, who: str, rate: Rate | None, described: str) -> None:
        """Count a request against a rate."""
        if rate is None:
            return
        wait_s = self._limiter.take(who, rate)
        if wait_s > 0:
            raise RateLimitedError(
                f"{described} may ask {rate.per_s:g} times a second, and {rate.burst:g} times at once; ask less often, "
                "or put more items into a request",
                retry_after_s=math.ceil(wait_s),
            )


def _presented_key(scope: Scope) -> bytes | None:
    """Find the key in a request's headers."""
    headers = dict(scope["headers"])
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return bytes(credentials.strip())
    return headers.get(b"x-api-key")


def keyring(settings: Settings) -> Keyring | None:
    """Read the keys that the settings name.

    Raises:
        ConfigurationError: the file of keys is bad.
    """
    return Keyring(settings.api_keys_file) if settings.api_keys_file else None


def wrap(app: ASGIApp, settings: Settings, keys: Keyring | None) -> ASGIApp:
    """Put in front of an app what the settings ask for.

    Args:
        app: what answers.
        settings: the rates and the origins.
        keys: None where anybody may ask.

    Returns:
        The app with layers around it, or the app itself.
    """
    rate = Rate(settings.client_rate_per_s, settings.client_burst) if settings.client_rate_per_s else None
    if keys is not None or rate is not None:
        app = Guard(app, keys, rate, _open_paths(settings))
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=("*",),
        )
    return app


def _open_paths(settings: Settings) -> frozenset[str]:
    return PROBES | {"/metrics"} if settings.metrics_open else PROBES


def describe(document: dict[str, Any], settings: Settings) -> None:
    """Tell of the keys in an OpenAPI document, where there are any.

    Args:
        document: changed in place.
        settings: say whether keys are asked for, and where not.
    """
    if settings.api_keys_file is None:
        return
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{"bearer": []}, {"header": []}]
    refusals = {str(status): answer for status, answer in documentation.problems(401, 429).items()}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in _open_paths(settings):
                operation["security"] = []
            else:
                operation["responses"] = refusals | operation["responses"]
