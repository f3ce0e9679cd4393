"""A VQ-VAE of patches with a prior made by hand, and its mathematics once more in plain NumPy."""

from dataclasses import dataclass, field

import numpy as np

from artifact.manifest import DiscreteLevel, ImageGeometry, Tensor
from tests.toys.publish import Program, Toy

SCALE = 20.0
DECAY = 0.5
CLASSES = ("ring", "bar", "dot")
NOTHING_DRAWN = ("encode", "decode", "reconstruct", "likelihood", "compress", "decompress")


@dataclass(frozen=True)
class ToyTokens:
    """Patches of s x s pixels to the nearest of K code vectors of (patch / 255 - 1/2) A, and back by E U + d.

    The likelihood is a Gaussian density of standard deviation `SCALE`. The prior's logits at a place are
    above T_above + left T_left + T_class, where `above` and `left` sum one-hot codes, each older one by `DECAY` less.

    Attributes:
        weights: A, E, U, d and what follows from E, by name, float32 as stored.
        prior_weights: Ta, Tl, Tc by name; empty without a prior.
        channels: of the images.
        downsampling: s.
        side: of the images, in pixels; None for any multiple of s.
    """

    weights: dict[str, np.ndarray]
    prior_weights: dict[str, np.ndarray] = field(default_factory=dict)
    channels: int = 1
    downsampling: int = 2
    side: int | None = None
    classes: tuple[str, ...] = ()

    maximum = 64

    @property
    def num_embeddings(self) -> int:
        return len(self.weights["E"])

    @property
    def grid(self) -> int:
        """The side of the grid of codes, of a model of fixed size."""
        assert self.side is not None
        return self.side // self.downsampling

    def images(self, batch: int, height: int | None = None, width: int | None = None, seed: int = 0) -> np.ndarray:
        """Draw images with some coarse structure, so that many codes occur."""
        height, width = height or self.side or 16, width or self.side or 16
        generator = np.random.default_rng(seed)
        coarse = generator.integers(0, 256, (batch, -(-height // 4), -(-width // 4), self.channels))
        blocks = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
        return np.clip(blocks + generator.integers(-40, 41, blocks.shape), 0, 255).astype(np.uint8)

    def encode(self, images: np.ndarray) -> np.ndarray:
        s, (B, H, W, C) = self.downsampling, images.shape
        patches = images.reshape(B, H // s, s, W // s, s, C).swapaxes(2, 3).reshape(B, H // s, W // s, s * s * C)
        z = (patches / 255.0 - 0.5) @ self.weights["A"].astype(np.float64)
        distances = ((z[..., None, :] - self.weights["E"].astype(np.float64)) ** 2).sum(-1)
        return distances.argmin(-1).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Give the mean image before it is rounded."""
        s, (B, h, w), C = self.downsampling, codes.shape, self.channels
        patches = self.weights["E"][codes].astype(np.float64) @ self.weights["U"] + self.weights["d"]
        return patches.reshape(B, h, w, s, s, C).swapaxes(2, 3).reshape(B, h * s, w * s, C)

    def log_likelihood(self, images: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Give log p(x given codes) of every pixel, `[B, H, W]`."""
        deviation = (images - self.decode(codes)) / SCALE
        return (-0.5 * (deviation**2 + np.log(2 * np.pi)) - np.log(SCALE)).sum(-1)

    def logits(self, codes: np.ndarray, condition: np.ndarray | None) -> np.ndarray:
        """Give the prior's logits of every place, `[B, h, w, K]`."""
        one_hot = np.eye(self.num_embeddings)[codes]
        tables = {name: value.astype(np.float64) for name, value in self.prior_weights.items()}
        decay = _decay(self.grid)
        above = np.einsum("ij,bjwk->biwk", decay, one_hot) @ tables["Ta"]
        left = np.einsum("ij,bhjk->bhik", decay, one_hot) @ tables["Tl"]
        logits = above + left
        return logits if condition is None else logits + tables["Tc"][condition][:, None, None]

    def surprise(self, codes: np.ndarray, condition: np.ndarray | None) -> np.ndarray:
        """Give -log p of every code, `[B, h, w]`."""
        logits = self.logits(codes, condition)
        log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        return -np.take_along_axis(log_p, codes[..., None], axis=-1)[..., 0]

    def sample(
        self,
        uniform: np.ndarray,
        condition: np.ndarray | None,
        temperature: float = 1.0,
        top_k: int | None = None,
    ) -> np.ndarray:
        """Draw grids by a full pass for every place."""
        codes = np.zeros((len(uniform), self.grid, self.grid), dtype=np.int32)
        for place in range(self.grid**2):
            logits = self.logits(codes, condition).reshape(len(uniform), self.grid**2, -1)[:, place]
            for row, scores in enumerate(logits):
                allowed = np.sort(np.argsort(-scores, kind="stable")[: top_k or len(scores)])
                if temperature == 0:
                    drawn = int(scores.argmax())
                else:
                    p = np.exp((scores[allowed] - scores.max()) / temperature)
                    drawn = int(allowed[np.searchsorted(np.cumsum(p / p.sum()), uniform[row, place], side="right")])
                codes[row, place // self.grid, place % self.grid] = drawn
        return codes


def _decay(size: int) -> np.ndarray:
    """Give the weights of all that came before: 1 of the last, then `DECAY` of each by the one after it."""
    age = np.arange(size)[:, None] - np.arange(size) - 1
    return np.where(age >= 0, DECAY ** np.maximum(age, 0), 0.0)


def make(
    seed: int, *, num_embeddings: int, embedding_dim: int, channels: int, downsampling: int, side: int | None = None
) -> ToyTokens:
    """Draw the weights of a model without a prior."""
    generator = np.random.default_rng(seed)
    pixels = downsampling**2 * channels
    codebook = generator.standard_normal((num_embeddings, embedding_dim)).astype(np.float32)
    weights = {
        "A": (6.0 / np.sqrt(pixels) * generator.standard_normal((pixels, embedding_dim))).astype(np.float32),
        "E": codebook,
        "Et": np.ascontiguousarray(codebook.T),
        "N": (codebook**2).sum(1),
        "U": (30.0 * generator.standard_normal((embedding_dim, pixels))).astype(np.float32),
        "d": (128.0 + 20.0 * generator.standard_normal(pixels)).astype(np.float32),
    }
    return ToyTokens(weights, channels=channels, downsampling=downsampling, side=side)


def with_prior(tokens: ToyTokens, seed: int, classes: tuple[str, ...]) -> ToyTokens:
    """Give a model of fixed size a prior, with one more condition than classes where there are any."""
    generator = np.random.default_rng(seed)
    K = tokens.num_embeddings

    def draw(rows: int) -> np.ndarray:
        return (1.5 * generator.standard_normal((rows, K))).astype(np.float32)

    prior_weights = {"Ta": draw(K), "Tl": draw(K)} | ({"Tc": draw(len(classes) + 1)} if classes else {})
    prior_weights["M"] = _decay(tokens.grid).astype(np.float32)
    return ToyTokens(tokens.weights, prior_weights, tokens.channels, tokens.downsampling, tokens.side, classes=classes)


def toy(tokens: ToyTokens) -> Toy:
    """Give what the artifact is made of."""
    has_prior = bool(tokens.prior_weights)
    prior = {"height": tokens.grid, "width": tokens.grid, "classes": tokens.classes} if has_prior else None
    return Toy(
        geometry=ImageGeometry(
            channels=tokens.channels,
            height=tokens.side,
            width=tokens.side,
            multiple_of=tokens.downsampling,
            maximum=tokens.maximum,
        ),
        latent=DiscreteLevel(
            num_embeddings=tokens.num_embeddings,
            embedding_dim=tokens.weights["E"].shape[1],
            downsampling=tokens.downsampling,
        ),
        programs=_model_programs(tokens) | (_prior_programs(tokens) if has_prior else {}),
        weights=tokens.weights,
        capabilities=(*NOTHING_DRAWN, "sample") if has_prior else NOTHING_DRAWN,
        bound="elbo",
        prior=prior,
        prior_weights=tokens.prior_weights,
    )


# Graphs in ONNX's text form; the one-letter names in capitals come from the weight files.
_ENCODE = """
    f = Cast <to = 1> (x)  t = Transpose <perm = [0, 3, 1, 2]> (f)  s = SpaceToDepth <blocksize = {s}> (t)
    p = Transpose <perm = [0, 2, 3, 1]> (s)  u = Div (p, full)  v = Sub (u, half)  z = MatMul (v, A)
    e = MatMul (z, Et)  e2 = Mul (e, two)  n = Sub (N, e2)  i = ArgMin <axis = -1, keepdims = 0> (n)
    codes = Cast <to = 6> (i)
"""
_EMBED = "z_q = Gather <axis = 0> (E, codes)"
_MEAN = """
    z = Gather <axis = 0> (E, codes)  m = MatMul (z, U)  o = Add (m, d)
    t = Transpose <perm = [0, 3, 1, 2]> (o)  q = DepthToSpace <blocksize = {s}> (t)
    mean = Transpose <perm = [0, 2, 3, 1]> (q)
"""
_DECODE = _MEAN + "log_scale = Mul (mean, half)"
_LOG_LIKELIHOOD = (
    _MEAN
    + """
    x64 = Cast <to = 11> (x)  m64 = Cast <to = 11> (mean)  r = Sub (x64, m64)  g = Div (r, scale)
    g2 = Mul (g, g)  g3 = Add (g2, constant)  g4 = Mul (g3, minus)
    log_p_x_given_z = ReduceSum <keepdims = 0> (g4, axis3)
"""
)
_PRIOR = """
    i = Cast <to = 7> (codes)  o = OneHot <axis = -1> (i, depth, values)
    r = Reshape (o, flat)  a = MatMul (M, r)  a1 = Reshape (a, square)  a2 = MatMul (a1, Ta)
    l = MatMul (M, o)  l2 = MatMul (l, Tl)  s = Add (a2, l2)
"""
_PRIOR_CLASS = "c = Gather <axis = 0> (Tc, condition)  c1 = Unsqueeze (c, axes12)  logits = Add (s, c1)"
_PRIOR_ROW = """
    p = Cast <to = 1> (position)  k = Min (p, one)  k1 = Unsqueeze (k, axes12)
    i = Cast <to = 7> (codes)  o = OneHot <axis = -1> (i, depth, values)
    h = Mul (state_above, half)  s = Add (h, o)  next_state_above = Mul (s, k1)  a = MatMul (next_state_above, Ta)
"""
_PRIOR_ROW_CLASS = "c = Gather <axis = 0> (Tc, condition)  c1 = Unsqueeze (c, axis1)  context = Add (a, c1)"
_PRIOR_PIXEL = """
    m = Mod (position, width)  p = Cast <to = 1> (m)  k = Min (p, one)  k1 = Unsqueeze (k, axis1)
    i = Cast <to = 7> (code)  o = OneHot <axis = -1> (i, depth, values)
    h = Mul (state_left, half)  s = Add (h, o)  next_state_left = Mul (s, k1)
    l = MatMul (next_state_left, Tl)  logits = Add (context, l)
"""


def _model_programs(tokens: ToyTokens) -> dict[str, Program]:
    s, C = tokens.downsampling, tokens.channels
    sides = ("H", "W") if tokens.side is None else (tokens.side, tokens.side)
    grid = ("h", "w") if tokens.side is None else (tokens.grid, tokens.grid)
    pixels = ("B", *sides, C)
    x = Tensor(name="x", dtype="uint8", shape=pixels, minimum=0, maximum=255, unit="intensity")
    codes = _codes("codes", tokens, *grid)
    z_q = Tensor(name="z_q", dtype="float32", shape=("B", *grid, tokens.weights["E"].shape[1]), unit="latent")
    mean = Tensor(name="mean", dtype="float32", shape=pixels, minimum=0, maximum=255, unit="intensity")
    log_scale = Tensor(name="log_scale", dtype="float32", shape=pixels, unit="log_intensity")
    log_p = Tensor(name="log_p_x_given_z", dtype="float64", shape=("B", *sides), unit="nats")
    constants = f"""
        float[1] full = {{255.0}}, float[1] half = {{0.5}}, float[1] two = {{2.0}}, int64[1] axis3 = {{3}},
        double[1] scale = {{{SCALE}}}, double[1] constant = {{{np.log(2 * np.pi) + 2 * np.log(SCALE)}}},
        double[1] minus = {{-0.5}}
    """
    return {
        "encode": Program([x], [codes], constants, _ENCODE.format(s=s)),
        "embed": Program([codes], [z_q], constants, _EMBED),
        "decode": Program([codes], [mean, log_scale], constants, _DECODE.format(s=s)),
        "log_likelihood": Program([x, codes], [log_p], constants, _LOG_LIKELIHOOD.format(s=s)),
    }


def _prior_programs(tokens: ToyTokens) -> dict[str, Program]:
    K, n = tokens.num_embeddings, tokens.grid
    position = Tensor(name="position", dtype="int64", shape=("B",), minimum=0, maximum=n * n - 1, unit="place")
    class_ = Tensor(name="condition", dtype="int64", shape=("B",), minimum=0, maximum=len(tokens.classes), unit="class")
    given = [class_] if tokens.classes else []
    constants = f"""
        int64[1] depth = {{{K}}}, float[2] values = {{0.0, 1.0}}, int64[3] flat = {{0, {n}, {n * K}}},
        int64[4] square = {{0, {n}, {n}, {K}}}, int64[2] axes12 = {{1, 2}}, int64[1] axis1 = {{1}},
        float[1] half = {{{DECAY}}}, float[1] one = {{1.0}}, int64[1] width = {{{n}}}
    """
    return {
        "prior": Program(
            [_codes("codes", tokens, n, n), *given],
            [_floats("logits", n, n, K)],
            constants,
            _PRIOR + (_PRIOR_CLASS if given else "logits = Identity (s)"),
        ),
        "prior_row": Program(
            [_codes("codes", tokens, n), position, _floats("state_above", n, K), *given],
            [_floats("context", n, K), _floats("next_state_above", n, K)],
            constants,
            _PRIOR_ROW + (_PRIOR_ROW_CLASS if given else "context = Identity (a)"),
        ),
        "prior_pixel": Program(
            [_codes("code", tokens), position, _floats("context", K), _floats("state_left", K)],
            [_floats("logits", K), _floats("next_state_left", K)],
            constants,
            _PRIOR_PIXEL,
        ),
    }


def _codes(name: str, tokens: ToyTokens, *grid: int | str) -> Tensor:
    return Tensor(
        name=name, dtype="int32", shape=("B", *grid), minimum=0, maximum=tokens.num_embeddings - 1, unit="code"
    )


def _floats(name: str, *shape: int) -> Tensor:
    return Tensor(name=name, dtype="float32", shape=("B", *shape), unit="hidden")
