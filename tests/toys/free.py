"""A model of pictures of any size whose prior is over grids of any size, and that prior in plain NumPy."""

from dataclasses import replace

import numpy as np

from artifact.manifest import Tensor
from artifact.noise import CODES_STREAM, batch_uniform
from tests.toys import tokens
from tests.toys.publish import Program, Toy
from tests.toys.tokens import ToyTokens

SIDE = 2
"""Of the grid that the step graphs are made for."""

_PARALLEL = """
    a = Gather <axis = 0> (Ta, codes)  a1 = Slice (a, zero, minus, axis1)  a2 = Pad (a1, front, none, axis1)
    l = Gather <axis = 0> (Tl, codes)  l1 = Slice (l, zero, minus, axis2)  l2 = Pad (l1, front, none, axis2)
    logits = Add (a2, l2)
"""
_ROW = """
    p = Cast <to = 1> (position)  k = Min (p, one)  k1 = Unsqueeze (k, axes12)  a = Gather <axis = 0> (Ta, codes)
    context = Mul (a, k1)
"""
_PIXEL = """
    m = Mod (position, width)  p = Cast <to = 1> (m)  k = Min (p, one)  k1 = Unsqueeze (k, axis1)
    l = Gather <axis = 0> (Tl, code)  l1 = Mul (l, k1)  logits = Add (context, l1)
"""
_CONSTANTS = f"""
    int64[1] zero = {{0}}, int64[1] minus = {{-1}}, int64[2] front = {{1, 0}}, float none = {{0.0}},
    float[1] one = {{1.0}}, int64[1] axis1 = {{1}}, int64[1] axis2 = {{2}}, int64[2] axes12 = {{1, 2}},
    int64[1] width = {{{SIDE}}}
"""


def tables(model: ToyTokens, seed: int) -> dict[str, np.ndarray]:
    """Draw what a code says of the one below it and of the one to its right."""
    generator, K = np.random.default_rng(seed), model.num_embeddings
    return {name: (1.5 * generator.standard_normal((K, K))).astype(np.float32) for name in ("Ta", "Tl")}


def logits(tables: dict[str, np.ndarray], codes: np.ndarray) -> np.ndarray:
    """Give the logits of every place of grids of any size."""
    found = np.zeros((*codes.shape, len(tables["Ta"])))
    found[:, 1:] += tables["Ta"][codes[:, :-1]]
    found[:, :, 1:] += tables["Tl"][codes[:, :, :-1]]
    return found


def surprise(tables: dict[str, np.ndarray], codes: np.ndarray) -> np.ndarray:
    """Give -log p of every code."""
    scores = logits(tables, codes)
    log_p = scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)
    return -np.take_along_axis(log_p, codes[..., None], axis=-1)[..., 0]


def sample(tables: dict[str, np.ndarray], n: int, seed: int, height: int, width: int) -> np.ndarray:
    """Draw grids by a full pass for every place."""
    uniform = batch_uniform(seed, 0, n, height * width, stream=CODES_STREAM)
    codes = np.zeros((n, height, width), dtype=np.int32)
    for y, x in np.ndindex(height, width):
        scores = logits(tables, codes)[:, y, x]
        p = np.exp(scores - scores.max(-1, keepdims=True))
        target = uniform[:, y * width + x, None] * p.sum(-1, keepdims=True)
        codes[:, y, x] = (p.cumsum(-1) <= target).sum(-1)
    return codes


def toy(model: ToyTokens, tables: dict[str, np.ndarray]) -> Toy:
    """Give what the artifact is made of."""
    plain, K = tokens.toy(model), model.num_embeddings
    position = Tensor(name="position", dtype="int64", shape=("B",), minimum=0, maximum=SIDE * SIDE - 1, unit="place")
    programs = {
        "prior": Program(
            [tokens._codes("codes", model, "h", "w")], [_numbers("logits", "h", "w", K)], _CONSTANTS, _PARALLEL
        ),
        "prior_row": Program(
            [tokens._codes("codes", model, "w"), position], [_numbers("context", "w", K)], _CONSTANTS, _ROW
        ),
        "prior_pixel": Program(
            [tokens._codes("code", model), position, _numbers("context", K)],
            [_numbers("logits", K)],
            _CONSTANTS,
            _PIXEL,
        ),
    }
    return replace(
        plain,
        programs={**plain.programs, **programs},
        capabilities=(*plain.capabilities, "sample"),
        prior={"links": [{"grid": (SIDE, SIDE), "any_size": True}]},
        prior_weights=tables,
    )


def _numbers(name: str, *shape: int | str) -> Tensor:
    return Tensor(name=name, dtype="float32", shape=("B", *shape), unit="hidden")
