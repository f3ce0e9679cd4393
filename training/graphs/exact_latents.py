"""The graphs of an exact VAE: `encode_exact`, `infer_exact` and `decode_exact`."""

import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from artifact import manifest as schema
from artifact.exact_latents import DECODE, ENCODE, INFER
from models.exact.vae import ExactVAE
from models.exact.vae_latents import LATENT_LIMIT, MEAN_LIMIT, SCALES
from training.graphs.spec import GraphSpec


class _Encode(nn.Module):
    """`x -> features_0, features_1, ...`."""

    def __init__(self, network: ExactVAE) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: UInt8[Tensor, "B H W C"]) -> tuple[Tensor, ...]:
        """Go up."""
        return self.network.encode(x)


class _Infer(nn.Module):
    """`z, features_0, features_1, ... -> mean, scale`."""

    def __init__(self, network: ExactVAE) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Int[Tensor, "B D"], *features: Tensor) -> tuple[Tensor, Tensor]:
        """Give the posteriors."""
        moments = self.network.infer(z, features)
        return moments.mean.to(torch.int32), moments.scale.to(torch.int32)


class _InferFlat(nn.Module):
    """`features_0 -> mean, scale`, of one level, whose posterior depends on no z."""

    def __init__(self, network: ExactVAE) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Give the posterior."""
        z = torch.zeros(len(features), self.network.dimensions)
        moments = self.network.infer(z, (features,))
        return moments.mean.to(torch.int32), moments.scale.to(torch.int32)


class _Decode(nn.Module):
    """`z -> logits`."""

    def __init__(self, network: ExactVAE) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Int[Tensor, "B D"]) -> Int[Tensor, "B H W C"]:
        """Decode."""
        return self.network.decode(z).to(torch.int32)


def exact_latent_graphs(network: ExactVAE, shape: tuple[int, ...]) -> tuple[GraphSpec, ...]:
    """List the graphs of an exact VAE.

    Args:
        network: frozen.
        shape: H, W, C of a picture.

    Returns:
        The graphs.
    """
    with torch.no_grad():
        seen = network.encode(torch.zeros(1, *shape, dtype=torch.uint8))
    x = schema.Tensor(
        name="x", dtype="uint8", shape=("B", *shape), minimum=0, maximum=255, values=(0, 255), unit="intensity"
    )
    features = tuple(
        schema.Tensor(name=f"features_{index}", dtype="float32", shape=("B", *one.shape[1:]), unit="hidden")
        for index, one in enumerate(seen)
    )
    D = network.dimensions
    z = _integers("z", (D,), -LATENT_LIMIT, LATENT_LIMIT, "1/16 latent")
    mean = _integers("mean", (D,), -MEAN_LIMIT, MEAN_LIMIT, "1/1024 latent")
    scale = _integers("scale", (D,), 0, SCALES - 1, "index")
    logits = _integers("logits", shape, None, None, "1/256 nats")
    infer = _Infer(network) if len(seen) > 1 else _InferFlat(network)
    return (
        GraphSpec(ENCODE, _Encode(network), (x,), features),
        GraphSpec(INFER, infer, (z, *features) if len(seen) > 1 else features, (mean, scale)),
        GraphSpec(DECODE, _Decode(network), (z,), (logits,)),
    )


def _integers(name: str, shape: tuple[int, ...], minimum: int | None, maximum: int | None, unit: str) -> schema.Tensor:
    return schema.Tensor(name=name, dtype="int32", shape=("B", *shape), minimum=minimum, maximum=maximum, unit=unit)
