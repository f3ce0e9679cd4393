"""The graphs of a model of real-valued latents."""

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from artifact import manifest as schema
from models.bottleneck import GaussianBottleneck
from models.model import LatentVariableModel
from training.graphs.spec import GraphSpec, data, decoded


class Encode(nn.Module):
    """`x -> posterior parameters`."""

    def __init__(self, model: LatentVariableModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, x: Shaped[Tensor, "B H W C"]) -> tuple[Float[Tensor, "B D"], ...]:
        """Give the parameters in the posterior's order."""
        posterior = self.model.encode(x)
        return tuple(posterior[name] for name in self.names)


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


def graphs(
    model: LatentVariableModel, bottleneck: GaussianBottleneck, geometry: schema.ImageGeometry
) -> tuple[GraphSpec, ...]:
    """List the graphs that a model of real-valued latents has.

    Args:
        model: in evaluation mode.
        bottleneck: the model's.
        geometry: of an image, of fixed size.

    Returns:
        `encode`, `decode` and `log_weight`.
    """
    dimensions, names = bottleneck.dimensions, bottleneck.posterior.parameter_names
    x = data(model, geometry)
    posterior = tuple(
        schema.Tensor(name=name, dtype="float32", shape=("B", dimensions), unit=unit)
        for name, unit in zip(names, ("latent", "log_latent_squared"), strict=True)
    )
    z = schema.Tensor(name="z", dtype="float32", shape=("B", dimensions), unit="latent")
    noise = schema.Tensor(name="noise", dtype="float32", shape=("B", "S", dimensions), unit="standard_normal")
    with torch.no_grad():
        params = model.decode(torch.zeros(1, dimensions))
    terms = tuple(
        schema.Tensor(name=name, dtype="float64", shape=("B", "S"), unit="nats")
        for name in ("log_p_x_given_z", "log_p_z", "log_q")
    )
    return (
        GraphSpec("encode", Encode(model, names), (x,), posterior),
        GraphSpec("decode", Decode(model), (z,), decoded(x, params)),
        GraphSpec("log_weight", LogWeight(model), (x, *posterior, noise), terms),
    )
