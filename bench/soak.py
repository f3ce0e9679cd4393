"""Claim: mixed traffic leaves nothing behind, however long: no memory, no files, no threads, no wrong answer."""

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress

import httpx
import uvloop

from bench import arguments, traffic
from bench.measure import service
from bench.resources import Resources, first_and_last, memory_claim
from bench.traffic import Exchange
from bench.verdict import Claim, judge

_CALLERS = 8
_PER_CONNECTION = 40
"""Requests after which a caller connects anew."""
_JOBS, _HANG_UPS = 0.04, 0.06
"""The share of the requests that are jobs, and of those whose callers hang up."""
_EVERY_S = 10
"""Seconds between two lines of progress."""
_SHOWN = 20
"""So many wrong answers are printed."""
_SLACK = 2
"""Files that may be open by chance."""

MOST_GROWTH = 0.02


def main(words: Sequence[str] | None = None) -> int:
    """Let the traffic run, and print what it has left behind.

    Args:
        words: those after the program's name; None for those of this process.

    Returns:
        The exit status: 0 where every claim holds, else 1.
    """
    options = _parser().parse_args(words)
    with service("--device", "cpu", "--drain-s", "0") as (address, _):
        return judge(uvloop.run(_claims(address, options.minutes, options.rate)))


async def _claims(address: str, minutes: float, rate_per_s: float) -> list[Claim]:
    """Run the traffic, watch the server, and ask it in the end."""
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        callers = _Callers(address, await traffic.exchanges(client), rate_per_s)
        process = int((await client.get("/readyz")).json()["process"])
        samples = await _watch(process, callers, 60.0 * minutes)
        metrics = (await client.get("/metrics")).text
    settle = min(60, len(samples) // 4)
    left, deaths = (_figure(metrics, name) for name in ("latentd_queue_rows", "latentd_runner_deaths_total"))
    return [
        Claim("every answer is as it must be", f"{callers.wrong} of {callers.sent} are not", not callers.wrong),
        memory_claim(samples, settle, MOST_GROWTH),
        _steady_claim("files", [sample.files for sample in samples], settle),
        _steady_claim("threads", [sample.threads for sample in samples], settle),
        Claim("nothing waits at the end, no runner has died", f"{left:g} rows, {deaths:g} deaths", not left + deaths),
    ]


async def _watch(process: int, callers: "_Callers", seconds: float) -> list[Resources]:
    """Look at the server once a second while the callers call."""
    samples: list[Resources] = []
    tasks = [asyncio.create_task(callers.call(number)) for number in range(_CALLERS)]
    start_s = time.monotonic()
    while (passed_s := time.monotonic() - start_s) < seconds:
        await asyncio.sleep(len(samples) + 1 - passed_s)
        samples.append(Resources.of(process))
        if len(samples) % _EVERY_S == 0:
            print(f"{len(samples):>6} s: {callers.sent} sent, {callers.wrong} wrong, {samples[-1]}", flush=True)
    callers.stop()
    await asyncio.gather(*tasks)
    return samples


class _Callers:
    """Everybody who asks.

    Args:
        address: of the service.
        exchanges: what is asked.
        rate_per_s: of all callers together.

    Attributes:
        sent: requests.
        wrong: answers that were not as they must be.
    """

    def __init__(self, address: str, exchanges: Sequence[Exchange], rate_per_s: float) -> None:
        self.sent = 0
        self.wrong = 0
        self._address = address
        self._exchanges = exchanges
        self._rate_per_s = rate_per_s
        self._ends = asyncio.Event()

    def stop(self) -> None:
        """Send nothing more; what is under way is awaited."""
        self._ends.set()

    async def call(self, number: int) -> None:
        """Ask one thing after another, at random moments.

        Args:
            number: of the caller, the seed of what it asks.
        """
        choice = random.Random(number)
        while not self._ends.is_set():
            async with httpx.AsyncClient(base_url=self._address, timeout=60) as client:
                for _ in range(_PER_CONNECTION):
                    pause_s = choice.expovariate(self._rate_per_s / _CALLERS)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._ends.wait(), pause_s)
                        return
                    await self._ask(client, choice)

    async def _ask(self, client: httpx.AsyncClient, choice: random.Random) -> None:
        """Ask one thing, and hold the answer against what it must be."""
        self.sent += 1
        kind = choice.random()
        fault: str | None = None
        try:
            if kind < _JOBS:
                fault = await traffic.job(client)
            elif kind < _JOBS + _HANG_UPS:
                await traffic.hang_up(self._address, self.sent)
            else:
                fault = await choice.choice(self._exchanges).fault(client)
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            fault = repr(error)
        if fault is not None:
            self.wrong += 1
            if self.wrong <= _SHOWN:
                print(f"wrong: {fault}", flush=True)


def _steady_claim(name: str, values: Sequence[int], settle: int) -> Claim:
    """Judge whether there are more and more of something; connections come and go by one or two."""
    first, last = first_and_last(values, settle)
    return Claim(f"{name} do not grow", f"{first:g}, then {last:g}", last <= first + _SLACK)


def _figure(metrics: str, name: str) -> float:
    """Read a figure without labels from Prometheus' text."""
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(f"{name} "))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=arguments.positive, default=10.0, help="how long (default: %(default)g)")
    add("--rate", type=arguments.positive, default=20.0, help="requests a second (default: %(default)g)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
