"""Measure: how fast bare ONNX Runtime is on one core while the other core works, which no server there can exceed."""

import argparse
import multiprocessing
import socket
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench import arguments
from bench.measure import spread
from bench.serving import bare
from bench.serving.subject import subject

_BODY_BYTES = 64 * 64 * 64 * 3
"""Of a batch of 64 pictures."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the graph beside nothing, beside arithmetic and beside traffic in turns, and print the ratios of the medians.

    Args:
        words: those after the program's name; None for those of this process.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.bench_neighbour", description=__doc__)
    parser.add_argument("--runs", type=arguments.count, default=5, help="in turns (default: %(default)s)")
    parser.add_argument("--seconds", type=arguments.positive, default=2.0, help="of each (default: %(default)g)")
    options = parser.parse_args(words)
    neighbours: dict[str, Callable[[], None] | None] = {
        "nothing": None,
        "arithmetic in Python": _count,
        "requests of 64 pictures over the loopback": _exchange,
    }
    found: dict[str, list[float]] = {name: [] for name in neighbours}
    with subject("bench-encoder", 1) as served:
        for _ in range(options.runs):
            for name, work in neighbours.items():
                with _beside(work):
                    found[name].append(max(bare.rows_per_s(served, options.seconds).values()))
    alone = statistics.median(found["nothing"])
    for name, rates in found.items():
        print(
            f"beside {name}: {spread(rates, 'rows/s')}, {statistics.median(rates) / alone:.2f} of that beside nothing"
        )
    return 0


@contextmanager
def _beside(work: Callable[[], None] | None) -> Iterator[None]:
    """Let another process work until the block ends."""
    if work is None:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=work, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _count() -> None:
    """Add up numbers for ever."""
    while True:
        sum(range(10_000))


def _exchange() -> None:
    """Send and receive bodies for ever, in one process."""
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    receiver, _ = listener.accept()
    body, buffer = memoryview(bytes(_BODY_BYTES)), memoryview(bytearray(_BODY_BYTES))
    while True:
        sent = received = 0
        while received < _BODY_BYTES:
            if sent < _BODY_BYTES:
                sent += sender.send(body[sent : sent + 65536])
            received += receiver.recv_into(buffer[received:])


if __name__ == "__main__":
    raise SystemExit(main())
