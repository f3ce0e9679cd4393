"""The graphs of a model of codes, of any number of levels; conditions of the decoder are their last inputs."""

import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor, nn

from artifact import manifest as schema
from models.autoregressive import AutoregressiveModel
from models.bottleneck import DiscreteBottleneck
from models.code_priors import Conditions
from models.model import LatentVariableModel
from training.graphs import autoregressive
from training.graphs.spec import GraphSpec, data, decoded


class Encode(nn.Module):
    """`x -> codes` of each level."""

    def __init__(self, model: LatentVariableModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, x: Shaped[Tensor, "B *data"]) -> tuple[Int[Tensor, "B *grid"], ...]:
        """Give the nearest codes."""
        encoding = self.model.encode(x)
        return tuple(encoding[name] for name in self.names)


class Embed(nn.Module):
    """`codes -> z_q` of each level."""

    def __init__(self, bottleneck: DiscreteBottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck

    def forward(self, *codes: Int[Tensor, "B *grid"]) -> tuple[Float[Tensor, "B *grid D"], ...]:
        """Give the code vectors."""
        return self.bottleneck.vectors(dict(zip(self.bottleneck.code_names, codes, strict=True)))


class _Decoder(nn.Module):
    """`codes, conditions -> ...`."""

    def __init__(self, model: LatentVariableModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def latents(self, *given: Int[Tensor, "B *grid"]) -> tuple[Tensor, Conditions]:
        """Give what the decoder reads of codes, one tensor a level, and the conditions after them."""
        encoding = dict(zip(self.names, given, strict=False))
        conditions = dict(zip(self.model.conditions, given[len(self.names) :], strict=True))
        return self.model.bottleneck.point(encoding), conditions


class Decode(_Decoder):
    """`codes, conditions -> mean, likelihood parameters`."""

    def forward(self, *given: Int[Tensor, "B *grid"]) -> tuple[Float[Tensor, "B *data"], ...]:
        """Give the mean and then the parameters, in the likelihood's order."""
        params = self.model.decode(*self.latents(*given))
        return self.model.likelihood.mean(params), *params.values()


class LogLikelihood(_Decoder):
    """`x, codes, conditions -> log p(x given z)` of every pixel or sample, so that padding can be left out of a sum."""

    def forward(self, x: Shaped[Tensor, "B *data"], *given: Int[Tensor, "B *grid"]) -> Float64[Tensor, "B *places"]:
        """Give nats."""
        return self.model.likelihood.pixel_log_prob(x, self.model.weighing(x, *self.latents(*given)))


def graphs(
    model: LatentVariableModel, bottleneck: DiscreteBottleneck, geometry: schema.Geometry
) -> tuple[GraphSpec, ...]:
    """List the graphs that a model of codes has.

    Args:
        model: in evaluation mode.
        bottleneck: the model's.
        geometry: of its data, of fixed or any size.

    Returns:
        `encode`, `embed`, `decode` and `log_likelihood`; an autoregressive decoder has its own in place of `decode`.
    """
    x, names = data(model, geometry), bottleneck.code_names
    grids = [_grid(geometry, bottleneck, level) for level in range(len(names))]
    levels = list(zip(names, bottleneck.quantizers, grids, strict=True))
    codes = tuple(
        _codes(name, quantizer.num_embeddings, quantizer.num_codebooks, grid) for name, quantizer, grid in levels
    )
    vectors = tuple(
        schema.Tensor(
            name=name.replace("codes", "z_q"),
            dtype="float32",
            shape=("B", *grid, quantizer.embedding_dim),
            unit="latent",
        )
        for name, quantizer, grid in levels
    )
    conditions = tuple(
        schema.Tensor(name=name, dtype="int64", shape=("B",), minimum=0, maximum=count, unit="class")
        for name, count in model.conditions.items()
    )
    places = x.shape[: 1 + bottleneck.grid_axes]
    log_p = schema.Tensor(name="log_p_x_given_z", dtype="float64", shape=places, unit="nats")
    if isinstance(model, AutoregressiveModel):
        decoders = autoregressive.decoders(model, names, codes, conditions, geometry)
    else:
        with torch.no_grad():
            params = model.decode(bottleneck.point(bottleneck.example(1)))
        decoders = (("decode", Decode(model, names), (*codes, *conditions), decoded(x, params)),)
    return tuple(
        GraphSpec(role, module, inputs, outputs, geometry.multiple_of, strides=bottleneck.strides)
        for role, module, inputs, outputs in (
            ("encode", Encode(model, names), (x,), codes),
            ("embed", Embed(bottleneck), codes, vectors),
            *decoders,
            ("log_likelihood", LogLikelihood(model, names), (x, *codes, *conditions), (log_p,)),
        )
    )


def _grid(geometry: schema.Geometry, bottleneck: DiscreteBottleneck, level: int) -> tuple[int | str, ...]:
    """Give the places of a level's grid: numbers where they are fixed, else the axes' symbols."""
    downsampling = level_downsampling(geometry.multiple_of, bottleneck.strides, level)
    suffix = f"_{level}" if len(bottleneck.strides) > 1 else ""
    if isinstance(geometry, schema.AudioGeometry):
        sizes = {"t": geometry.length}
    else:
        sizes = {"h": geometry.height, "w": geometry.width}
    return tuple(size // downsampling if size else f"{axis}{suffix}" for axis, size in sizes.items())


def level_downsampling(multiple_of: int, strides: tuple[int, ...], level: int) -> int:
    """Tell how many pixels a side, or samples, one place of a level stands for.

    Args:
        multiple_of: as many for the coarsest level.
        strides: of the bottleneck.
        level: 0 for the top.

    Returns:
        At least 1.
    """
    return multiple_of // strides[0] * strides[level]


def _codes(name: str, num_embeddings: int, num_codebooks: int, grid: tuple[int | str, ...]) -> schema.Tensor:
    """Declare the codes of a level; of several codebooks later ones may be absent."""
    several = num_codebooks > 1
    return schema.Tensor(
        name=name,
        dtype="int32",
        shape=("B", *([num_codebooks] if several else []), *grid),
        minimum=-1 if several else 0,
        maximum=num_embeddings - 1,
        unit="code",
    )
