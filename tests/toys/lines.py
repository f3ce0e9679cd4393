"""A model of patches whose prior is a chain: its raster, then a sequence over the same grid that is given features."""

from dataclasses import dataclass, replace

import numpy as np

from artifact.codes import draw_codes
from artifact.manifest import Link, Tensor
from tests.toys import tokens
from tests.toys.publish import Program, Toy
from tests.toys.tokens import ToyTokens

TAPS = 3


@dataclass(frozen=True)
class ToyLine:
    """The second link: logits at a place are T1[code before] + T2[the one before that] + T3[...] + given + T_class."""

    tokens: ToyTokens
    tables: dict[str, np.ndarray]

    @property
    def places(self) -> int:
        return self.tokens.grid**2

    def sample(self, row: dict[str, np.ndarray]) -> np.ndarray:
        """Draw one grid, place by place, from all that was drawn so far."""
        codes = np.zeros(self.places, dtype=np.int32)
        known = row["known"].ravel() if "known" in row else np.full(self.places, -1)
        given = row["given"].reshape(self.places, -1)
        for place in range(self.places):
            logits = given[place] + self.tables["Tc2"][row["condition"]].astype(np.float64)
            for back in range(1, min(place, TAPS) + 1):
                logits = logits + self.tables[f"S{back}"][codes[place - back]]
            options = {name: row[name].item() for name in ("temperature", "top_k", "top_p") if name in row}
            drawn = draw_codes(logits[None].astype(np.float32), row["uniform"][place : place + 1], **options)
            codes[place] = drawn[0] if known[place] < 0 else known[place]
        return codes.reshape(self.tokens.grid, self.tokens.grid)


def with_line(model: ToyTokens, seed: int) -> ToyLine:
    """Give a model that has a raster prior a second link."""
    generator, K = np.random.default_rng(seed), model.num_embeddings
    names = {f"S{back}": K for back in range(1, TAPS + 1)} | {"Tc2": len(model.classes) + 1}
    tables = {name: (1.5 * generator.standard_normal((rows, K))).astype(np.float32) for name, rows in names.items()}
    return ToyLine(model, tables)


_STEP = """
    i = Cast <to = 7> (code)  o = OneHot <axis = -1> (i, depth, values)
    p = Cast <to = 1> (position)  k = Min (p, one)  k1 = Unsqueeze (k, axis1)
    entry_codes = Mul (o, k1)  l1 = MatMul (entry_codes, S1)
    p2 = Sub (position, back1)  r2 = Mod (p2, ring)  h2 = OneHot <axis = -1> (r2, ring, values)
    u2 = Unsqueeze (h2, axis1)  c2 = MatMul (u2, cache_codes)  q2 = Squeeze (c2, axis1)  l2 = MatMul (q2, S2)
    p3 = Sub (position, back2)  r3 = Mod (p3, ring)  h3 = OneHot <axis = -1> (r3, ring, values)
    u3 = Unsqueeze (h3, axis1)  c3 = MatMul (u3, cache_codes)  q3 = Squeeze (c3, axis1)  l3 = MatMul (q3, S3)
    c = Gather <axis = 0> (Tc2, condition)  s1 = Add (l1, l2)  s2 = Add (s1, l3)  s3 = Add (s2, given)
    logits = Add (s3, c)
"""


def toy(line: ToyLine) -> Toy:
    """Give what the artifact is made of."""
    base, model, ring = tokens.toy(line.tokens), line.tokens, TAPS - 1
    K, grid = model.num_embeddings, (model.grid, model.grid)
    constants = f"""
        int64[1] depth = {{{K}}}, float[2] values = {{0.0, 1.0}}, int64[1] axis1 = {{1}}, float[1] one = {{1.0}},
        int64[1] back1 = {{1}}, int64[1] back2 = {{2}}, int64[1] ring = {{{ring}}}
    """

    def numbers(name: str, *shape: int) -> Tensor:
        return Tensor(name=name, dtype="float32", shape=("B", *shape), unit="hidden")

    def integers(name: str, last: int, dtype: str = "int64") -> Tensor:
        return Tensor.model_validate(
            {"name": name, "dtype": dtype, "shape": ("B",), "minimum": 0, "maximum": last, "unit": "index"}
        )

    step = Program(
        [
            integers("code", K - 1, "int32"),
            integers("position", line.places - 1),
            numbers("cache_codes", ring, K),
            numbers("given", K),
            integers("condition", len(model.classes)),
        ],
        [numbers("logits", K), numbers("entry_codes", K)],
        constants,
        _STEP,
    )
    links = (Link(grid=grid), Link(codebook=1, order="sequence", grid=grid))
    return replace(
        base,
        programs={**base.programs, "prior_1_step": step},
        prior={"links": links, "conditions": {"label": model.classes}},
        prior_weights={**base.prior_weights, **line.tables},
    )
