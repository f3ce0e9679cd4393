"""A linear model whose posterior and prior are no plain normals, and whose log p(x) has a closed form; and in NumPy."""

from dataclasses import dataclass

import numpy as np

from artifact.manifest import ContinuousLevel, ImageGeometry, NoiseInput, Tensor
from artifact.noise import POSTERIOR_STREAM, PRIOR_STREAM
from tests.toys.publish import Program, Toy
from tests.toys.vectors import COLOUR_SCALE, LOG_2_PI, SIDE, ToyReference, make

CAPABILITIES = ("encode", "decode", "reconstruct", "sample", "likelihood")
PIXELS = SIDE * SIDE


@dataclass(frozen=True)
class ToyShaped:
    """z = A u + a with u from a diagonal normal; the prior is a normal around m with deviations s; x = Uz + d + noise.

    Each sample of noise has one number more than z, which is not used.

    Attributes:
        linear: W, b, V, c of u's posterior, U and d of the decoder.
        weights: A, a, m, s by name.
        density: whether the likelihoods are declared to be densities.
    """

    linear: ToyReference
    weights: dict[str, np.ndarray]
    density: bool

    @property
    def dimensions(self) -> int:
        return self.linear.dimensions

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        mean, log_variance = self.linear.encode(images)
        return {"z": self._move(mean), "mean": mean, "log_variance": log_variance}

    def draw(self, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
        mean, log_variance = self.linear.encode(images)
        return self._move(mean[:, None] + np.exp(log_variance / 2)[:, None] * noise[..., 1:].astype(np.float64))

    def log_weights(self, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Give log p(x, z) - log q(z given x) of each sample."""
        mean, log_variance = self.linear.encode(images)
        log_p_x, _, log_q = self.linear.log_weight(images, mean, log_variance, noise[..., 1:])
        z = self.draw(images, noise)
        residual = images.reshape(len(images), 1, -1) - self.linear.output(z)
        log_p_x = -0.5 * (np.square(residual / COLOUR_SCALE) + LOG_2_PI + 2 * np.log(COLOUR_SCALE)).sum(-1)
        r = (z - self.weights["m"]) / self.weights["s"]
        log_p_z = -0.5 * (np.square(r) + LOG_2_PI + 2 * np.log(self.weights["s"].astype(np.float64))).sum(-1)
        return log_p_x + log_p_z - (log_q - np.linalg.slogdet(self.weights["A"].astype(np.float64))[1])

    def sample(self, noise: np.ndarray, temperature: float) -> np.ndarray:
        return self.weights["m"] + temperature * self.weights["s"] * noise[:, 1:].astype(np.float64)

    def marginal(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the mean and the covariance of p(x), which is normal."""
        loading = self.linear.weights["U"].astype(np.float64).T * self.weights["s"]
        covariance = loading @ loading.T + COLOUR_SCALE**2 * np.eye(len(loading))
        return self.linear.output(self.weights["m"]), covariance

    def _move(self, u: np.ndarray) -> np.ndarray:
        return u @ self.weights["A"].astype(np.float64) + self.weights["a"]


def make_shaped(seed: int, dimensions: int = 3, *, density: bool = False) -> ToyShaped:
    """Draw the weights."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int, scale: float) -> np.ndarray:
        return (scale * generator.standard_normal(shape)).astype(np.float32)

    weights = {
        "A": np.eye(dimensions, dtype=np.float32) + draw(dimensions, dimensions, scale=0.3),
        "a": draw(dimensions, scale=0.5),
        "m": draw(dimensions, scale=1.0),
        "s": np.linspace(0.5, 1.5, dimensions, dtype=np.float32),
    }
    return ToyShaped(make(seed, channels=1, dimensions=dimensions, binary=False), weights, density)


def toy(reference: ToyShaped, leave_out: tuple[str, ...] = (), **changes: object) -> Toy:
    """Give what its artifact is made of, without some graphs, or with other fields of `Toy`."""
    mean, covariance = reference.marginal()
    noises = (("draw", POSTERIOR_STREAM), ("log_weight", POSTERIOR_STREAM), ("draw_prior", PRIOR_STREAM))
    fields: dict[str, object] = {
        "capabilities": CAPABILITIES,
        "bound": "exact",
        "noise": tuple(
            NoiseInput(graph=graph, tensor="noise", distribution="standard_normal", stream=stream)
            for graph, stream in noises
            if graph not in leave_out
        ),
    }
    more = {"P": np.linalg.inv(covariance).astype(np.float32), "e": mean.astype(np.float32)}
    return Toy(
        geometry=ImageGeometry(channels=1, height=SIDE, width=SIDE),
        latent=ContinuousLevel(dimensions=reference.dimensions),
        programs={role: one for role, one in _programs(reference, covariance).items() if role not in leave_out},
        weights=reference.linear.weights | reference.weights | more,
        **fields | changes,  # type: ignore[arg-type]
    )


_ENCODE = """
    f = Cast <to = 1> (x)  g = Reshape (f, rows)  u = Div (g, full)
    m0 = MatMul (u, W)  mean = Add (m0, b)  v = MatMul (u, V)  log_variance = Add (v, c)
    za = MatMul (mean, A)  z = Add (za, a)  features = Neg (mean)
"""
_DRAW = """
    tail = Slice (noise, one, end, axis2)  h = Mul (log_variance, half)  k = Exp (h)
    k1 = Unsqueeze (k, axis1)  m1 = Unsqueeze (mean, axis1)  n = Mul (k1, tail)  u = Add (m1, n)
    za = MatMul (u, A)  z = Add (za, a)
"""
_DECODE = "o = MatMul (z, U)  q = Add (o, d)  mean = Reshape (q, image)"
_DRAW_PRIOR = """
    tail = Slice (noise, one, end, axis1)  q = Mul (tail, s)  t = Unsqueeze (temperature, axis1)
    qt = Mul (q, t)  z = Add (qt, m)
"""
_LOG_WEIGHT = f"""
    {_DRAW}
    o = MatMul (z, U)  q = Add (o, d)  f = Cast <to = 1> (x)  g = Reshape (f, pixels)
    r = Sub (g, q)  r1 = Div (r, scale)  r2 = Mul (r1, r1)  r3 = Add (r2, log2pi)  r4 = Add (r3, logscale)
    r5 = Mul (r4, minus)  r6 = Cast <to = 11> (r5)  log_p_x_given_z = ReduceSum <keepdims = 0> (r6, axis2)
    p = Sub (z, m)  p1 = Div (p, s)  p2 = Mul (p1, p1)  p3 = Add (p2, log2pi)  p4 = Mul (p3, minus)  p5 = Log (s)
    p6 = Sub (p4, p5)  p7 = Cast <to = 11> (p6)  log_p_z = ReduceSum <keepdims = 0> (p7, axis2)
    q2 = Mul (tail, tail)  q3 = Add (q2, log2pi)  lv = Unsqueeze (log_variance, axis1)  q4 = Add (q3, lv)
    q5 = Mul (q4, minus)  q6 = Cast <to = 11> (q5)  q7 = ReduceSum <keepdims = 0> (q6, axis2)
    log_q = Sub (q7, logdet)
"""
_EXACT = """
    f = Cast <to = 1> (x)  g = Reshape (f, rows)  y = Sub (g, e)  yp = MatMul (y, P)  yy = Mul (yp, y)
    yd = Cast <to = 11> (yy)  q = ReduceSum <keepdims = 0> (yd, axis1)  q1 = Add (q, constant)
    log_p_x = Mul (q1, minus64)
"""


def _programs(reference: ToyShaped, covariance: np.ndarray) -> dict[str, Program]:
    D, unit = reference.dimensions, "nats_density" if reference.density else "nats"

    def numbers(name: str, *shape: int | str, unit: str = "latent", **limits: float) -> Tensor:
        return Tensor(name=name, dtype="float32", shape=("B", *shape), unit=unit, **limits)

    def nats(name: str, *shape: str, unit: str = "nats") -> Tensor:
        return Tensor(name=name, dtype="float64", shape=("B", *shape), unit=unit)

    x = Tensor(name="x", dtype="uint8", shape=("B", SIDE, SIDE, 1), minimum=0, maximum=255, unit="intensity")
    mean, log_variance = numbers("mean", D), numbers("log_variance", D, unit="log_latent_squared")
    noise = numbers("noise", "S", D + 1, unit="standard_normal")
    temperature = Tensor(name="temperature", dtype="float32", shape=("B",), minimum=0, unit="factor")
    constant = np.linalg.slogdet(covariance)[1] + PIXELS * LOG_2_PI
    constants = f"""
        int64[2] rows = {{0, -1}}, int64[3] pixels = {{0, 1, -1}}, int64[4] image = {{-1, {SIDE}, {SIDE}, 1}},
        int64[1] one = {{1}}, int64[1] end = {{1000}}, int64[1] axis1 = {{1}}, int64[1] axis2 = {{2}},
        float[1] full = {{255.0}}, float[1] half = {{0.5}}, float[1] minus = {{-0.5}}, float[1] log2pi = {{{LOG_2_PI}}},
        float[1] scale = {{{COLOUR_SCALE}}}, float[1] logscale = {{{2 * np.log(COLOUR_SCALE)}}},
        double[1] logdet = {{{np.linalg.slogdet(reference.weights["A"])[1]}}}, double[1] constant = {{{constant}}},
        double[1] minus64 = {{-0.5}}
    """
    z, drawn = numbers("z", D), numbers("z", "S", D)
    image = numbers("mean", SIDE, SIDE, 1, unit="intensity")
    terms = [nats("log_p_x_given_z", "S", unit=unit), nats("log_p_z", "S"), nats("log_q", "S")]
    parts = {
        "encode": ([x], [z, mean, log_variance, numbers("features", D, unit="hidden")], _ENCODE),
        "decode": ([z], [image], _DECODE),
        "draw": ([noise, mean, log_variance], [drawn], _DRAW),
        "log_weight": ([x, noise, mean, log_variance], terms, _LOG_WEIGHT),
        "draw_prior": ([numbers("noise", D + 1, unit="standard_normal"), temperature], [z], _DRAW_PRIOR),
        "exact": ([x], [nats("log_p_x", unit=unit)], _EXACT),
    }
    return {role: Program(inputs, outputs, constants, body) for role, (inputs, outputs, body) in parts.items()}
