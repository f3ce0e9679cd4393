"""`python -m service`: settings from flags, a server in the foreground, a clean end."""

import argparse
import logging
import math
import resource
import socket
import ssl
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from service import logs, tls, upgrade
from service.app import create_app
from service.draining import Server
from service.errors import ConfigurationError
from service.processes import FLAG, Child, count_workers, supervise
from service.protocol import Connection, Limits
from service.settings import Settings
from service.siblings import Siblings

_OTHER_FILES = 256
_SWITCH_S = 1e-4
_LOG = logging.getLogger("latentd")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        arguments: the words after the program's name; None for those of this process.

    Returns:
        The exit status: 0 after a clean end, 1 where the service could not start, 2 for bad settings.
    """
    words = sys.argv[1:] if arguments is None else arguments
    given = {name: value for name, value in vars(_parser().parse_args(words)).items() if value is not None}
    child = Child.read(given.pop("child")) if "child" in given else None
    try:
        settings = Settings(**given)
    except ValidationError as error:
        print(f"error: {_explain(error)}", file=sys.stderr)
        return 2
    logs.configure(settings)
    if child is not None:
        settings = child.settle(settings)
    try:
        server, app = _make_server(settings, None if child is None else child.siblings)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        listener = _listen(settings.host, settings.port) if child is None else child.open()
    except OSError as error:
        print(
            f"error: cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "is another server on this port? Choose one with --port or LATENTD_PORT",
            file=sys.stderr,
        )
        return 1
    _raise_file_limit(settings.max_connections)
    with listener:
        workers = count_workers(settings) if child is None else 1
        if workers == 1:
            server.handle_signals()
        if child is None:
            scheme = "https" if settings.tls_cert else "http"
            host, port = listener.getsockname()[:2]
            _LOG.info("latentd listens on %s://%s:%d, documentation at /docs", scheme, host, port)
        if workers > 1:
            return supervise(words, listener, workers)
        # A runner back from a graph waits for the event loop, for 5 ms unless told otherwise: longer than most runs.
        sys.setswitchinterval(_SWITCH_S)
        server.run(sockets=[listener])
    return 1 if app.state.service.engine.failure else 0


def _make_server(settings: Settings, siblings: Siblings | None) -> tuple[Server, FastAPI]:
    """Make the app and its server; nothing of the store is loaded before it runs."""
    context = tls.context(settings)

    def give_up() -> None:
        server.should_exit = True

    def drain() -> bool:
        engine = app.state.service.engine
        was_ready = bool(engine.state == "ready")
        engine.drain()
        app.state.service.jobs.close()
        app.state.service.live.close()
        return was_ready

    app = create_app(settings, on_failure=give_up, siblings=siblings)
    config = uvicorn.Config(
        app,
        http=Connection,
        **upgrade.OPTIONS,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        # Requests in progress end by their own deadline; only then are tasks cut off.
        timeout_graceful_shutdown=math.ceil(settings.deadline_s) + 1,
        ssl_context_factory=None if context is None else lambda *_: context,
    )
    server = Server(
        config,
        Limits.of(settings),
        drain=drain,
        drain_s=settings.drain_s,
        reload=lambda: _reload(app, settings, context),
        is_busy=lambda: bool(app.state.service.jobs.unfinished),
        busy_s=settings.deadline_s,
        familiar=app.state.familiar,
    )
    return server, app


def _reload(app: FastAPI, settings: Settings, context: ssl.SSLContext | None) -> None:
    """Read again what may change while the service runs; whatever is bad stays as it was."""
    _LOG.info("SIGHUP: reading keys, certificates and models again")
    if app.state.keys is not None:
        app.state.keys.reload()
    if context is not None:
        try:
            tls.renew(context, settings)
        except ConfigurationError as error:
            _LOG.error("the certificate stays as it was: %s", error)
    app.state.service.reload()


def _raise_file_limit(connections: int) -> None:
    """Let the process have a file for every connection, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            _LOG.warning("only %d files may be open, too few for %d connections; raise ulimit -n", allowed, connections)


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
        epilog="Files without a server: python -m service compress|decompress|inspect, see their --help.",
    )
    parser.add_argument(FLAG, dest="child", help=argparse.SUPPRESS)
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
