"""The specification's examples and vectors are what the package writes, and what its decoders read."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from codec import logistic
from codec.ans import Stack
from codec.coded import Chunk, Coded, write_coded
from codec.codes import read_codes, tokens_crc, write_codes
from codec.container import read_container
from codec.entropy import ChunkDecoder, encode_chunk
from codec.fitting import fit_coded
from codec.layout import Grid, Layout, LevelLayout
from codec.probabilities import EXPONENTIALS, frequencies, intervals
from codec.profile import Profile
from codec.range_coder import Encoder
from codec.reading import read_any
from codec.residual_payload import USUAL
from codec.sound_residual import read_sound, write_sound

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"

LAYOUT = Layout((LevelLayout(6, 1, 64), LevelLayout(20, 2, 32)), (None, None), multiple_of=64, maximum=4096)
HASH = "00112233445566778899aabbccddeeff" * 2
EXTENT = (3, 133)


def test_the_example(block: Callable[[str], str], decode: Callable[..., tuple[list, list]]) -> None:
    data = bytes.fromhex("".join(line.split("  ")[0] for line in block("hex").splitlines()))
    codes = [np.array(level) for level in json.loads(block("json"))]

    assert write_codes(codes, layout=LAYOUT, model_hash=HASH, extent=EXTENT) == data
    found = read_codes(read_container(data), LAYOUT)
    assert [level.tolist() for level in found] == [level.tolist() for level in codes]
    assert decode(data, [6, 20]) == (list(EXTENT), [level.ravel().tolist() for level in codes])


CODED_LAYOUT = Layout((LevelLayout(4, 2, 64),), (None, None), multiple_of=64, maximum=4096)
CODED_EXTENT, TOKENS = (80, 133), [[1, 0, 3], [2, 0, 2]]


def test_the_coded_example(block: Callable[[str], str], specified: dict[str, Callable[..., Any]]) -> None:
    data = bytes.fromhex("".join(line.split("  ")[0] for line in block("hex coded").splitlines()))
    logits = np.array(json.loads(block("json logits")), dtype=np.int32).reshape(2, 3, 4)
    chunks = tuple(
        Chunk(tokens_crc([np.array([row], dtype=np.int32)]), encode_chunk(*intervals(rows, np.array(row))))
        for rows, row in zip(logits, TOKENS, strict=True)
    )
    coded = Coded(Profile.PRIOR, HASH[:16], "8899aabb", CODED_EXTENT, chunks, 1, codebooks=1, conditions=11)

    assert write_coded(coded) == data
    assert read_any(data) == coded
    assert fit_coded(coded, CODED_LAYOUT) == ((Grid(1, (1, 3)),),) * 2
    for rows, row, chunk in zip(logits, TOKENS, chunks, strict=True):
        decoder = ChunkDecoder(chunk.payload)
        assert [decoder.decode(place) for place in rows] == row
        decoder.finish()
    found = specified["decode_coded"](data, [3, 3], lambda chunk, before: logits[chunk, len(before)].tolist())
    assert found == ([80, 133], 1, 11, 1, TOKENS)


def test_the_coded_example_in_one_chunk(block: Callable[[str], str]) -> None:
    text = FORMAT.read_text()
    payload, size, cut = re.search(
        r"have the one payload `([0-9A-F ]+)`, and (\d+) bytes in all\s+rather than (\d+)", text
    ).groups()  # type: ignore[union-attr]
    logits, tokens = np.array(json.loads(block("json logits")), dtype=np.int32), np.ravel(TOKENS)
    chunk = Chunk(tokens_crc([tokens.reshape(2, 3).astype(np.int32)]), encode_chunk(*intervals(logits, tokens)))
    coded = Coded(Profile.PRIOR, HASH[:16], "8899aabb", CODED_EXTENT, (chunk,), codebooks=1, conditions=11)

    assert chunk.payload == bytes.fromhex(payload)
    assert len(write_coded(coded)) == int(size)
    assert sum(len(line.split("  ")[0].split()) for line in block("hex coded").splitlines()) == int(cut)


def test_the_frequencies(block: Callable[[str], str], specified: dict[str, Callable[..., Any]]) -> None:
    for vector in json.loads(block("json frequencies")):
        assert frequencies(np.array(vector["logits"], dtype=np.int32)).tolist() == vector["f"]
        assert specified["frequencies"](vector["logits"]) == vector["f"]
    entries = re.findall(r"EXP\[(\d+)\] = (\d+)", FORMAT.read_text())
    assert len(entries) == 4
    assert all(EXPONENTIALS[int(step)] == int(value) for step, value in entries)


def test_the_symbols(block: Callable[[str], str]) -> None:
    vectors = json.loads(block("json symbols"))
    for vector in vectors:
        encoder, stack = Encoder(), Stack()
        for symbol in vector["symbols"]:
            encoder.push(*symbol)
            stack.push(*symbol)
        assert encoder.finish() == bytes.fromhex(vector["range"])
        assert stack.to_bytes() == bytes.fromhex(vector["stack"])
    assert any(len(bytes.fromhex(vector["stack"])) > 8 for vector in vectors)


def test_the_residuals_tables(block: Callable[[str], str]) -> None:
    tables = np.array([logistic.distribution(scale) for scale in range(logistic.SCALES)])
    assert hashlib.sha256(tables.astype("<u4").tobytes()).hexdigest() in FORMAT.read_text()
    usual = json.loads(block("json usual"))
    assert tuple(tuple(plane["weights"]) for plane in usual) == USUAL.weights
    assert tuple(tuple(plane["scales"]) for plane in usual) == USUAL.scales


def test_the_sound(block: Callable[[str], str]) -> None:
    t = np.arange(70)
    sound = ((37 * t**2) % 401 - 200 + (t > 40) * 3000 * (t % 7 - 3)).astype(np.int16)
    data = bytes.fromhex(block("hex sound"))
    assert write_sound(sound).data == data
    assert np.array_equal(read_sound(data, len(sound)), sound)
