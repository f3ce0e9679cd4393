"""Examples in batches, several at a time."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Part = TypeVar("Part")


def in_batches(count: int, size: int, measure: Callable[[slice], Part]) -> Iterator[Part]:
    """Measure batches of examples, each on one thread.

    Args:
        count: of the examples.
        size: of a batch.
        measure: from the examples' indices to a figure; it may not depend on how they are batched.

    Yields:
        What it gave, in the order of the examples.
    """
    parts = (slice(first, min(first + size, count)) for first in range(0, count, size))
    with one_thread_each() as workers, ThreadPoolExecutor(workers) as pool:
        yield from pool.map(measure, parts)


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Give the number of workers: many single-threaded runs do more than one run on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
