"""A VQ-VAE of sounds, its mathematics once more in plain NumPy, and a prior of one code given the one before it."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from artifact.manifest import AudioGeometry, DiscreteLevel, Tensor, Windows
from tests.toys.publish import Program, Toy

SAMPLE_RATE_HZ, DOWNSAMPLING = 8000, 64
NUM_EMBEDDINGS, EMBEDDING_DIM, CHANNELS = 32, 8, 8
MAXIMUM = 8192
LENGTH = 24
"""Places of a draw from the prior."""
SPEAKERS = ("anna", "ben")
DIGITS = ("zero", "one", "two")
SCALE = 0.1
WINDOWS = Windows(encode_halo=42, decode_halo=1)
"""Three layers of kernel 8, stride 4 and padding 2: a place reads 42 samples on either side of its own 64."""
CAPABILITIES = ("encode", "decode", "reconstruct", "sample", "likelihood", "compress", "decompress")


@dataclass(frozen=True)
class ToySounds:
    """Three strided convolutions to the nearest of K code vectors, and three transposed ones back, all with tanh.

    The likelihood is the density of a Gaussian of standard deviation `SCALE` times the width of a 16-bit value's bin.
    The prior's logits are T[code before] + C[digit] + S[speaker]; at the first place the code before is K.

    Attributes:
        weights: of the model, by name, float32 as stored.
        prior_weights: of the prior, likewise.
    """

    weights: dict[str, np.ndarray]
    prior_weights: dict[str, np.ndarray]

    def sound(self, length: int, seed: int = 0) -> np.ndarray:
        """Draw a sound: tones that come and go, and noise; 16-bit values."""
        generator = np.random.default_rng(seed)
        time = np.arange(length) / SAMPLE_RATE_HZ
        loudness = np.sin(2 * np.pi * 0.7 * time) ** 2
        tones = sum(np.sin(2 * np.pi * f * time + generator.random()) for f in (220.0, 703.0, 1511.0)) / 3
        sound = 0.7 * loudness * tones + 0.2 * generator.standard_normal(length)
        return (np.clip(np.rint(sound * 32768), -32768, 32767) / 32768).astype(np.float32)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Give the codes, `[B, t]`."""
        return self.distances(x).argmin(-1).astype(np.int32)

    def distances(self, x: np.ndarray) -> np.ndarray:
        """Give the squared distance to each code vector, `[B, t, K]`."""
        h = x[:, None].astype(np.float64)
        for name in ("W1", "W2", "W3"):
            windows = sliding_window_view(np.pad(h, ((0, 0), (0, 0), (2, 2))), 8, axis=2)[:, :, ::4]
            h = np.tanh(np.einsum("bctk,dck->bdt", windows, self.weights[name].astype(np.float64)))
        return ((h.swapaxes(1, 2)[:, :, None] - self.weights["E"].astype(np.float64)) ** 2).sum(-1)

    def decode(self, codes: np.ndarray, speaker: np.ndarray | None = None) -> np.ndarray:
        """Give the mean, `[B, T]`; without a speaker each row has none."""
        speaker = np.full(len(codes), len(SPEAKERS)) if speaker is None else speaker
        h = self.weights["E"][codes].astype(np.float64) + self.weights["S"][speaker].astype(np.float64)[:, None]
        h = h.swapaxes(1, 2)
        for name in ("V1", "V2", "V3"):
            weight = self.weights[name].astype(np.float64)
            full = np.zeros((len(h), weight.shape[1], 4 * h.shape[2] + 4))
            for tap in range(8):
                full[:, :, tap : tap + 4 * h.shape[2] : 4] += np.einsum("bct,cd->bdt", h, weight[:, :, tap])
            h = np.tanh(full[:, :, 2:-2])
        return h[:, 0]

    def log_likelihood(self, x: np.ndarray, codes: np.ndarray, speaker: np.ndarray | None = None) -> np.ndarray:
        """Give log p(x given codes) of every sample, `[B, T]`."""
        deviation = (x - self.decode(codes, speaker)) / SCALE
        return -0.5 * (deviation**2 + np.log(2 * np.pi)) - np.log(SCALE * 32768)

    def surprise(self, codes: np.ndarray, digit: np.ndarray, speaker: np.ndarray) -> np.ndarray:
        """Give -log p of every code, `[B, t]`."""
        before = np.concatenate([np.full((len(codes), 1), NUM_EMBEDDINGS), codes[:, :-1]], axis=1)
        tables = {name: value.astype(np.float64) for name, value in self.prior_weights.items()}
        logits = tables["T"][before] + (tables["C"][digit] + tables["P"][speaker])[:, None]
        log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        return -np.take_along_axis(log_p, codes[..., None], axis=-1)[..., 0]


def make(seed: int) -> ToySounds:
    """Draw the weights of a model and its prior."""
    generator = np.random.default_rng(seed)

    def draw(scale: float, *shape: int) -> np.ndarray:
        return (scale * generator.standard_normal(shape)).astype(np.float32)

    codebook = draw(0.6, NUM_EMBEDDINGS, EMBEDDING_DIM)
    weights = {
        "W1": draw(0.8, CHANNELS, 1, 8),
        "W2": draw(0.3, CHANNELS, CHANNELS, 8),
        "W3": draw(0.3, EMBEDDING_DIM, CHANNELS, 8),
        "E": codebook,
        "Et": np.ascontiguousarray(codebook.T),
        "N": (codebook**2).sum(1),
        "S": draw(0.7, len(SPEAKERS) + 1, EMBEDDING_DIM),
        "V1": draw(0.5, EMBEDDING_DIM, CHANNELS, 8),
        "V2": draw(0.4, CHANNELS, CHANNELS, 8),
        "V3": draw(0.3, CHANNELS, 1, 8),
    }
    prior_weights = {
        "T": draw(1.5, NUM_EMBEDDINGS + 1, NUM_EMBEDDINGS),
        "C": draw(1.5, len(DIGITS) + 1, NUM_EMBEDDINGS),
        "P": draw(1.5, len(SPEAKERS) + 1, NUM_EMBEDDINGS),
    }
    return ToySounds(weights, prior_weights)


def toy(sounds: ToySounds, *, windows: Windows | None = WINDOWS, maximum: int = MAXIMUM) -> Toy:
    """Give what the artifact is made of."""
    return Toy(
        geometry=AudioGeometry(sample_rate_hz=SAMPLE_RATE_HZ, multiple_of=DOWNSAMPLING, maximum=maximum),
        latent=DiscreteLevel(num_embeddings=NUM_EMBEDDINGS, embedding_dim=EMBEDDING_DIM, downsampling=DOWNSAMPLING),
        programs=_programs(),
        weights=sounds.weights,
        capabilities=CAPABILITIES,
        bound="elbo",
        prior={
            "links": ({"order": "sequence", "grid": (LENGTH,), "any_size": True},),
            "conditions": {"label": DIGITS, "speaker": SPEAKERS},
        },
        prior_weights=sounds.prior_weights,
        conditions={"speaker": SPEAKERS},
        windows=windows,
    )


_CONV = "strides = [4], pads = [2, 2], kernel_shape = [8]"
_ENCODE = f"""
    u = Unsqueeze (x, axis1)  c1 = Conv <{_CONV}> (u, W1)  h1 = Tanh (c1)  c2 = Conv <{_CONV}> (h1, W2)
    h2 = Tanh (c2)  c3 = Conv <{_CONV}> (h2, W3)  h3 = Tanh (c3)  z = Transpose <perm = [0, 2, 1]> (h3)
    e = MatMul (z, Et)  e2 = Mul (e, two)  n = Sub (N, e2)  i = ArgMin <axis = -1, keepdims = 0> (n)
    codes = Cast <to = 6> (i)
"""
_EMBED = "z_q = Gather <axis = 0> (E, codes)"
_DECODE = f"""
    z = Gather <axis = 0> (E, codes)  s = Gather <axis = 0> (S, speaker)  s1 = Unsqueeze (s, axis1)  zs = Add (z, s1)
    d0 = Transpose <perm = [0, 2, 1]> (zs)  t1 = ConvTranspose <{_CONV}> (d0, V1)  d1 = Tanh (t1)
    t2 = ConvTranspose <{_CONV}> (d1, V2)  d2 = Tanh (t2)  t3 = ConvTranspose <{_CONV}> (d2, V3)  d3 = Tanh (t3)
    mean = Squeeze (d3, axis1)
"""
_LOG_LIKELIHOOD = (
    _DECODE
    + """
    x64 = Cast <to = 11> (x)  m64 = Cast <to = 11> (mean)  r = Sub (x64, m64)  g = Div (r, scale)
    g2 = Mul (g, g)  g3 = Mul (g2, minus)  log_p_x_given_z = Add (g3, constant)
"""
)
_TABLES = """
    tc = Gather <axis = 0> (C, condition)  tp = Gather <axis = 0> (P, speaker)  tg = Add (tc, tp)
"""
_PRIOR = (
    """
    c = Slice (codes, zero, last, axis1)  f = Slice (codes, zero, one, axis1)  f0 = Mul (f, nought)  k = Add (f0, start)
    b = Concat <axis = 1> (k, c)  l = Gather <axis = 0> (T, b)
"""
    + _TABLES
    + "t1 = Unsqueeze (tg, axis1)  logits = Add (l, t1)"
)
_STEP = (
    """
    is_first = Equal (position, zero)  b = Where (is_first, start, code)  l = Gather <axis = 0> (T, b)
"""
    + _TABLES
    + "logits = Add (l, tg)"
)


def _programs() -> dict[str, Program]:
    x = Tensor(name="x", dtype="float32", shape=("B", "T"), minimum=-1, maximum=1, unit="amplitude")
    codes = _codes("codes", "t")
    z_q = Tensor(name="z_q", dtype="float32", shape=("B", "t", EMBEDDING_DIM), unit="latent")
    mean = Tensor(name="mean", dtype="float32", shape=("B", "T"), minimum=-1, maximum=1, unit="amplitude")
    log_p = Tensor(name="log_p_x_given_z", dtype="float64", shape=("B", "T"), unit="nats")
    speaker, digit = _class("speaker", len(SPEAKERS)), _class("condition", len(DIGITS))
    position = Tensor(name="position", dtype="int64", shape=("B",), minimum=0, maximum=LENGTH - 1, unit="place")
    constants = f"""
        int64[1] axis1 = {{1}}, float[1] two = {{2.0}}, double[1] scale = {{{SCALE}}}, double[1] minus = {{-0.5}},
        double[1] constant = {{{-0.5 * np.log(2 * np.pi) - np.log(SCALE * 32768)}}}
    """
    of_prior = f"""
        int64[1] axis1 = {{1}}, int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] last = {{-1}},
        int32[1] nought = {{0}}, int32[1] start = {{{NUM_EMBEDDINGS}}}
    """
    return {
        "encode": Program([x], [codes], constants, _ENCODE),
        "embed": Program([codes], [z_q], constants, _EMBED),
        "decode": Program([codes, speaker], [mean], constants, _DECODE),
        "log_likelihood": Program([x, codes, speaker], [log_p], constants, _LOG_LIKELIHOOD),
        "prior": Program([codes, digit, speaker], [_logits("t")], of_prior, _PRIOR),
        "prior_step": Program([_codes("code"), position, digit, speaker], [_logits()], of_prior, _STEP),
    }


def _codes(name: str, *grid: str) -> Tensor:
    return Tensor(name=name, dtype="int32", shape=("B", *grid), minimum=0, maximum=NUM_EMBEDDINGS - 1, unit="code")


def _class(name: str, classes: int) -> Tensor:
    return Tensor(name=name, dtype="int64", shape=("B",), minimum=0, maximum=classes, unit="class")


def _logits(*grid: str) -> Tensor:
    return Tensor(name="logits", dtype="float32", shape=("B", *grid, NUM_EMBEDDINGS), unit="logit")
