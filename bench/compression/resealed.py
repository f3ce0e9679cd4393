"""Claim: containers that were changed and whose checksums were made to fit again are refused, or give the right tokens.

Containers of a model of the store, raw, under its exact prior, in one chunk and in several, are changed: in their
bytes, the closing checksum made anew; and in what they say, all checksums made anew but that of the tokens. Each is
read and decoded as `/decompress` does, by the same functions and under the same limits. Tokens are right where they are
those of one of the containers.
"""

import argparse
import asyncio
import random
import resource
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from bench.arguments import count
from bench.compression.damage import WAYS, damaged, forged
from bench.compression.specimens import Specimen
from bench.resources import megabytes
from bench.verdict import Claim, judge
from codec.errors import CodecError
from service.bitstreams import Wish, write_all
from service.bodies import Body
from service.coding_chunks import Levels
from service.coding_media import decode_all
from service.coding_models import find_model, read_header
from service.coding_reading import read_all
from service.discrete import encode
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import ServiceError
from service.offline.models import running
from service.pictures import pictures
from service.settings import Settings

SLOWEST_S = 1.0
GROWTH_BYTES = 256 << 20
WARM = 200
"""Containers before memory counts."""

_SIDE = 48
_KINDS = [*WAYS, "forged", "forged"]


@dataclass(frozen=True)
class Original:
    """A container, and the codes that it holds."""

    data: bytes
    levels: Levels


@dataclass
class Tally:
    """What came of the containers.

    Attributes:
        outcomes: by kind of change and what came of it.
        slowest_s: the longest that one took, and its kind.
        wrong: how many gave tokens that are not right, or an error without a type.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    slowest_s: tuple[float, str] = (0.0, "none")
    wrong: int = 0


async def originals(engine: Engine, model: ServedModel, picture: bytes) -> list[Original]:
    """Compress pieces of a picture in every way that there is."""
    body = Body("image/png", "", picture)
    whole = pictures(body, model, "pad", Settings(), lambda: None).images
    wishes = [Wish("raw"), Wish(), Wish("prior"), Wish("prior", chunk_rows=5), Wish("prior", chunk_rows=1)]
    found = []
    for index, wish in enumerate(wishes):
        x = np.ascontiguousarray(whole[:, 4 * index :, 4 * index :][:, :_SIDE, :_SIDE])
        codes = await encode(engine, model, x)
        (written,) = await write_all(engine, model, codes, [(_SIDE - index % 4, _SIDE)], wish)
        (read,) = await read_all(engine, model, [written.container])
        found.append(Original(written.container, read.levels))
    return found


async def decompress(engine: Engine, data: bytes) -> Levels:
    """Do what `/decompress` does."""
    model = find_model(engine.models(), read_header(data), None)
    read = await read_all(engine, model, [data])
    await decode_all(engine, model, read, {}, admit=0)
    return read[0].levels


async def campaign(engine: Engine, known: Sequence[Original], rng: random.Random, containers: int) -> tuple[Tally, int]:
    """Change containers, and decompress them."""
    tally, start_bytes = Tally(), 0
    for number in range(containers):
        if number == WARM:
            start_bytes = _resident_bytes()
        kind, data = changed(known, rng)
        start_s = time.perf_counter()
        outcome, is_right = await _outcome(engine, data, known)
        tally.slowest_s = max(tally.slowest_s, (time.perf_counter() - start_s, kind))
        tally.outcomes[kind, outcome] += 1
        tally.wrong += not is_right
    return tally, _resident_bytes() - start_bytes


def changed(known: Sequence[Original], rng: random.Random) -> tuple[str, bytes]:
    """Change a container; give how, and the bytes."""
    # Of a specimen, which is coded under a formula, nothing is read but its bytes.
    specimens = cast("Sequence[Specimen]", known)
    kind = rng.choice(_KINDS)
    if kind == "forged":
        return kind, forged(rng.choice(specimens), rng, specimens, fits=False)
    return kind, damaged(rng.choice(specimens), kind, rng, specimens, is_sealed=True)


async def _outcome(engine: Engine, data: bytes, known: Sequence[Original]) -> tuple[str, bool]:
    """Decompress, and say what happened and whether it may happen."""
    try:
        levels = await decompress(engine, data)
    except (CodecError, ServiceError) as error:
        return type(error).__name__, True
    except Exception as error:  # noqa: BLE001 - what a service would answer 500 for is counted, not raised
        return repr(error), False
    is_right = any(len(levels) == len(one.levels) and all(map(np.array_equal, levels, one.levels)) for one in known)
    return "tokens" if is_right else "OTHER TOKENS", is_right


def _resident_bytes() -> int:
    """Give the most memory that this process has ever had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def run(options: argparse.Namespace, picture: bytes) -> int:
    """Run the campaign, print what came of it, and judge."""
    settings = Settings(store=options.store, device="cpu", threads=1, max_pixels=4 * _SIDE**2)
    async with running(settings, (options.model,)) as engine:
        known = await originals(engine, engine.named(options.model)[-1], picture)
        start_s = time.perf_counter()
        tally, grown = await campaign(engine, known, random.Random(options.seed), options.count)
    print(f"{options.count} containers of {options.model} in {time.perf_counter() - start_s:.0f} s")
    for kind, outcome in sorted(tally.outcomes):
        print(f"{kind:<12}  {outcome:<32}  {tally.outcomes[kind, outcome]:>8}")
    slowest_s, slowest_kind = tally.slowest_s
    return judge(
        [
            Claim("no wrong token, no error without a type", str(tally.wrong), tally.wrong == 0),
            Claim(f"none takes {SLOWEST_S:.0f} s ({slowest_kind})", f"{slowest_s:.3f} s", slowest_s < SLOWEST_S),
            Claim(f"memory grows by less than {megabytes(GROWTH_BYTES)}", megabytes(grown), grown < GROWTH_BYTES),
        ]
    )


def main() -> int:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("pretrained"))
    parser.add_argument("--model", default="photo-vq", help="of pictures of any size, with an exact prior")
    parser.add_argument("--picture", type=Path, default=Path("docs/cat.png"))
    parser.add_argument("--count", type=count, default=10_000, help="containers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    return asyncio.run(run(options, options.picture.read_bytes()))


if __name__ == "__main__":
    raise SystemExit(main())
