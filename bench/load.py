"""`python -m bench.load`: puts load on an HTTP server, in an open or a closed loop, and reports what came back."""

import argparse
import io
import json
import mimetypes
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import uvloop

from bench import arguments
from bench.connection import LoadError, Target
from bench.loops import Progress, closed_loop, open_loop
from bench.report import Report, Tally

NPY = "application/x-npy"


def main(words: Sequence[str] | None = None) -> int:
    """Put the load on and print the report.

    Args:
        words: those after the program's name; None for those of this process.

    Returns:
        The exit status: 0 where every request was answered, 1 where some were not, or the load could not be put on.
    """
    options = _parser().parse_args(words)
    try:
        report = uvloop.run(_load(options, _target(options)))
        if sys.stderr.isatty():
            print(file=sys.stderr)
        if options.json:
            options.json.write_text(json.dumps(report.to_json(), indent=2) + "\n", "utf-8")
    except (LoadError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report.table())
    return 1 if report.connection_errors or report.unanswered else 0


def npy(array: np.ndarray) -> bytes:
    """Write an array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def random_images(shape: Sequence[int]) -> np.ndarray:
    """Draw bytes of a shape, always the same ones."""
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


async def _load(options: argparse.Namespace, target: Target) -> Report:
    """Run the loop that was asked for."""
    progress = _line() if sys.stderr.isatty() else None
    if options.rate is None:
        return await closed_loop(
            target,
            connections=options.connections or 32,
            seconds=options.seconds,
            deadline_s=options.deadline_s,
            progress=progress,
        )
    return await open_loop(
        target,
        rate_per_s=options.rate,
        seconds=options.seconds,
        connections=options.connections or 1024,
        arrivals=options.arrivals,
        seed=options.seed,
        deadline_s=options.deadline_s,
        progress=progress,
    )


def _line() -> Progress:
    """Make what rewrites one line of the terminal."""
    seconds = answered = 0

    def write(tally: Tally) -> None:
        nonlocal seconds, answered
        seconds += 1
        rate, answered = tally.answered - answered, tally.answered
        state = f"{rate} answers/s, {tally.outstanding} outstanding, {tally.connection_errors} errors"
        print(f"\r{seconds:>5} s: {state:<70}", end="", file=sys.stderr, flush=True)

    return write


def _target(options: argparse.Namespace) -> Target:
    """Build the request.

    Raises:
        LoadError: the address is none.
        OSError: the body cannot be read.
    """
    headers: dict[str, str] = {}
    body: bytes | None = None
    if options.npy is not None:
        headers, body = {"Content-Type": NPY, "Accept": NPY}, npy(random_images(options.npy))
    elif options.body is not None:
        guessed = NPY if options.body.suffix == ".npy" else mimetypes.guess_type(options.body.name)[0]
        headers, body = {"Content-Type": guessed or "application/octet-stream"}, options.body.read_bytes()
    for name, value in options.header:
        headers = {known: kept for known, kept in headers.items() if known.lower() != name.lower()} | {name: value}
    return Target.of(options.url, body, headers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.load",
        description="Put load on an HTTP/1.1 server. With --rate the loop is open: requests come at their own times "
        "and are timed from when they were due. Without, it is closed: each connection sends the next request as "
        "soon as the one before is answered.",
    )
    add = parser.add_argument
    add("url", help="http://host:port/path?query")
    content = parser.add_mutually_exclusive_group()
    content.add_argument("--body", type=Path, metavar="FILE", help="what to POST; without it, requests are GET")
    content.add_argument(
        "--npy", type=arguments.shape, metavar="SHAPE", help="POST random bytes as npy, such as 1,64,64,3"
    )
    add("--header", type=arguments.header, action="append", default=[], metavar="K:V", help="a header; may be repeated")
    add("--rate", type=arguments.positive, metavar="R", help="requests a second")
    add(
        "--connections",
        type=arguments.count,
        metavar="N",
        help="callers (default 32), or with --rate the most (default 1024)",
    )
    add("--arrivals", choices=("poisson", "fixed"), default="poisson", help="of --rate (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the random arrivals (default: %(default)s)")
    add("--seconds", type=arguments.positive, default=10.0, metavar="S", help="how long to send (default: %(default)g)")
    add(
        "--deadline-s",
        type=arguments.positive,
        default=1.0,
        metavar="D",
        help="goodput counts answers 200 within (default: 1)",
    )
    add("--json", type=Path, metavar="OUT", help="write the report there too, as JSON")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
