"""Strangers' containers of version 2: the right tokens or a typed error, and no time or memory for claims."""

import dataclasses
import random
import tracemalloc

import numpy as np
import pytest

from bench.compression.mutations import Campaign
from bench.compression.specimens import SPECIMENS, Specimen, WrongModelError, read, rewrite
from codec.coded import MAX_CHUNKS, Chunk, Coded, salvage_coded, write_coded
from codec.errors import MalformedContainerError
from codec.framing import MAGIC, seal
from codec.profile import Profile
from codec.reading import read_any

CODED = [specimen for specimen in SPECIMENS if specimen.profile is not Profile.RAW]
CASES = 1500


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_what_is_not_damaged_is_read(specimen: Specimen) -> None:
    container, codes = read(specimen.data, specimen)
    assert all(map(np.array_equal, codes, specimen.codes))
    assert rewrite(container, codes, specimen.layout) == specimen.data


def test_a_damaged_container_gives_its_tokens_or_a_typed_error() -> None:
    rng, campaign = random.Random(1), Campaign()
    for _ in range(CASES):
        campaign.run(rng)
    assert campaign.wrong == 0
    found = {outcome for _, outcome in campaign.outcomes}
    assert found >= {
        "tokens",
        "other tokens, in their one form",
        "ContainerLimitError",
        "MalformedContainerError",
        "UnsupportedContainerError",
        "WrongModelError",
    }


@pytest.mark.parametrize("specimen", CODED)
def test_tokens_under_another_prior_or_condition_are_refused(specimen: Specimen) -> None:
    coded = read_any(specimen.data)
    assert isinstance(coded, Coded)
    with pytest.raises(WrongModelError):
        read(write_coded(dataclasses.replace(coded, prior_prefix="00" * 4)), specimen)
    if specimen.conditions:
        with pytest.raises(MalformedContainerError):
            read(write_coded(dataclasses.replace(coded, conditions=specimen.conditions + 1)), specimen)


def test_empty_chunks_take_little_memory() -> None:
    count = 1000
    empty = (Chunk(0, b""),) * count
    data = write_coded(Coded(Profile.PRIOR, "00" * 8, "00" * 4, (2**31 - 1, 1), empty, chunk_rows=1))
    tracemalloc.start()
    try:
        assert len(read_any(data).chunks) == count
        coded, lost = salvage_coded(data[: len(data) // 2])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(coded.chunks) - len(lost) > count // 3
    assert MAX_CHUNKS * peak / count < 1 << 26


def test_claimed_lengths_take_no_memory() -> None:
    # Each of a thousand chunks claims as much as there can be.
    table = b"\xff\xff\xff\xff\7" * 1000
    header = seal(MAGIC + b"\2\x41" + bytes(12) + b"\x80\x80\x80\x10\1" + b"\1" + b"\xe8\7" + table)
    data = seal(header + bytes(8000))
    tracemalloc.start()
    try:
        with pytest.raises(MalformedContainerError, match="announces chunks of 2147483655000 bytes and holds 8000"):
            read_any(data)
        assert salvage_coded(data)[1] == tuple(range(1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 19
