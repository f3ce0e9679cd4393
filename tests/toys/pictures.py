"""A VQ-VAE of pictures whose codes and pixels depend on their neighbours: two strided convolutions, and back."""

import numpy as np

from artifact.manifest import DiscreteLevel, ImageGeometry, Tensor, Windows
from tests.toys.publish import Program, Toy

NUM_EMBEDDINGS, EMBEDDING_DIM, CHANNELS, DOWNSAMPLING = 64, 8, 8, 8
WINDOWS = Windows(encode_halo=6, decode_halo=1)
"""A place reads 6 pixels around its own 8 x 8."""


def images(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw a picture with structure at several scales, `[1, H, W, 3]`."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for side in (64, 16, 1):
        grain = generator.standard_normal((-(-height // side), -(-width // side), 3))
        picture += grain.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    return np.clip(128 + 40 * picture, 0, 255).astype(np.uint8)[None]


def toy(seed: int, *, windows: Windows | None = WINDOWS) -> Toy:
    """Give what the artifact is made of; its weights are drawn."""
    generator = np.random.default_rng(seed)

    def draw(scale: float, *shape: int) -> np.ndarray:
        return (scale * generator.standard_normal(shape)).astype(np.float32)

    codebook = draw(0.6, NUM_EMBEDDINGS, EMBEDDING_DIM)
    return Toy(
        geometry=ImageGeometry(channels=3, multiple_of=DOWNSAMPLING, maximum=4096),
        latent=DiscreteLevel(num_embeddings=NUM_EMBEDDINGS, embedding_dim=EMBEDDING_DIM, downsampling=DOWNSAMPLING),
        programs=_programs(),
        weights={
            "W1": draw(0.15, CHANNELS, 3, 8, 8),
            "W2": draw(0.1, EMBEDDING_DIM, CHANNELS, 4, 4),
            "E": codebook,
            "Et": np.ascontiguousarray(codebook.T),
            "N": (codebook**2).sum(1),
            "V1": draw(0.3, EMBEDDING_DIM, CHANNELS, 4, 4),
            "V2": draw(0.3, CHANNELS, 3, 8, 8),
        },
        capabilities=("encode", "decode", "reconstruct", "compress", "decompress"),
        bound=None,
        windows=windows,
    )


_FOUR = "strides = [4, 4], pads = [2, 2, 2, 2], kernel_shape = [8, 8]"
_TWO = "strides = [2, 2], pads = [1, 1, 1, 1], kernel_shape = [4, 4]"
_ENCODE = f"""
    f = Cast <to = 1> (x)  t = Transpose <perm = [0, 3, 1, 2]> (f)  u = Div (t, full)  v = Sub (u, half)
    c1 = Conv <{_FOUR}> (v, W1)  h1 = Tanh (c1)  c2 = Conv <{_TWO}> (h1, W2)  h2 = Tanh (c2)
    z = Transpose <perm = [0, 2, 3, 1]> (h2)  e = MatMul (z, Et)  e2 = Mul (e, two)  n = Sub (N, e2)
    i = ArgMin <axis = -1, keepdims = 0> (n)  codes = Cast <to = 6> (i)
"""
_EMBED = "z_q = Gather <axis = 0> (E, codes)"
_DECODE = f"""
    z = Gather <axis = 0> (E, codes)  t = Transpose <perm = [0, 3, 1, 2]> (z)  c1 = ConvTranspose <{_TWO}> (t, V1)
    h1 = Tanh (c1)  c2 = ConvTranspose <{_FOUR}> (h1, V2)  o = Tanh (c2)  o1 = Add (o, one)  o2 = Mul (o1, middle)
    mean = Transpose <perm = [0, 2, 3, 1]> (o2)
"""


def _programs() -> dict[str, Program]:
    x = Tensor(name="x", dtype="uint8", shape=("B", "H", "W", 3), minimum=0, maximum=255, unit="intensity")
    codes = Tensor(
        name="codes", dtype="int32", shape=("B", "h", "w"), minimum=0, maximum=NUM_EMBEDDINGS - 1, unit="code"
    )
    z_q = Tensor(name="z_q", dtype="float32", shape=("B", "h", "w", EMBEDDING_DIM), unit="latent")
    mean = Tensor(name="mean", dtype="float32", shape=("B", "H", "W", 3), minimum=0, maximum=255, unit="intensity")
    constants = "float[1] full = {255.0}, float[1] half = {0.5}, float[1] two = {2.0}"
    of_decoder = "float[1] one = {1.0}, float[1] middle = {127.5}"
    return {
        "encode": Program([x], [codes], constants, _ENCODE),
        "embed": Program([codes], [z_q], "", _EMBED),
        "decode": Program([codes], [mean], of_decoder, _DECODE),
    }
