"""The specification's example is what the package writes, and what its decoder reads."""

import json
from collections.abc import Callable

import numpy as np

from codec.codes import read_codes, write_codes
from codec.container import read_container
from codec.layout import Layout, LevelLayout

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
