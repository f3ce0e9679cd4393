"""ONNX Runtime with nothing around it: what every server is compared with."""

import io
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.serving.subject import PICTURE, Subject

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_PNG_BATCH = 16


def rows_per_s(subject: Subject, seconds: float) -> dict[int, float]:
    """Run the graph over and over at each batch size.

    Args:
        subject: what is run.
        seconds: for all sizes together.

    Returns:
        Rows a second, by batch size.
    """
    session = subject.session()

    def measure(size: int) -> float:
        feeds = {"x": np.repeat(subject.image, size, axis=0)}
        times_s = _repeat(lambda: session.run([subject.output], feeds), seconds / len(BATCH_SIZES))
        return size * len(times_s) / sum(times_s)

    return {size: measure(size) for size in BATCH_SIZES}


def p50_ms(subject: Subject, seconds: float) -> float:
    """Time runs of one row; the median."""
    session, feeds = subject.session(), {"x": subject.image}
    return float(np.median(_repeat(lambda: session.run([subject.output], feeds), seconds)) * 1e3)


def png_rows_per_s(subject: Subject, seconds: float) -> float:
    """Decode the picture in threads and run it, the decoding of the next batches beside the run of one.

    Args:
        subject: what is run.
        seconds: for all numbers of threads together.

    Returns:
        Rows a second, with the number of threads that is best.
    """
    session, content = subject.session(), PICTURE.read_bytes()
    cores = len(os.sched_getaffinity(0))

    def measure(threads: int) -> float:
        with ThreadPoolExecutor(threads) as pool:
            decoding = deque(pool.submit(_decode, content) for _ in range(2 * threads))

            def step() -> None:
                images = decoding.popleft().result()
                decoding.append(pool.submit(_decode, content))
                session.run([subject.output], {"x": images})

            times_s = _repeat(step, seconds / cores)
        return _PNG_BATCH * len(times_s) / sum(times_s)

    return max(measure(threads) for threads in range(1, cores + 1))


def _decode(content: bytes) -> NDArray[np.uint8]:
    """Decode one batch of pictures."""
    images = []
    for _ in range(_PNG_BATCH):
        with Image.open(io.BytesIO(content)) as picture:
            images.append(np.asarray(picture))
    return np.stack(images)


def _repeat(work: Callable[[], object], seconds: float) -> list[float]:
    """Repeat a piece of work, and time each time but the first ones."""
    for _ in range(3):
        work()
    times_s: list[float] = []
    end_s = time.perf_counter() + seconds
    while (start_s := time.perf_counter()) < end_s:
        work()
        times_s.append(time.perf_counter() - start_s)
    return times_s
