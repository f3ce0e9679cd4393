"""A linear VAE, and its mathematics once more in plain NumPy."""

from dataclasses import dataclass

import numpy as np

from artifact.manifest import ContinuousLevel, ImageGeometry, NoiseInput, Tensor
from artifact.noise import POSTERIOR_STREAM
from tests.toys.publish import Program, Toy

SIDE = 8
COLOUR_SCALE = 20.0
LOG_2_PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class ToyReference:
    """A linear VAE in float64: mean = Wx + b, log_variance = Vx + c, decoder output = Uz + d.

    Attributes:
        weights: W, b, V, c, U, d by name, float32 as stored.
        channels: of the images, 8x8 pixels.
        binary: Bernoulli with logits Uz + d, else a Gaussian density around Uz + d, in units of intensity.
    """

    weights: dict[str, np.ndarray]
    channels: int
    binary: bool

    @property
    def dimensions(self) -> int:
        return self.weights["b"].size

    @property
    def shape(self) -> tuple[int, int, int]:
        return SIDE, SIDE, self.channels

    def images(self, batch: int, seed: int = 0) -> np.ndarray:
        """Draw images that the model takes."""
        images = np.random.default_rng(seed).integers(0, 256, (batch, *self.shape), dtype=np.uint8)
        return np.where(images >= 128, 255, 0).astype(np.uint8) if self.binary else images

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = images.reshape(len(images), -1) / 255.0
        w = {name: value.astype(np.float64) for name, value in self.weights.items()}
        return x @ w["W"] + w["b"], x @ w["V"] + w["c"]

    def output(self, z: np.ndarray) -> np.ndarray:
        """Give the decoder's output, `[..., H * W * C]`."""
        return z.astype(np.float64) @ self.weights["U"].astype(np.float64) + self.weights["d"]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Give the mean image before it is rounded, in 0..255."""
        output = self.output(z)
        mean = 255.0 / (1.0 + np.exp(-output)) if self.binary else output
        return mean.reshape(len(z), *self.shape)

    def log_weight(
        self, images: np.ndarray, mean: np.ndarray, log_variance: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        noise = noise.astype(np.float64)
        z = mean[:, None] + np.exp(log_variance / 2.0)[:, None] * noise
        x = images.reshape(len(images), 1, -1).astype(np.float64)
        output = self.output(z)
        if self.binary:
            log_p_x = (x / 255.0 * output - np.logaddexp(0.0, output)).sum(-1)
        else:
            log_p_x = _log_normal((x - output) / COLOUR_SCALE).sum(-1) - x.shape[-1] * np.log(COLOUR_SCALE)
        log_q = (_log_normal(noise) - log_variance[:, None] / 2.0).sum(-1)
        return log_p_x, _log_normal(z).sum(-1), log_q


def _log_normal(value: np.ndarray) -> np.ndarray:
    return -0.5 * (value**2 + LOG_2_PI)


def make(seed: int, channels: int, dimensions: int, *, binary: bool) -> ToyReference:
    """Draw the weights of a linear VAE."""
    generator = np.random.default_rng(seed)
    pixels = SIDE * SIDE * channels

    def draw(*shape: int, scale: float, shift: float = 0.0) -> np.ndarray:
        return (shift + scale * generator.standard_normal(shape)).astype(np.float32)

    spread, centre = (1.0, 0.0) if binary else (20.0, 128.0)
    weights = {
        "W": draw(pixels, dimensions, scale=1.0 / np.sqrt(pixels)),
        "b": draw(dimensions, scale=0.1),
        "V": draw(pixels, dimensions, scale=0.3 / np.sqrt(pixels)),
        "c": draw(dimensions, scale=0.1, shift=-1.0),
        "U": draw(dimensions, pixels, scale=spread),
        "d": draw(pixels, scale=spread / 2.0, shift=centre),
    }
    return ToyReference(weights, channels, binary)


def toy(reference: ToyReference, capabilities: tuple[str, ...]) -> Toy:
    """Give what a VAE's artifact is made of; one that cannot tell a likelihood has no `log_weight` and no bound."""
    bounded = "likelihood" in capabilities
    noise = NoiseInput(graph="log_weight", tensor="noise", distribution="standard_normal", stream=POSTERIOR_STREAM)
    programs = _programs(reference)
    return Toy(
        geometry=ImageGeometry(channels=reference.channels, height=SIDE, width=SIDE),
        latent=ContinuousLevel(dimensions=reference.dimensions),
        programs={role: program for role, program in programs.items() if bounded or role != "log_weight"},
        weights=reference.weights,
        capabilities=capabilities,
        bound="elbo" if bounded else None,
        noise=(noise,) if bounded else (),
    )


def _tensors(reference: ToyReference) -> dict[str, Tensor]:
    D, pixels = reference.dimensions, ("B", *reference.shape)
    values = (0, 255) if reference.binary else None
    return {
        "x": Tensor(name="x", dtype="uint8", shape=pixels, minimum=0, maximum=255, values=values, unit="intensity"),
        "mean": Tensor(name="mean", dtype="float32", shape=("B", D), unit="latent"),
        "log_variance": Tensor(name="log_variance", dtype="float32", shape=("B", D), unit="log_variance"),
        "z": Tensor(name="z", dtype="float32", shape=("B", D), unit="latent"),
        "image": Tensor(name="mean", dtype="float32", shape=pixels, minimum=0, maximum=255, unit="intensity"),
        "logits": Tensor(name="logits", dtype="float32", shape=pixels, unit="logit"),
        "noise": Tensor(name="noise", dtype="float32", shape=("B", "S", D), unit="standard_normal"),
        "log_p_x_given_z": Tensor(name="log_p_x_given_z", dtype="float64", shape=("B", "S"), unit="nats"),
        "log_p_z": Tensor(name="log_p_z", dtype="float64", shape=("B", "S"), unit="nats"),
        "log_q": Tensor(name="log_q", dtype="float64", shape=("B", "S"), unit="nats"),
    }


# Graphs in ONNX's text form; W, b, V, c, U, d come from the shared weight file.
_ENCODE = """
    f = Cast <to = 1> (x)  g = Reshape (f, rows)  u = Div (g, full)
    m = MatMul (u, W)  mean = Add (m, b)
    v = MatMul (u, V)  log_variance = Add (v, c)
"""
_DECODE_BINARY = """
    m = MatMul (z, U)  o = Add (m, d)  logits = Reshape (o, image)
    p = Sigmoid (logits)  mean = Mul (p, full)
"""
_DECODE_COLOUR = "m = MatMul (z, U)  o = Add (m, d)  mean = Reshape (o, image)"
_LOG_WEIGHT = """
    h = Mul (log_variance, half)  k = Exp (h)  k1 = Unsqueeze (k, axis1)  m1 = Unsqueeze (mean, axis1)
    n = Mul (k1, noise)  z = Add (m1, n)  m = MatMul (z, U)  o = Add (m, d)
    f = Cast <to = 1> (x)  g = Reshape (f, pixels)
    {likelihood}
    e = Cast <to = 11> (log_p)  log_p_x_given_z = ReduceSum <keepdims = 0> (e, axis2)
    z2 = Mul (z, z)  pz = Add (z2, log2pi)  pzh = Mul (pz, minus)
    pd = Cast <to = 11> (pzh)  log_p_z = ReduceSum <keepdims = 0> (pd, axis2)
    n2 = Mul (noise, noise)  qn = Add (n2, log2pi)  lv1 = Unsqueeze (log_variance, axis1)  qv = Add (qn, lv1)
    qh = Mul (qv, minus)  qd = Cast <to = 11> (qh)  log_q = ReduceSum <keepdims = 0> (qd, axis2)
"""
_BERNOULLI = "u = Div (g, full)  y = Mul (u, o)  s = Softplus (o)  log_p = Sub (y, s)"
_GAUSSIAN = """
    r = Sub (g, o)  q = Div (r, scale)  q2 = Mul (q, q)  q3 = Add (q2, log2pi)  q4 = Mul (q3, minus)
    log_p = Sub (q4, logscale)
"""
_CONSTANTS = """
    int64[2] rows = {{0, -1}}, int64[3] pixels = {{0, 1, -1}}, int64[4] image = {{-1, {side}, {side}, {channels}}},
    int64[1] axis1 = {{1}}, int64[1] axis2 = {{2}}, float[1] full = {{255.0}}, float[1] half = {{0.5}},
    float[1] minus = {{-0.5}}, float[1] log2pi = {{{log2pi}}}, float[1] scale = {{{scale}}},
    float[1] logscale = {{{logscale}}}
"""


def _programs(reference: ToyReference) -> dict[str, Program]:
    t = _tensors(reference)
    constants = _CONSTANTS.format(
        side=SIDE,
        channels=reference.channels,
        log2pi=LOG_2_PI,
        scale=COLOUR_SCALE,
        logscale=float(np.log(COLOUR_SCALE)),
    )
    binary = reference.binary
    log_weight = _LOG_WEIGHT.format(likelihood=_BERNOULLI if binary else _GAUSSIAN)
    return {
        "encode": Program([t["x"]], [t["mean"], t["log_variance"]], constants, _ENCODE),
        "decode": Program(
            [t["z"]],
            [t["image"], t["logits"]] if binary else [t["image"]],
            constants,
            _DECODE_BINARY if binary else _DECODE_COLOUR,
        ),
        "log_weight": Program(
            [t["x"], t["mean"], t["log_variance"], t["noise"]],
            [t["log_p_x_given_z"], t["log_p_z"], t["log_q"]],
            constants,
            log_weight,
        ),
    }
