"""The ONNX graphs of a model: what each takes and gives, and the torch module behind it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from artifact import manifest as schema
from models.model import LatentVariableModel


class Encode(nn.Module):
    """`x -> posterior parameters`."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Shaped[Tensor, "B H W C"]) -> tuple[Float[Tensor, "B D"], ...]:
        """Give the parameters in the posterior's order."""
        posterior = self.model.encode(x)
        return tuple(posterior[name] for name in self.model.bottleneck.posterior.parameter_names)


class Decode(nn.Module):
    """`z -> mean, likelihood parameters`."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B H W C"], ...]:
        """Give the mean and then the parameters, in the likelihood's order."""
        params = self.model.decode(z)
        return self.model.likelihood.mean(params), *params.values()


class LogWeight(nn.Module):
    """`x, posterior parameters, noise -> log p(x given z), log p(z), log q(z given x)`."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x: Shaped[Tensor, "B H W C"],
        mean: Float[Tensor, "B D"],
        log_variance: Float[Tensor, "B D"],
        noise: Float[Tensor, "B S D"],
    ) -> tuple[Float64[Tensor, "B S"], ...]:
        """Give the three terms of the importance weights."""
        return tuple(self.model.log_weight(x, {"mean": mean, "log_variance": log_variance}, noise))


@dataclass(frozen=True)
class GraphSpec:
    """A graph to be written.

    Attributes:
        role: its name in the manifest.
        module: what it computes.
        inputs: the signature.
        outputs: likewise.
    """

    role: str
    module: nn.Module
    inputs: tuple[schema.Tensor, ...]
    outputs: tuple[schema.Tensor, ...]


def graphs(model: LatentVariableModel, shape: tuple[int, int, int]) -> tuple[GraphSpec, ...]:
    """List the graphs that a model of real-valued latents has.

    Args:
        model: in evaluation mode.
        shape: H, W, C of an image.

    Returns:
        `encode`, `decode` and `log_weight`.
    """
    dimensions = model.bottleneck.dimensions
    image = ("B", *shape)
    x = schema.Tensor(
        name="x", dtype="uint8", shape=image, minimum=0, maximum=255, values=model.likelihood.values, unit="intensity"
    )
    posterior = tuple(
        schema.Tensor(name=name, dtype="float32", shape=("B", dimensions), unit=unit)
        for name, unit in zip(model.bottleneck.posterior.parameter_names, ("latent", "log_latent_squared"), strict=True)
    )
    z = schema.Tensor(name="z", dtype="float32", shape=("B", dimensions), unit="latent")
    noise = schema.Tensor(name="noise", dtype="float32", shape=("B", "S", dimensions), unit="standard_normal")
    mean = schema.Tensor(name="mean", dtype="float32", shape=image, minimum=0, maximum=255, unit="intensity")
    with torch.no_grad():
        params = model.decode(torch.zeros(1, dimensions))
    likelihood = tuple(
        schema.Tensor(name=name, dtype="float32", shape=image, unit=_PARAMETER_UNITS[name]) for name in params
    )
    terms = tuple(
        schema.Tensor(name=name, dtype="float64", shape=("B", "S"), unit="nats")
        for name in ("log_p_x_given_z", "log_p_z", "log_q")
    )
    return (
        GraphSpec("encode", Encode(model), (x,), posterior),
        GraphSpec("decode", Decode(model), (z,), (mean, *likelihood)),
        GraphSpec("log_weight", LogWeight(model), (x, *posterior, noise), terms),
    )


_PARAMETER_UNITS = {"logits": "logit", "location": "network", "log_scale": "log_network"}

_EXAMPLE_SIZES = {"B": 3, "S": 5}
"""Sizes that the exporter traces with: neither 0 nor 1, which it would take for constants."""


def example(tensor: schema.Tensor) -> Tensor:
    """Make an input of a tensor's declared type and shape for the exporter to trace with."""
    sizes = [_EXAMPLE_SIZES[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
    return torch.zeros(sizes, dtype=getattr(torch, tensor.dtype))
