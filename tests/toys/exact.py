"""Toys with an exact prior: their own prior once more, with tables of integers."""

import math
from dataclasses import replace

import numpy as np

from artifact.code_prior import EXACT_PRIOR, PRIOR
from tests.toys.publish import ExactToy, Toy

UNIT = 1 / 256
"""Nats of an integer."""
_MULTIPLE = 128
"""What halves up to seven times stays an integer: the toys' priors weigh codes by 2^-age along a row or a column."""


def exact_tables(tables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Round tables of logits to integers; those of ages, `M` and what begins so, stay as they are."""
    return {
        name: table if name.startswith("M") else (_MULTIPLE * np.round(table / UNIT / _MULTIPLE)).astype(np.float32)
        for name, table in tables.items()
    }


def with_exact(toy: Toy) -> Toy:
    """Give a toy whose prior is one of tables an exact prior."""
    assert toy.prior is not None
    programs = {
        role.replace(PRIOR, EXACT_PRIOR, 1): program
        for role, program in toy.programs.items()
        if role.split("_")[0] == PRIOR
    }
    links = toy.prior.get("links") or ({"grid": (toy.prior["height"], toy.prior["width"])},)
    classes = toy.prior.get("classes")
    conditions = toy.prior.get("conditions") or ({"label": classes} if classes else {})
    return replace(toy, exact=ExactToy(programs, exact_tables(dict(toy.prior_weights)), links, conditions))


def log2_p(logits: np.ndarray, codes: np.ndarray) -> float:
    """Give log2 p(codes) from integer logits, by mathematics and not by tables."""
    nats = logits.astype(np.float64) * UNIT
    log_p = nats - np.logaddexp.reduce(nats, axis=-1, keepdims=True)
    return float(np.take_along_axis(log_p, codes[..., None].astype(np.int64), axis=-1).sum() / math.log(2))
