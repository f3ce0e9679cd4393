"""Claim: 16 draws at once take at most 3 times as long as one, and each is the same to the bit as if drawn alone."""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence

import httpx
import uvloop

from bench import arguments
from bench.load import NPY
from bench.measure import service, spread
from bench.verdict import Claim, judge

_DRAWS = 16
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck", "none")
_TEMPERATURES = (1.0, 0.9, 0.7, 0.5)

MOST_RATIO = 3.0


def main(words: Sequence[str] | None = None) -> int:
    """Draw alone and together in turns, and print the ratio of the medians.

    Args:
        words: those after the program's name; None for those of this process.

    Returns:
        The exit status: 0 where every claim holds, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.bench_concurrent", description=__doc__)
    parser.add_argument("--runs", type=arguments.count, default=7, help="in turns (default: %(default)s)")
    options = parser.parse_args(words)
    with service("--device", "cpu", "--models", "cifar-vq", "--drain-s", "0") as (address, _):
        return judge(uvloop.run(_claims(address, options.runs)))


async def _claims(address: str, runs: int) -> list[Claim]:
    """Measure, and compare the codes of every draw."""
    alone_s, together_s, differing = [], [], 0
    async with httpx.AsyncClient(base_url=address, headers={"accept": NPY}, timeout=60) as client:
        expected = [await _draw(client, index) for index in range(_DRAWS)]
        await _draw_all(client)
        for run in range(runs):
            start_s = time.perf_counter()
            await _draw(client, run % _DRAWS)
            alone_s.append(time.perf_counter() - start_s)
            start_s = time.perf_counter()
            found = await _draw_all(client)
            together_s.append(time.perf_counter() - start_s)
            differing += sum(one != other for one, other in zip(found, expected, strict=True))
    print(f"one draw alone:     {spread(alone_s, 's')}")
    print(f"{_DRAWS} draws together: {spread(together_s, 's')}\n")
    ratio = statistics.median(together_s) / statistics.median(alone_s)
    return [
        Claim(f"{_DRAWS} draws at most {MOST_RATIO:g} times as long as one", f"{ratio:.2f}", ratio <= MOST_RATIO),
        Claim("the same to the bit as alone", f"{differing} of {runs * _DRAWS} differ", not differing),
        Claim("no two of them the same", f"{len(set(expected))} different", len(set(expected)) == _DRAWS),
    ]


async def _draw_all(client: httpx.AsyncClient) -> list[bytes]:
    """Draw everything at once."""
    return await asyncio.gather(*(_draw(client, index) for index in range(_DRAWS)))


async def _draw(client: httpx.AsyncClient, index: int) -> bytes:
    """Draw one grid of codes, with a seed, a class and a temperature of its own."""
    query: dict[str, str | float] = {
        "seed": index,
        "labels": _CLASSES[index % len(_CLASSES)],
        "temperature": _TEMPERATURES[index % len(_TEMPERATURES)],
        "output": "codes",
    }
    return (await client.post("/sample", params=query)).raise_for_status().content


if __name__ == "__main__":
    raise SystemExit(main())
