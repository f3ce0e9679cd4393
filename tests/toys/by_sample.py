"""A model of sounds whose decoder draws sample by sample: the encoder and the prior of `tests.toys.sounds`."""

from dataclasses import dataclass, replace

import numpy as np

from artifact.codes import draw_codes
from artifact.manifest import Tensor
from artifact.noise import uniform
from tests.toys import sounds
from tests.toys.publish import Program, Toy
from tests.toys.sounds import DOWNSAMPLING, NUM_EMBEDDINGS, SPEAKERS, ToySounds

CLASSES, REACH, STREAM = 256, 3, 4
ROWS = REACH - 1
"""Of the cache: at place p it gives what was written at p - 2, when the class before was that of p - 3."""
MAXIMUM = 2048


@dataclass(frozen=True)
class ToyDecoder:
    """Logits U[code] + P[speaker] + A[class one before] + A[class three before]; of what is before the sound, nothing.

    Attributes:
        sounds: the encoder and the prior.
        weights: U, P and A.
    """

    sounds: ToySounds
    weights: dict[str, np.ndarray]

    def draw(self, codes: np.ndarray, speaker: int, seed: int, item: int, temperature: float = 1.0) -> np.ndarray:
        """Draw the sound of a row of codes, its classes."""
        noise = uniform(seed, item, len(codes) * DOWNSAMPLING, stream=STREAM)
        drawn: list[int] = []
        for place, number in enumerate(noise):
            logits = self.weights["U"][codes[place // DOWNSAMPLING]] + self.weights["P"][speaker]
            for gap in (1, REACH):
                if place >= gap:
                    logits = logits + self.weights["A"][drawn[place - gap]]
            drawn.append(int(draw_codes(logits[None], np.array([number]), temperature=temperature)[0]))
        return np.array(drawn, dtype=np.int32)


def make(seed: int) -> ToyDecoder:
    """Draw the weights."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        # Multiples of 1/8 add up without rounding, whatever the order.
        return (np.rint(12 * generator.standard_normal(shape)) / 8).astype(np.float32)

    tables = {"U": draw(NUM_EMBEDDINGS, CLASSES), "P": draw(len(SPEAKERS) + 1, CLASSES), "A": draw(CLASSES, CLASSES)}
    return ToyDecoder(sounds.make(seed), tables)


def toy(model: ToyDecoder) -> Toy:
    """Give what the artifact is made of."""
    base = sounds.toy(model.sounds, maximum=MAXIMUM)
    programs = {role: program for role, program in base.programs.items() if role != "decode"}
    return replace(
        base,
        programs=programs | _programs(base.programs["decode"]),
        weights=dict(base.weights) | model.weights,
        decoder="autoregressive",
    )


_GIVEN = """
    u = Gather <axis = 0> (U, codes)  u1 = Unsqueeze (u, axis2)  u2 = Tile (u1, times)  given = Reshape (u2, flat)
"""
_STEP = """
    g0 = Gather <axis = 0> (A, code)  is1 = Less (position, one)  i1 = Unsqueeze (is1, axis1)
    g1 = Where (i1, nought, g0)
    r0 = Mod (position, rows)  r1 = Unsqueeze (r0, axis1)  far = GatherND <batch_dims = 1> (cache_rows, r1)
    is3 = Less (position, reach)  i3 = Unsqueeze (is3, axis1)  f1 = Where (i3, nought, far)
    p = Gather <axis = 0> (P, speaker)  s1 = Add (given, p)  s2 = Add (s1, g1)  logits = Add (s2, f1)
    entry_rows = Identity (g0)
"""


def _programs(decode: Program) -> dict[str, Program]:
    codes, speaker = decode.inputs
    code = Tensor(name="code", dtype="int32", shape=("B",), minimum=0, maximum=CLASSES - 1, unit="mu_law")
    position = Tensor(name="position", dtype="int64", shape=("B",), minimum=0, maximum=MAXIMUM - 1, unit="sample")
    step = [code, position, _numbers("cache_rows", ROWS, CLASSES), _numbers("given", CLASSES), speaker]
    return {
        "decode_given": Program(
            [codes],
            [_numbers("given", "T", CLASSES)],
            f"""
                int64[1] axis2 = {{2}}, int64[4] times = {{1, 1, {DOWNSAMPLING}, 1}},
                int64[3] flat = {{0, -1, {CLASSES}}}
            """,
            _GIVEN,
        ),
        "decode_step": Program(
            step,
            [_numbers("logits", CLASSES), _numbers("entry_rows", CLASSES)],
            f"""
                int64[1] axis1 = {{1}}, int64[1] one = {{1}}, int64[1] reach = {{{REACH}}}, int64[1] rows = {{{ROWS}}},
                float[1] nought = {{0.0}}
            """,
            _STEP,
        ),
    }


def _numbers(name: str, *shape: int | str) -> Tensor:
    return Tensor(name=name, dtype="float32", shape=("B", *shape), unit="hidden")
