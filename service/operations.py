"""What the service does, without a word of HTTP: arrays and typed options in, arrays out."""

from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from artifact.bounds import BoundEstimate
from service.engine import Engine, ServedModel


def check_images(
    model: ServedModel, images: NDArray[np.generic], *, binarize: Literal["threshold"] | None
) -> UInt8[np.ndarray, "B H W C"]:
    """Check that images are what the model takes."""
    raise NotImplementedError


async def encode(engine: Engine, model: ServedModel, images: UInt8[np.ndarray, "B H W C"]) -> dict[str, np.ndarray]:
    """Give the posterior's parameters."""
    raise NotImplementedError


async def decode(engine: Engine, model: ServedModel, z: Float32[np.ndarray, "B D"]) -> UInt8[np.ndarray, "B H W C"]:
    """Give the likelihood's mean as images."""
    raise NotImplementedError


async def reconstruct(
    engine: Engine, model: ServedModel, images: UInt8[np.ndarray, "B H W C"]
) -> UInt8[np.ndarray, "B H W C"]:
    """Encode and decode through the posterior's mean."""
    raise NotImplementedError


async def sample(
    engine: Engine, model: ServedModel, *, n: int, seed: int, first_index: int, temperature: float
) -> UInt8[np.ndarray, "B H W C"]:
    """Draw images from the prior."""
    raise NotImplementedError


async def likelihood(
    engine: Engine,
    model: ServedModel,
    images: UInt8[np.ndarray, "B H W C"],
    *,
    samples: int,
    seed: int,
    first_index: int,
) -> BoundEstimate:
    """Bound log p(x) by importance sampling."""
    raise NotImplementedError
