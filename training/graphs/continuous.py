"""The graphs of a model of real-valued latents."""

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from artifact import manifest as schema
from artifact.bounds import DENSITY_UNIT
from models.autoregressive import TeacherForcedModel
from models.continuous import ContinuousBottleneck
from models.model import LatentVariableModel
from training.graphs.spec import GraphSpec, data, decoded


class Encode(nn.Module):
    """`x -> posterior parameters`."""

    def __init__(self, model: LatentVariableModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, x: Shaped[Tensor, "B H W C"]) -> tuple[Float[Tensor, "B ..."], ...]:
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


class Draw(nn.Module):
    """`noise, posterior parameters -> z`."""

    def __init__(self, bottleneck: ContinuousBottleneck, names: tuple[str, ...]) -> None:
        super().__init__()
        self.bottleneck, self.names = bottleneck, names

    def forward(self, noise: Float[Tensor, "B S D"], *posterior: Float[Tensor, "B ..."]) -> Float[Tensor, "B S D"]:
        """Draw from the posterior."""
        encoding = dict(zip(self.names, posterior, strict=True))
        return self.bottleneck.draw(encoding, noise)[-1].z


class DrawPrior(nn.Module):
    """`noise, temperature -> z`."""

    def __init__(self, bottleneck: ContinuousBottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck

    def forward(self, noise: Float[Tensor, "B N"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Draw from the prior."""
        return self.bottleneck.sample(noise, temperature)


class LogWeight(nn.Module):
    """`x, noise, posterior parameters -> log p(x given z), log p(z), log q(z given x)`."""

    def __init__(self, model: LatentVariableModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(
        self, x: Shaped[Tensor, "B H W C"], noise: Float[Tensor, "B S D"], *posterior: Float[Tensor, "B ..."]
    ) -> tuple[Float64[Tensor, "B S"], ...]:
        """Give the three terms of the importance weights."""
        encoding = dict(zip(self.names, posterior, strict=True))
        return tuple(self.model.log_weight(x, encoding, noise))


class Exact(nn.Module):
    """`x -> log p(x)`."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Shaped[Tensor, "B H W C"]) -> Float64[Tensor, " B"] | None:
        """Give log p(x) itself."""
        return self.model.exact_log_prob(x)


def graphs(
    model: LatentVariableModel, bottleneck: ContinuousBottleneck, geometry: schema.ImageGeometry
) -> tuple[GraphSpec, ...]:
    """List the graphs that a model of real-valued latents has.

    Args:
        model: in evaluation mode.
        bottleneck: the model's.
        geometry: of an image, of fixed size.

    Returns:
        `encode` and, for a decoder that gives all pixels at once, `decode`; where its latents are drawn, `draw`,
        `log_weight` and, for another prior than the standard normal one, `draw_prior`; where it is known, `exact`.
    """
    model = model.for_export()
    x, dimensions = data(model, geometry), bottleneck.dimensions
    posterior = tuple(
        schema.Tensor(name=quantity.name, dtype="float32", shape=("B", *quantity.shape), unit=quantity.unit)
        for quantity in bottleneck.quantities
    )
    names = tuple(tensor.name for tensor in posterior)
    z = schema.Tensor(name="z", dtype="float32", shape=("B", dimensions), unit="latent")
    specs = [GraphSpec("encode", Encode(model, names), (x,), posterior)]
    if not isinstance(model, TeacherForcedModel):
        with torch.no_grad():
            params = model.decode(torch.zeros(1, dimensions))
        specs.append(GraphSpec("decode", Decode(model), (z,), decoded(x, params)))
    if bottleneck.bounds_log_p:
        specs += _drawn(model, bottleneck.for_export(), x, posterior)
    picture = torch.zeros(1, geometry.height or 1, geometry.width or 1, geometry.channels, dtype=torch.uint8)
    if model.exact_log_prob(picture) is not None:
        log_p = schema.Tensor(name="log_p_x", dtype="float64", shape=("B",), unit=_nats(model))
        specs.append(GraphSpec("exact", Exact(model), (x,), (log_p,)))
    return tuple(specs)


def _nats(model: LatentVariableModel) -> str:
    """Name the unit of log p of x: that of a density is no code length."""
    return DENSITY_UNIT if model.likelihood.is_density else "nats"


def _drawn(
    model: LatentVariableModel, bottleneck: ContinuousBottleneck, x: schema.Tensor, posterior: tuple[schema.Tensor, ...]
) -> list[GraphSpec]:
    """List the graphs that take noise; of the posterior they take what is more than the one z that stands for x."""
    dimensions = bottleneck.dimensions
    used = tuple(tensor for tensor in posterior if tensor.name in bottleneck.drawn_from)
    names = tuple(tensor.name for tensor in used)
    noise = schema.Tensor(
        name="noise", dtype="float32", shape=("B", "S", bottleneck.noise_dimensions), unit="standard_normal"
    )
    drawn = schema.Tensor(name="z", dtype="float32", shape=("B", "S", dimensions), unit="latent")
    terms = tuple(
        schema.Tensor(name=name, dtype="float64", shape=("B", "S"), unit=unit)
        for name, unit in (("log_p_x_given_z", _nats(model)), ("log_p_z", "nats"), ("log_q", "nats"))
    )
    specs = [
        GraphSpec("draw", Draw(bottleneck, names), (noise, *used), (drawn,)),
        GraphSpec("log_weight", LogWeight(model, names), (x, noise, *used), terms),
    ]
    if not bottleneck.prior_is_standard_normal:
        z = drawn.model_copy(update={"shape": ("B", dimensions)})
        given = noise.model_copy(update={"shape": ("B", bottleneck.prior_noise_dimensions)})
        temperature = schema.Tensor(name="temperature", dtype="float32", shape=("B",), minimum=0, unit="factor")
        specs.append(GraphSpec("draw_prior", DrawPrior(bottleneck), (given, temperature), (z,)))
    return specs
