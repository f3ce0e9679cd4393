"""Claim: three times as many requests as can be answered cost neither goodput, nor those who are let in, nor memory."""

import argparse
import asyncio
import resource
from collections.abc import Sequence

import httpx
import uvloop

from bench import arguments
from bench.connection import Target
from bench.load import NPY, npy, random_images
from bench.loops import closed_loop, open_loop
from bench.measure import service
from bench.report import OK, TOO_MANY, Report
from bench.resources import Resources, memory_claim
from bench.verdict import Claim, judge

_CALLERS = 32
_CONNECTIONS = 2048
_FACTOR = 3
_REST = 0.1
"""Of the peak, the rate at which latency is compared before and after."""
_PAUSE_S = 3.0
"""Between the overload and the comparison."""
_FILES = 4096

MOST_ROWS_PER_S = 300.0
LEAST_GOODPUT = 0.9
MOST_GROWTH = 0.05
MOST_SLOWDOWN = 1.2


def main(words: Sequence[str] | None = None) -> int:
    """Put the load on, and print what came of it.

    Args:
        words: those after the program's name; None for those of this process.

    Returns:
        The exit status: 0 where every claim holds, else 1.
    """
    options = _parser().parse_args(words)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES if most == resource.RLIM_INFINITY else min(_FILES, most), most))
    flags = {"device": "cpu", "threads": "1", "models": "photo-vq", "deadline-s": options.deadline_s, "drain-s": "0"}
    with service(*(f"--{name}={value}" for name, value in flags.items())) as (address, _):
        process = int(httpx.get(f"{address}/readyz").json()["process"])
        return judge(uvloop.run(_claims(address, process, options)))


async def _claims(address: str, process: int, options: argparse.Namespace) -> list[Claim]:
    """Measure the peak, the latency at a low rate, the overload, and the latency again."""
    headers = {"Content-Type": NPY, "Accept": NPY}
    target = Target.of(f"{address}/{options.endpoint}", npy(random_images((1, options.side, options.side, 3))), headers)
    samples: list[Resources] = []
    deadline_s, short_s = options.deadline_s, options.seconds / 6

    async def at_rest() -> Report:
        return await open_loop(target, rate_per_s=_REST * peak.goodput_per_s, seconds=short_s, deadline_s=deadline_s)

    peak = await closed_loop(target, connections=_CALLERS, seconds=short_s, deadline_s=deadline_s)
    _show(f"peak, {_CALLERS} callers", peak)
    before = await at_rest()
    _show("at rest, before", before)
    over = await open_loop(
        target,
        rate_per_s=_FACTOR * peak.goodput_per_s,
        seconds=options.seconds,
        connections=_CONNECTIONS,
        deadline_s=deadline_s,
        progress=lambda _: samples.append(Resources.of(process)),
    )
    _show(f"{_FACTOR} times the peak", over)
    await asyncio.sleep(_PAUSE_S)
    after = await at_rest()
    _show("at rest, after", after)
    return [
        Claim(
            f"at most {MOST_ROWS_PER_S:g} rows/s", f"{peak.goodput_per_s:.1f}", peak.goodput_per_s <= MOST_ROWS_PER_S
        ),
        *_of_answers(over, peak.goodput_per_s),
        memory_claim(samples, max(1, len(samples) // 6), MOST_GROWTH),
        _of_latency(before, after),
    ]


def _of_answers(over: Report, peak_per_s: float) -> list[Claim]:
    """Judge what the overload was answered."""
    ratio, deadline_ms = over.goodput_per_s / peak_per_s, 1e3 * over.deadline_s
    p99_ms = over.answers[OK].p99_ms if over.ok else float("inf")
    strange = {status: found.count for status, found in over.answers.items() if status not in (OK, TOO_MANY)}
    lost = over.connection_errors + over.unanswered
    told = over.retry_after_percent or 0.0
    return [
        Claim(f"goodput at least {LEAST_GOODPUT:g} of the peak", f"{ratio:.2f}", ratio >= LEAST_GOODPUT),
        Claim(f"p99 of answers 200 within {deadline_ms:g} ms", f"{p99_ms:.0f} ms", p99_ms <= deadline_ms),
        Claim("every other answer is 429", str(strange or "none else"), not strange),
        Claim("every 429 bears Retry-After", f"{told:.1f}%", told == 100),
        Claim("no request is lost", f"{lost} lost", lost == 0),
    ]


def _of_latency(before: Report, after: Report) -> Claim:
    """Judge whether the overload has left something behind."""
    first_ms, then_ms = before.answers[OK].p50_ms, after.answers[OK].p50_ms
    text = f"p50 at rest at most {MOST_SLOWDOWN:g} times that before"
    return Claim(text, f"{first_ms:.1f} ms, then {then_ms:.1f} ms", then_ms <= MOST_SLOWDOWN * first_ms)


def _show(title: str, report: Report) -> None:
    print(f"{title}:\n{report.table()}\n", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_overload", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=arguments.positive, default=60.0, help="of the overload (default: %(default)g)")
    add("--deadline-s", type=arguments.positive, default=2.0, help="of the service (default: %(default)g)")
    add("--endpoint", choices=("encode", "reconstruct"), default="encode", help="what is asked (default: %(default)s)")
    add("--side", type=arguments.count, default=160, help="of the pictures, in pixels (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
