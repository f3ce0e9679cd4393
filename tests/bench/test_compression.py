"""The campaign of streams: what is counted as identical is, and a stream that differs is seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from artifact.codes import Arrays
from artifact.exact import ExactPrior
from artifact.golden import Run
from bench.compression.streams import Streams, identical_read, identical_written, weigh, write
from bench.compression.table import markdown
from bench.compression.worker import prior_of, runner, session_options
from tests.toys import chains, exact
from tests.toys.publish import publish

MODEL = chains.make(3, (4, 2), ((5,), (6,)))
N = 5


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExactPrior, Run]:
    root = tmp_path_factory.mktemp("campaign")
    publish(root, "levels", exact.with_exact(chains.toy(MODEL)))
    prior = prior_of(root / "levels" / "1")
    return prior, runner(prior, root / "levels" / "1", session_options(threads=1, optimisation="none"))


@pytest.fixture(scope="module")
def streams(toy: tuple[ExactPrior, Run]) -> Streams:
    codes = MODEL.encode(MODEL.images(N))
    prior, run = toy
    return write(prior, Streams(tuple(codes[f"codes_{link.level}"] for link in prior.links)), run, 2)


def test_streams_survive_the_file(streams: Streams, tmp_path: Path) -> None:
    for one in (streams, Streams(streams.grids)):
        one.save(tmp_path / "streams.npz")
        again = Streams.load(tmp_path / "streams.npz")
        assert again.payloads == one.payloads
        assert all(map(np.array_equal, again.grids, one.grids))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_all_are_identical_in_any_batch(toy: tuple[ExactPrior, Run], streams: Streams, batch: int) -> None:
    assert identical_read(toy[0], streams, toy[1], batch) == N
    assert identical_written(toy[0], streams, toy[1], batch) == N
    found = weigh(toy[0], streams.grids, toy[1])
    excess = [8 * len(data) - bits for data, bits in zip(streams.payloads, found.bits(), strict=True)]
    assert max(excess) <= 8


def test_what_differs_is_not_counted(toy: tuple[ExactPrior, Run], streams: Streams) -> None:
    prior, run = toy
    flipped = bytes([streams.payloads[1][0] ^ 128]) + streams.payloads[1][1:]
    damaged = replace(streams, payloads=(streams.payloads[0], flipped, *streams.payloads[2:]))
    assert identical_read(prior, damaged, run, 2) == N - 1
    assert identical_written(prior, damaged, run, 2) == N - 1

    def inexact(role: str, feeds: Arrays) -> Arrays:
        outputs = run(role, feeds)
        if "logits" in outputs:
            outputs["logits"] = np.roll(outputs["logits"], 1, axis=-1)
        return outputs

    assert identical_read(prior, streams, inexact, 2) < N


def test_a_table_is_markdown() -> None:
    assert markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
