"""Codes through a container: exact, canonical, equal to the specification's decoder, within the model's limits."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.codes import read_codes, write_codes
from codec.container import Container, read_container
from codec.errors import ContainerLimitError, MalformedContainerError
from codec.layout import Grid, Layout, LevelLayout
from codec.raw import level_bits

HASH = "0123456789abcdef" * 4
LAYOUT = Layout((LevelLayout(6, 1, 8), LevelLayout(20, 2, 4)), (None, None), multiple_of=8, maximum=64)
EXTENT = (5, 13)
CODES = [np.array([[5, 0]]), np.arange(16).reshape(2, 2, 4)]
DATA = write_codes(CODES, layout=LAYOUT, model_hash=HASH, extent=EXTENT)
CONTAINER = read_container(DATA)


@dataclass(frozen=True)
class Item:
    """Codes of a random layout: `levels` are K, Q and the downsampling."""

    levels: list[tuple[int, int, int]]
    sizes: tuple[int | None, ...]
    multiple_of: int
    extent: tuple[int, ...]
    seed: int

    @cached_property
    def layout(self) -> Layout:
        levels = tuple(LevelLayout(*level) for level in self.levels)
        return Layout(levels, self.sizes, self.multiple_of, maximum=2 * self.multiple_of + self.multiple_of // 2)

    @cached_property
    def codes(self) -> list[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        grids = self.layout.grids(self.extent)
        return [rng.integers(0, K, grid.shape) for (K, _, _), grid in zip(self.levels, grids, strict=True)]

    def write(self) -> bytes:
        return write_codes(self.codes, layout=self.layout, model_hash=HASH, extent=self.extent)


@st.composite
def items(draw: st.DrawFn) -> Item:
    multiple_of = draw(st.sampled_from([1, 2, 6, 8]))
    divisors = [step for step in range(1, multiple_of + 1) if multiple_of % step == 0]
    embeddings = st.integers(2, 70_000) | st.sampled_from([2, 256, 257, 2**31 - 1, 2**31])
    level = st.tuples(embeddings, st.integers(1, 3), st.sampled_from(divisors))
    fixed = st.none() | st.integers(1, 2).map(lambda count: count * multiple_of)
    sizes = draw(st.tuples(fixed, fixed) | st.tuples(fixed))
    return Item(
        levels=draw(st.lists(level, min_size=1, max_size=3)),
        sizes=sizes,
        multiple_of=multiple_of,
        extent=tuple(draw(st.integers(1, size or 2 * multiple_of)) for size in sizes),
        seed=draw(st.integers(0, 2**32)),
    )


@settings(deadline=None, max_examples=50)
@given(item=items())
def test_codes_come_back_and_make_the_same_bytes(item: Item) -> None:
    data = item.write()
    container = read_container(data)
    found = read_codes(container, item.layout)

    assert container.extent == item.extent
    assert HASH.startswith(container.model_prefix)
    assert [level.dtype for level in found] == [np.int32] * len(found)
    assert all(np.array_equal(level, codes) for level, codes in zip(found, item.codes, strict=True))
    assert write_codes(found, layout=item.layout, model_hash=HASH, extent=item.extent) == data


@pytest.mark.parametrize("first", [CODES[1][0], CODES[1]])
def test_the_first_codebooks_of_a_level_are_a_container_too(
    first: np.ndarray, decode: Callable[..., tuple[list, list]]
) -> None:
    data = write_codes([CODES[0], first], layout=LAYOUT, model_hash=HASH, extent=EXTENT)
    found = read_codes(read_container(data), LAYOUT)
    assert [level.tolist() for level in found] == [CODES[0].tolist(), first.tolist()]
    assert write_codes(found, layout=LAYOUT, model_hash=HASH, extent=EXTENT) == data
    assert decode(data, [6, 20]) == ([*EXTENT], [CODES[0].ravel().tolist(), first.ravel().tolist()])


@settings(deadline=None, max_examples=50)
@given(item=items())
def test_the_specifications_decoder_agrees(item: Item, decode: Callable[..., tuple[list, list]]) -> None:
    extent, levels = decode(item.write(), [level.num_embeddings for level in item.layout.levels])

    assert extent == list(item.extent)
    assert levels == [codes.ravel().tolist() for codes in item.codes]


@settings(deadline=None, max_examples=50)
@given(item=items())
def test_the_payload_has_the_bits_that_it_should(item: Item) -> None:
    bits = level_bits(item.layout.grids(item.extent), item.layout)
    expected = [
        codes.size * np.ceil(np.log2(level.num_embeddings))
        for codes, level in zip(item.codes, item.layout.levels, strict=True)
    ]

    assert list(bits) == expected
    assert len(read_container(item.write()).payload) == sum(np.ceil(np.array(bits) / 8))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_any_integers_and_any_memory_order_give_the_same_bytes(dtype: type) -> None:
    codes = [np.asfortranarray(level.astype(dtype)) for level in CODES]
    assert write_codes(codes, layout=LAYOUT, model_hash=HASH, extent=EXTENT) == DATA


def test_fractions_are_refused() -> None:
    with pytest.raises(TypeError):
        write_codes([CODES[0] + 0.5, CODES[1]], layout=LAYOUT, model_hash=HASH, extent=EXTENT)


@pytest.mark.parametrize("model_hash", ["", HASH[:-1], HASH.upper(), HASH + "\n", "g" * 64])
def test_other_hashes_are_refused(model_hash: str) -> None:
    with pytest.raises(ValueError, match="expected 64 lowercase hexadecimal digits"):
        write_codes(CODES, layout=LAYOUT, model_hash=model_hash, extent=EXTENT)


@pytest.mark.parametrize(
    ("codes", "extent", "message"),
    [
        (CODES[:1], EXTENT, "codes of 1 levels, the model has 2"),
        ([CODES[0].T, CODES[1]], EXTENT, r"level 0 has codes of the shape \(2, 1\), the model makes \(1, 2\)"),
        ([CODES[0], CODES[1][0].T], EXTENT, r"level 1 has codes of the shape \(4, 2\), the model makes \(2, 2, 4\)"),
        ([CODES[0], CODES[1][:1]], EXTENT, r"level 1 has codes of the shape \(1, 2, 4\), the model makes \(2, 2, 4\)"),
        ([CODES[0], CODES[1][:0]], EXTENT, r"level 1 has codes of the shape \(0, 2, 4\), the model makes \(2, 2, 4\)"),
        ([CODES[0], np.zeros((3, 2, 4), int)], EXTENT, r"level 1 has codes of the shape \(3, 2, 4\), the model makes"),
        (CODES, (5, 17), r"level 0 .* the model makes \(1, 3\)"),
        (CODES, (5, 65), "measures 5 x 65, expected 1 to 64 x 64"),
        (CODES, (5,), "the item is a sound"),
        ([CODES[0] + 1, CODES[1]], EXTENT, "level 0 has codes from 1 to 6, the model has 0 .. 5"),
        ([CODES[0], CODES[1] - 1], EXTENT, "level 1 has codes from -1 to 14, the model has 0 .. 19"),
        ([CODES[0] + 2**32, CODES[1]], EXTENT, "level 0 has codes from 4294967296"),
    ],
)
def test_what_the_model_lacks_is_not_written(codes: list[np.ndarray], extent: tuple[int, ...], message: str) -> None:
    with pytest.raises(ContainerLimitError, match=message):
        write_codes(codes, layout=LAYOUT, model_hash=HASH, extent=extent)


def changed(**fields: object) -> Container:
    return dataclasses.replace(CONTAINER, **fields)


@pytest.mark.parametrize(
    ("container", "error", "message"),
    [
        (changed(prior_prefix=HASH[:32]), MalformedContainerError, "names a prior, expected none"),
        (changed(extent=(5,)), ContainerLimitError, "the item is a sound, the model takes a picture"),
        (changed(extent=(65, 13)), ContainerLimitError, "measures 65 x 13"),
        (changed(extent=(5, 17)), ContainerLimitError, r"\(1, 2\), the model makes \(1, 3\)"),
        (changed(grids=CONTAINER.grids[:1]), ContainerLimitError, "codes of 1 levels, the model has 2"),
        (changed(grids=(Grid(2, (1, 2)), CONTAINER.grids[1])), ContainerLimitError, r"\(2, 1, 2\), the model makes"),
        (changed(grids=(Grid(1, (2, 1)), CONTAINER.grids[1])), ContainerLimitError, r"\(2, 1\), the model makes"),
        (changed(payload=b""), ContainerLimitError, "has 0 bytes, the model's tokens take 11"),
        (changed(payload=CONTAINER.payload + b"\0"), ContainerLimitError, "has 12 bytes"),
        (changed(payload=b"\xa1" + CONTAINER.payload[1:]), MalformedContainerError, "zeros in its unused bits"),
        (changed(payload=b"\xe0" + CONTAINER.payload[1:]), ContainerLimitError, "level 0 has codes from 0 to 7"),
        (changed(payload=b"\x80" + CONTAINER.payload[1:]), MalformedContainerError, "the tokens have the checksum"),
        (changed(tokens_crc=0), MalformedContainerError, "expected 00000000: read them with the model"),
    ],
)
def test_what_the_model_lacks_is_not_read(container: Container, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_codes(container, LAYOUT)
