"""Reading codes place by place, and weighing them at once: the same logits, whatever is read beside whatever."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from artifact.code_prior import Link
from artifact.coding import read_codes, weigh_by_steps, weigh_codes
from artifact.exact import ExactParity, ExactPrior
from artifact.graph import DType, Graph, Tensor
from artifact.sampling import complete

K, L, CLASSES = 5, 6, 2
RANDOM = np.random.default_rng(0)
ABOVE, LEFT, OF_CLASS = (RANDOM.integers(-900, 900, shape) for shape in ((K + 1, K), (K + 1, K), (CLASSES + 1, K)))
GIVEN, BEFORE = RANDOM.integers(-900, 900, (K, L)), RANDOM.integers(-900, 900, (L + 1, L))
FACTOR = 6


def tensor(name: str, *shape: int | str, dtype: DType = "float32", maximum: int | None = None) -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=("B", *shape), maximum=maximum, unit="hidden")


def graph(role: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Graph:
    return Graph(file=f"{role}.onnx", sha256="0" * 64, opset=17, inputs=inputs, outputs=outputs)


CLASS, POSITION = tensor("condition", dtype="int64", maximum=CLASSES), tensor("position", dtype="int64")
GRAPHS = {
    "prior_exact": ((tensor("codes", "h", "w", dtype="int32"), CLASS), (tensor("logits", "h", "w", K),)),
    "prior_exact_row": (
        (tensor("codes", "w", dtype="int32"), POSITION, tensor("state_rows", 1), CLASS),
        (tensor("context", "w", K), tensor("next_state_rows", 1)),
    ),
    "prior_exact_pixel": (
        (tensor("code", dtype="int32"), POSITION, tensor("context", K), tensor("state_left", 1)),
        (tensor("logits", K), tensor("next_state_left", 1)),
    ),
    "prior_exact_1": ((tensor("codes", "t", dtype="int32"), tensor("given", "t", L)), (tensor("logits", "t", L),)),
    "prior_exact_1_given": ((tensor("codes_0", "h", "w", dtype="int32"),), (tensor("given", "t", L),)),
    "prior_exact_1_step": (
        (tensor("code", dtype="int32"), POSITION, tensor("cache_codes", 3, 1), tensor("given", L)),
        (tensor("logits", L), tensor("entry_codes", 1)),
    ),
}
LINKS = (Link(grid=(3, 2), any_size=True), Link(level=1, order="sequence", grid=(FACTOR * 6,), any_size=True))
PARTS = {
    "graphs": {role: graph(role, *tensors) for role, tensors in GRAPHS.items()},
    "links": LINKS,
    "conditions": {"label": ("a", "b")},
    "canonical_hash": "0" * 64,
    "float_bits_per_token": 1.0,
    "exact_bits_per_token": 1.0,
    "parity": ExactParity(grids=1, integers=1),
}
PRIOR = ExactPrior(**PARTS)


def first_logits(codes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Give ABOVE[code above] + LEFT[code to the left] + the class' of every place; K stands for none."""
    above = np.pad(codes, ((0, 0), (1, 0), (0, 0)), constant_values=K)[:, :-1]
    left = np.pad(codes, ((0, 0), (0, 0), (1, 0)), constant_values=K)[:, :, :-1]
    return ABOVE[above] + LEFT[left] + OF_CLASS[classes][:, None, None]


def second_logits(codes: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Give BEFORE of the codes one and three places before + what the place above in the first grid says."""
    found = GIVEN[first.reshape(len(first), -1).repeat(FACTOR, axis=1)]
    for back in (1, 3):
        found = found + BEFORE[np.pad(codes, ((0, 0), (back, 0)), constant_values=L)[:, :-back]]
    return found


def run(role: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Compute a graph."""
    assert set(feeds) == {tensor.name for tensor in PRIOR.graphs[role].inputs}
    if role == "prior_exact":
        return {"logits": first_logits(feeds["codes"], feeds["condition"]).astype(np.float32)}
    if role == "prior_exact_1_given":
        first = feeds["codes_0"]
        return {"given": GIVEN[first.reshape(len(first), -1).repeat(FACTOR, axis=1)].astype(np.float32)}
    if role == "prior_exact_1":
        found = feeds["given"].astype(np.int64)
        for back in (1, 3):
            found += BEFORE[np.pad(feeds["codes"], ((0, 0), (back, 0)), constant_values=L)[:, :-back]]
        return {"logits": found.astype(np.float32)}
    if role == "prior_exact_row":
        above = ABOVE[np.where(feeds["position"][:, None] > 0, feeds["codes"], K)]
        context = above + OF_CLASS[feeds["condition"]][:, None]
        return {"context": context.astype(np.float32), "next_state_rows": feeds["state_rows"] + 1}
    if role == "prior_exact_pixel":
        is_first = feeds["state_left"][:, 0] % 4 == 0  # 4 places in a row, as a memory of its own counts them
        logits = feeds["context"] + LEFT[np.where(is_first, K, feeds["code"])]
        return {"logits": logits.astype(np.float32), "next_state_left": feeds["state_left"] + 1}
    place = feeds["position"]
    third = feeds["cache_codes"][np.arange(len(place)), (place - 2) % 3, 0].astype(np.int64)
    logits = feeds["given"] + BEFORE[np.where(place > 0, feeds["code"], L)] + BEFORE[np.where(place > 2, third, L)]
    return {"logits": logits.astype(np.float32), "entry_codes": feeds["code"][:, None].astype(np.float32)}


class Checked:
    """A decoder that gives known codes, and is told the logits that they should be read under."""

    def __init__(self, codes: list[int], logits: list[np.ndarray]) -> None:
        self.left = list(zip(codes, logits, strict=True))

    def decode(self, logits: np.ndarray) -> int:
        code, expected = self.left.pop(0)
        assert logits.dtype == np.int32
        assert np.array_equal(logits, expected)
        return code


def grids(rows: int) -> list[np.ndarray]:
    """Draw grids of another size than the graphs were made for."""
    generator = np.random.default_rng(rows)
    places = 5 * 4
    return [
        generator.integers(0, K, (rows, 5, 4), dtype=np.int32),
        generator.integers(0, L, (rows, FACTOR * places), dtype=np.int32),
    ]


@pytest.mark.parametrize("rows", [1, 3])
def test_codes_are_read_under_the_logits_of_their_place_link_after_link(rows: int) -> None:
    first, second = grids(rows)
    classes = np.arange(rows) % (CLASSES + 1)
    logits = first_logits(first, classes), second_logits(second, first)
    decoders = [
        Checked(
            [*first[row].ravel().tolist(), *second[row].tolist()],
            [*logits[0][row].reshape(-1, K), *logits[1][row]],
        )
        for row in range(rows)
    ]
    found = complete(read_codes(PRIOR, [(5, 4), second.shape[1:]], decoders, {"condition": classes}), run)
    assert np.array_equal(found[0], first)
    assert np.array_equal(found[1], second)
    assert not any(decoder.left for decoder in decoders)


@pytest.mark.parametrize("weigh", [weigh_codes, weigh_by_steps])
def test_logits_are_integers_and_a_condition_left_out_is_none(weigh: Any) -> None:
    codes = grids(2)
    found = complete(weigh(PRIOR, codes), run)
    assert [logits.dtype for logits in found] == [np.int32, np.int32]
    assert np.array_equal(found[0], first_logits(codes[0], np.array([CLASSES, CLASSES])))
    assert np.array_equal(found[1], second_logits(codes[1], codes[0]))


def test_an_exact_prior_has_the_graphs_of_all_its_links() -> None:
    without = {role: graph for role, graph in PRIOR.graphs.items() if role != "prior_exact_1_step"}
    with pytest.raises(ValidationError, match=r"link 1 of the exact prior lacks the graphs \['prior_exact_1_step'\]"):
        ExactPrior(**(PARTS | {"graphs": without}))
