"""Models of several grids of codes with a chain of priors, and their mathematics once more in plain NumPy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from artifact.manifest import DiscreteLevel, ImageGeometry, Tensor
from artifact.noise import batch_uniform, codes_stream
from tests.toys import tokens
from tests.toys.publish import Program, Toy

SIDE = 8
SCALE = 20.0
CLASSES = ("ring", "bar")
EVERYTHING = (*tokens.NOTHING_DRAWN, "sample")


@dataclass(frozen=True)
class ToyChain:
    """Levels of scalars, top first: each approximates the mean of its patches that those above left over, in [0, 1].

    A codebook of a level is a list of scalars, and approximates what the codebooks before it left over. The prior of
    grid i has logits above T_a + left T_l + T_c[class] + the sum over earlier grids j of T_ij[code_j of that place].

    Attributes:
        scales: downsampling of each level.
        books: K scalars of each codebook of each level.
        tables: of the priors, by name and index of the link, float32 as stored.
    """

    scales: tuple[int, ...]
    books: tuple[tuple[np.ndarray, ...], ...]
    tables: dict[str, np.ndarray]

    @property
    def names(self) -> tuple[str, ...]:
        return ("codes",) if len(self.scales) == 1 else tuple(f"codes_{level}" for level in range(len(self.scales)))

    @property
    def links(self) -> list[tuple[int, int]]:
        """The level and the codebook of each link."""
        return [(level, book) for level, books in enumerate(self.books) for book in range(len(books))]

    def grid(self, link: int) -> int:
        """The side of a link's grid."""
        return SIDE // self.scales[self.links[link][0]]

    def size(self, link: int) -> int:
        """K of a link."""
        level, book = self.links[link]
        return len(self.books[level][book])

    def images(self, batch: int, seed: int = 0) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (batch, 4, 4, 1))
        return coarse.repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        rest, found = images[..., 0] / 255.0, {}
        for name, scale, books in zip(self.names, self.scales, self.books, strict=True):
            n = SIDE // scale
            mean, codes = rest.reshape(-1, n, scale, n, scale).mean((2, 4)), []
            for book in books:
                codes.append(np.abs(mean[..., None] - book).argmin(-1))
                mean = mean - book[codes[-1]]
            found[name] = np.stack(codes, 1).astype(np.int32) if len(books) > 1 else codes[0].astype(np.int32)
            rest = rest - _enlarge(self.vectors(found, name), scale)
        return found

    def vectors(self, codes: dict[str, np.ndarray], name: str) -> np.ndarray:
        """The sum over codebooks of one level; -1 stands for none."""
        level = self.names.index(name)
        books = self.books[level]
        grids = codes[name].swapaxes(0, 1) if len(books) > 1 else codes[name][None]
        return sum(np.where(grid < 0, 0.0, book[grid]) for grid, book in zip(grids, books, strict=True))

    def decode(self, codes: dict[str, np.ndarray]) -> np.ndarray:
        """Give the mean image before it is rounded."""
        parts = [
            _enlarge(self.vectors(codes, name), scale) for name, scale in zip(self.names, self.scales, strict=True)
        ]
        return 255.0 * sum(parts)[..., None]

    def log_likelihood(self, images: np.ndarray, codes: dict[str, np.ndarray]) -> np.ndarray:
        deviation = (images - self.decode(codes)) / SCALE
        return (-0.5 * (deviation**2 + np.log(2 * np.pi)) - np.log(SCALE)).sum(-1)

    def of_link(self, codes: dict[str, np.ndarray], link: int) -> np.ndarray:
        level, book = self.links[link]
        return codes[self.names[level]][:, book] if len(self.books[level]) > 1 else codes[self.names[level]]

    def logits(self, grids: Sequence[np.ndarray], condition: np.ndarray) -> np.ndarray:
        """Give the logits of the last of the grids given the others."""
        link, n = len(grids) - 1, self.grid(len(grids) - 1)
        decay, one_hot = tokens._decay(n), np.eye(self.size(link))[grids[-1]]
        logits = np.einsum("ij,bjwk->biwk", decay, one_hot) @ self.tables[f"Ta{link}"]
        logits = logits + np.einsum("ij,bhjk->bhik", decay, one_hot) @ self.tables[f"Tl{link}"]
        for other in range(link):
            logits = logits + _enlarge(self.tables[f"G{link}x{other}"][grids[other]], n // self.grid(other))
        return logits + self.tables[f"Tc{link}"][condition][:, None, None]

    def surprise(self, codes: dict[str, np.ndarray], condition: np.ndarray) -> list[np.ndarray]:
        """Give -log p of every code of each link."""
        grids = [self.of_link(codes, link) for link in range(len(self.links))]
        found = []
        for link, grid in enumerate(grids):
            logits = self.logits(grids[: link + 1], condition)
            log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
            found.append(-np.take_along_axis(log_p, grid[..., None], axis=-1)[..., 0])
        return found

    def sample(
        self,
        n: int,
        seed: int,
        condition: np.ndarray,
        known: Sequence[np.ndarray | None] | None = None,
        top_p: float = 1.0,
    ) -> list[np.ndarray]:
        """Draw the grid of every link by a full pass for every place."""
        grids: list[np.ndarray] = []
        for link in range(len(self.links)):
            side = self.grid(link)
            uniform = batch_uniform(seed, 0, n, side**2, stream=codes_stream(link))
            codes = np.zeros((n, side, side), dtype=np.int32)
            fixed = known[link] if known and known[link] is not None else np.full((n, side, side), -1)
            for y, x in np.ndindex(side, side):
                logits = self.logits([*grids, codes], condition)[:, y, x]
                for row, scores in enumerate(logits):
                    drawn = _draw(scores, uniform[row, y * side + x], top_p)
                    codes[row, y, x] = drawn if fixed[row, y, x] < 0 else fixed[row, y, x]
            grids.append(codes)
        return grids

    def joined(self, grids: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Lay the grids of all links where they belong."""
        found = {}
        for level, name in enumerate(self.names):
            mine = [grid for (of, _), grid in zip(self.links, grids, strict=True) if of == level]
            found[name] = np.stack(mine, 1) if len(mine) > 1 else mine[0]
        return found


def _enlarge(grid: np.ndarray, factor: int) -> np.ndarray:
    return grid.repeat(factor, axis=1).repeat(factor, axis=2)


def _draw(scores: np.ndarray, uniform: float, top_p: float) -> int:
    p = np.exp(scores - scores.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    allowed = np.sort(order[before < top_p])
    return int(allowed[np.searchsorted(np.cumsum(p[allowed] / p[allowed].sum()), uniform, side="right")])


def make(seed: int, scales: tuple[int, ...], sizes: tuple[tuple[int, ...], ...]) -> ToyChain:
    """Draw a model: `sizes` is K of every codebook of every level, all of a level equal."""
    generator = np.random.default_rng(seed)
    books = tuple(
        tuple(
            np.sort(generator.normal(0.5 if level == book == 0 else 0.0, 0.3 / (1 + level + book), size)).astype(
                np.float32
            )
            for book, size in enumerate(of)
        )
        for level, of in enumerate(sizes)
    )
    toy = ToyChain(scales, books, {})

    def draw(*shape: int) -> np.ndarray:
        return (1.2 * generator.standard_normal(shape)).astype(np.float32)

    for link in range(len(toy.links)):
        K = toy.size(link)
        toy.tables.update({f"Ta{link}": draw(K, K), f"Tl{link}": draw(K, K), f"Tc{link}": draw(len(CLASSES) + 1, K)})
        toy.tables.update({f"G{link}x{other}": draw(toy.size(other), K) for other in range(link)})
        toy.tables[f"M{link}"] = tokens._decay(toy.grid(link)).astype(np.float32)
    return toy


def toy(chain: ToyChain) -> Toy:
    """Give what the artifact is made of."""
    links = [
        {"level": level, "codebook": book, "grid": (chain.grid(link), chain.grid(link))}
        for link, (level, book) in enumerate(chain.links)
    ]
    return Toy(
        geometry=ImageGeometry(channels=1, height=SIDE, width=SIDE, multiple_of=max(chain.scales)),
        latent=tuple(
            DiscreteLevel(num_embeddings=len(books[0]), embedding_dim=1, num_codebooks=len(books), downsampling=scale)
            for books, scale in zip(chain.books, chain.scales, strict=True)
        ),
        programs=_model_programs(chain) | _prior_programs(chain),
        weights=_weights(chain),
        capabilities=EVERYTHING,
        bound="elbo",
        prior={"links": links, "conditions": {"label": CLASSES}},
        prior_weights=chain.tables,
    )


def _weights(chain: ToyChain) -> dict[str, np.ndarray]:
    """The codebooks, and the matrices that average patches and that repeat places."""
    weights = {f"E{level}x{book}": one for level, of in enumerate(chain.books) for book, one in enumerate(of)}
    for level, scale in enumerate(chain.scales):
        repeat = np.eye(SIDE // scale, dtype=np.float32).repeat(scale, axis=0)
        weights |= {f"R{level}": repeat, f"Rt{level}": np.ascontiguousarray(repeat.T)}
        weights |= {f"P{level}": np.ascontiguousarray(repeat.T) / scale, f"Pt{level}": repeat / np.float32(scale)}
    return weights


_CONSTANTS = f"""
    float[1] full = {{255.0}}, int64[1] axis1 = {{1}}, int64[1] last = {{-1}}, int32[1] zero = {{0}},
    double[1] scale = {{{SCALE}}}, double[1] constant = {{{np.log(2 * np.pi) + 2 * np.log(SCALE)}}},
    double[1] minus = {{-0.5}}
"""


def _vectors(chain: ToyChain, level: int, name: str) -> str:
    """Add the scalars of a level's codes up: from codes `name` to `v<level>` [B, h, w]."""
    Q, text = len(chain.books[level]), ""
    for book in range(Q):
        code, v = f"c{level}x{book}", f"v{level}x{book}"
        if Q > 1:
            text += f"i{v} = Constant <value = int64 {{{book}}}> ()  {code} = Gather <axis = 1> ({name}, i{v})  "
        else:
            text += f"{code} = Identity ({name})  "
        text += f"a{v} = Max ({code}, zero)  e{v} = Gather <axis = 0> (E{level}x{book}, a{v})  "
        text += f"b{v} = GreaterOrEqual ({code}, zero)  f{v} = Cast <to = 1> (b{v})  {v} = Mul (e{v}, f{v})\n"
    return text + f"v{level} = Sum ({', '.join(f'v{level}x{book}' for book in range(Q))})\n"


def _enlarged(level: int) -> str:
    return f"u{level}a = MatMul (R{level}, v{level})  u{level} = MatMul (u{level}a, Rt{level})\n"


def _mean(chain: ToyChain) -> str:
    text = "".join(_vectors(chain, level, name) + _enlarged(level) for level, name in enumerate(chain.names))
    parts = ", ".join(f"u{level}" for level in range(len(chain.scales)))
    return text + f"all = Sum ({parts})  m = Mul (all, full)  mean = Unsqueeze (m, last)\n"


def _encode(chain: ToyChain) -> str:
    text = "xf = Cast <to = 1> (x)  xs = Squeeze (xf, last)  r0 = Div (xs, full)\n"
    for level, (name, books) in enumerate(zip(chain.names, chain.books, strict=True)):
        text += f"p{level} = MatMul (P{level}, r{level})  m{level}x0 = MatMul (p{level}, Pt{level})\n"
        for book in range(len(books)):
            v = f"{level}x{book}"
            text += f"w{v} = Unsqueeze (m{v}, last)  d{v} = Sub (w{v}, E{v})  n{v} = Abs (d{v})  "
            text += f"j{v} = ArgMin <axis = -1, keepdims = 0> (n{v})  k{v} = Cast <to = 6> (j{v})  "
            text += f"s{v} = Gather <axis = 0> (E{v}, j{v})  m{level}x{book + 1} = Sub (m{v}, s{v})\n"
        parts = [f"q{level}x{book}" for book in range(len(books))]
        if len(books) > 1:
            text += "".join(f"{part} = Unsqueeze (k{part[1:]}, axis1)  " for part in parts)
            text += f"{name} = Concat <axis = 1> ({', '.join(parts)})\n"
        else:
            text += f"{name} = Identity (k{level}x0)\n"
        text += f"v{level} = Sum ({', '.join(f's{level}x{book}' for book in range(len(books)))})\n"
        text += _enlarged(level) + f"r{level + 1} = Sub (r{level}, u{level})\n"
    return text


_LOG_LIKELIHOOD = """
    x64 = Cast <to = 11> (x)  m64 = Cast <to = 11> (mean)  r = Sub (x64, m64)  g = Div (r, scale)
    g2 = Mul (g, g)  g3 = Add (g2, constant)  g4 = Mul (g3, minus)
    log_p_x_given_z = ReduceSum <keepdims = 0> (g4, last)
"""


def _model_programs(chain: ToyChain) -> dict[str, Program]:
    x = Tensor(name="x", dtype="uint8", shape=("B", SIDE, SIDE, 1), minimum=0, maximum=255, unit="intensity")
    mean = Tensor(name="mean", dtype="float32", shape=("B", SIDE, SIDE, 1), minimum=0, maximum=255, unit="intensity")
    log_p = Tensor(name="log_p_x_given_z", dtype="float64", shape=("B", SIDE, SIDE), unit="nats")
    codes, vectors, embed = [], [], ""
    for level, (name, books) in enumerate(zip(chain.names, chain.books, strict=True)):
        n = SIDE // chain.scales[level]
        axes = (len(books), n, n) if len(books) > 1 else (n, n)
        codes.append(_codes(name, len(books[0]), *axes, minimum=-1 if len(books) > 1 else 0))
        z_q = name.replace("codes", "z_q")
        vectors.append(Tensor(name=z_q, dtype="float32", shape=("B", n, n, 1), unit="latent"))
        embed += _vectors(chain, level, name) + f"{z_q} = Unsqueeze (v{level}, last)\n"
    return {
        "encode": Program([x], codes, _CONSTANTS, _encode(chain)),
        "embed": Program(codes, vectors, _CONSTANTS, embed),
        "decode": Program(codes, [mean], _CONSTANTS, _mean(chain)),
        "log_likelihood": Program([x, *codes], [log_p], _CONSTANTS, _mean(chain) + _LOG_LIKELIHOOD),
    }


def _prior_programs(chain: ToyChain) -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for link in range(len(chain.links)):
        programs |= _link_programs(chain, link)
    return programs


def _link_programs(chain: ToyChain, link: int) -> dict[str, Program]:
    """The graphs of a link: those of a toy with one grid, to whose logits the features are added."""
    K, n, role = chain.size(link), chain.grid(link), f"prior_{link}" if link else "prior"
    position = Tensor(name="position", dtype="int64", shape=("B",), minimum=0, maximum=n * n - 1, unit="place")
    class_ = Tensor(name="condition", dtype="int64", shape=("B",), minimum=0, maximum=len(CLASSES), unit="class")
    constants = f"""
        int64[1] depth = {{{K}}}, float[2] values = {{0.0, 1.0}}, int64[3] flat = {{0, {n}, {n * K}}},
        int64[4] square = {{0, {n}, {n}, {K}}}, int64[2] axes12 = {{1, 2}}, int64[1] axis1 = {{1}},
        float[1] half = {{{tokens.DECAY}}}, float[1] one = {{1.0}}, int64[1] width = {{{n}}}
    """

    def named(text: str) -> str:
        return re.sub(r"\b(Ta|Tl|Tc|M)\b", rf"\g<1>{link}", text)

    def given(*axes: int) -> list[Tensor]:
        return [tokens._floats("given", *axes, K)] if link else []

    plus = "f = Add (c1, given)" if link else "f = Identity (c1)"
    programs = {
        role: Program(
            [_codes("codes", K, n, n), *given(n, n), class_],
            [tokens._floats("logits", n, n, K)],
            constants,
            named(tokens._PRIOR + _CLASS.format(axes="axes12") + plus + "  logits = Add (s, f)"),
        ),
        f"{role}_row": Program(
            [_codes("codes", K, n), position, tokens._floats("state_above", n, K), *given(n), class_],
            [tokens._floats("context", n, K), tokens._floats("next_state_above", n, K)],
            constants,
            named(tokens._PRIOR_ROW + _CLASS.format(axes="axis1") + plus + "  context = Add (a, f)"),
        ),
        f"{role}_pixel": Program(
            [_codes("code", K), position, tokens._floats("context", K), tokens._floats("state_left", K)],
            [tokens._floats("logits", K), tokens._floats("next_state_left", K)],
            constants,
            named(tokens._PRIOR_PIXEL),
        ),
    }
    if link:
        programs[f"{role}_given"] = _given_program(chain, link)
    return programs


_CLASS = "\nc = Gather <axis = 0> (Tc, condition)  c1 = Unsqueeze (c, {axes})\n"


def _given_program(chain: ToyChain, link: int) -> Program:
    K, n, text, constants = chain.size(link), chain.grid(link), "", []
    for other in range(link):
        places = ", ".join(str(place * chain.grid(other) // n) for place in range(n))
        constants.append(f"int64[{n}] up{other} = {{{places}}}")
        text += f"g{other} = Gather <axis = 0> (G{link}x{other}, codes_{other})  "
        text += (
            f"y{other} = Gather <axis = 1> (g{other}, up{other})  z{other} = Gather <axis = 2> (y{other}, up{other})\n"
        )
    text += f"given = Sum ({', '.join(f'z{other}' for other in range(link))})"
    earlier = [
        _codes(f"codes_{other}", chain.size(other), chain.grid(other), chain.grid(other)) for other in range(link)
    ]
    return Program(earlier, [tokens._floats("given", n, n, K)], ", ".join(constants), text)


def _codes(name: str, size: int, *grid: int, minimum: int = 0) -> Tensor:
    return Tensor(name=name, dtype="int32", shape=("B", *grid), minimum=minimum, maximum=size - 1, unit="code")
