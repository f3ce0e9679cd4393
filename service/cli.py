"""`python -m service`: settings from flags, a server in the foreground, a clean end."""

import argparse
import logging
import math
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn
from pydantic import ValidationError

from service.app import create_app
from service.settings import Settings

_LOG = logging.getLogger("latentd")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        arguments: the words after the program's name; None for those of this process.

    Returns:
        The exit status: 0 after a clean end, 1 where the service could not start, 2 for bad settings.
    """
    options = _parser().parse_args(arguments)
    given = {name: value for name, value in vars(options).items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        print(f"error: {_explain(error)}", file=sys.stderr)
        return 2
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        print(
            f"error: cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "is another server on this port? Choose one with --port or LATENTD_PORT",
            file=sys.stderr,
        )
        return 1
    return _serve(settings, listener)


def _serve(settings: Settings, listener: socket.socket) -> int:
    """Run uvicorn on an open socket."""
    # uvicorn raises the signal that stopped it once more after its clean end; that must not kill the process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    def give_up() -> None:
        server.should_exit = True

    app = create_app(settings, on_failure=give_up)
    # Requests in progress end by their own deadline; only then are tasks cut off.
    grace_s = math.ceil(settings.deadline_s) + 1
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=grace_s
    )
    server = uvicorn.Server(config)
    host, port = listener.getsockname()[:2]
    _LOG.info("latentd listens on http://%s:%d, documentation at /docs", host, port)
    with listener:
        server.run(sockets=[listener])
    return 1 if app.state.service.engine.failure else 0


def _listen(host: str, port: int) -> socket.socket:
    """Open the socket before anything is loaded, so that a port in use is told at once."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _parser() -> argparse.ArgumentParser:
    """Give every setting a flag."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve the models of a store. Every flag is also an environment variable, LATENTD_<NAME>.",
    )
    for name, field in Settings.model_fields.items():
        default: Any = field.default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        parser.add_argument(
            f"--{name.replace('_', '-')}", dest=name, metavar="VALUE", help=f"{field.description} (default: {shown})"
        )
    return parser


def _explain(error: ValidationError) -> str:
    """Tell what is wrong with the settings in one line."""
    faults = []
    for fault in error.errors(include_url=False):
        name = ".".join(map(str, fault["loc"][:1])) or "settings"
        faults.append(f"{name} (LATENTD_{name.upper()}) is {fault['input']!r}: {fault['msg']}")
    return "; ".join(faults)
