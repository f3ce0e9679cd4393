"""A program that takes one large input through a model and prints how much memory that took at most, in bytes.

`python -m tests.service.window_memory STORE MODEL SIZE`: SIZE is the length in samples or HEIGHTxWIDTH in pixels.
"""

import resource
import sys
from pathlib import Path

import numpy as np

from service import discrete
from service.conditions import to_conditions
from service.engine.engine import Engine
from service.settings import Settings
from tests.service.serving import with_engine


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(store: str, name: str, size: str) -> None:
    sides = [int(side) for side in size.split("x")]

    async def body(engine: Engine) -> None:
        model = engine.model(name, "encode")
        is_sound = model.manifest.geometry.modality == "audio"
        shape, dtype = ((1, *sides), np.float32) if is_sound else ((1, *sides, 3), np.uint8)
        x = np.zeros(shape, dtype)
        x[:, ::7] = 1
        before = peak_bytes()
        codes = await discrete.encode(engine, model, x)
        await discrete.decode(engine, model, codes, to_conditions(model, {}, 1, with_prior=False))
        print(peak_bytes() - before - x.nbytes)  # the answer is as large as x

    settings = Settings(store=Path(store), device="cpu", threads=1, buckets=(1,), max_seconds=1e5, max_pixels=2**28)
    with_engine(settings, body)


if __name__ == "__main__":
    main(*sys.argv[1:])
