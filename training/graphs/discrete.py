"""The graphs of a model of codes."""

import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor, nn

from artifact import manifest as schema
from models.bottleneck import VectorQuantizedBottleneck
from models.model import LatentVariableModel
from training.graphs.spec import GraphSpec, decoded, image


class Encode(nn.Module):
    """`x -> codes`."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Shaped[Tensor, "B H W C"]) -> Int[Tensor, "B h w"]:
        """Give the nearest codes."""
        return self.model.encode(x)["codes"]


class Embed(nn.Module):
    """`codes -> z_q`."""

    def __init__(self, bottleneck: VectorQuantizedBottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck

    def forward(self, codes: Int[Tensor, "B h w"]) -> Float[Tensor, "B h w D"]:
        """Give the code vectors."""
        return self.bottleneck.quantizer.embed(codes)


class Decode(nn.Module):
    """`codes -> mean, likelihood parameters`."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Int[Tensor, "B h w"]) -> tuple[Float[Tensor, "B H W C"], ...]:
        """Give the mean and then the parameters, in the likelihood's order."""
        params = self.model.decode(self.model.bottleneck.point({"codes": codes}))
        return self.model.likelihood.mean(params), *params.values()


class LogLikelihood(nn.Module):
    """`x, codes -> log p(x given z)` of every pixel, so that padding can be left out of a sum."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Shaped[Tensor, "B H W C"], codes: Int[Tensor, "B h w"]) -> Float64[Tensor, "B H W"]:
        """Give nats."""
        params = self.model.decode(self.model.bottleneck.point({"codes": codes}))
        return self.model.likelihood.pixel_log_prob(x, params)


def graphs(
    model: LatentVariableModel, bottleneck: VectorQuantizedBottleneck, geometry: schema.ImageGeometry
) -> tuple[GraphSpec, ...]:
    """List the graphs that a model of one level of codes has.

    Args:
        model: in evaluation mode.
        bottleneck: the model's.
        geometry: of an image, of fixed or any size.

    Returns:
        `encode`, `embed`, `decode` and `log_likelihood`.
    """
    downsampling, quantizer = geometry.multiple_of, bottleneck.quantizer
    x = image(model, geometry)
    grid = tuple(
        size // downsampling if size else symbol for size, symbol in ((geometry.height, "h"), (geometry.width, "w"))
    )
    codes = schema.Tensor(
        name="codes", dtype="int32", shape=("B", *grid), minimum=0, maximum=quantizer.num_embeddings - 1, unit="code"
    )
    z_q = schema.Tensor(name="z_q", dtype="float32", shape=("B", *grid, quantizer.embedding_dim), unit="latent")
    log_p = schema.Tensor(name="log_p_x_given_z", dtype="float64", shape=x.shape[:3], unit="nats")
    with torch.no_grad():
        params = model.decode(bottleneck.point({"codes": torch.zeros(1, 1, 1, dtype=torch.int32)}))
    return tuple(
        GraphSpec(role, module, inputs, outputs, downsampling)
        for role, module, inputs, outputs in (
            ("encode", Encode(model), (x,), (codes,)),
            ("embed", Embed(bottleneck), (codes,), (z_q,)),
            ("decode", Decode(model), (codes,), decoded(x, params)),
            ("log_likelihood", LogLikelihood(model), (x, codes), (log_p,)),
        )
    )
