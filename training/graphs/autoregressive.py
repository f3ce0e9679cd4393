"""The graphs of a decoder that gives a sound sample by sample; see `artifact.line` for how they are run."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from artifact import manifest as schema
from models.autoregressive import AutoregressiveModel
from models.sound_likelihoods import MU

Decoder = tuple[str, nn.Module, tuple[schema.Tensor, ...], tuple[schema.Tensor, ...]]
"""Role, module, inputs and outputs of a graph."""


class DecodeGiven(nn.Module):
    """`codes -> given`, what they say of every sample."""

    def __init__(self, model: AutoregressiveModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *codes: Int[Tensor, "B *grid"]) -> Float[Tensor, "B T G"]:
        """Give the features."""
        return self.model.decoder.given(self.model.bottleneck.point(dict(zip(self.names, codes, strict=True))))


class DecodeStep(nn.Module):
    """`class of the sample before, sample, caches, given, conditions -> logits, entries`."""

    def __init__(self, model: AutoregressiveModel) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.caches, self.conditions = tuple(model.decoder.memory().caches), tuple(model.conditions)

    def forward(self, code: Int[Tensor, " B"], position: Int[Tensor, " B"], *rest: Tensor) -> tuple[Tensor, ...]:
        """Take a sample."""
        count = len(self.caches)
        memory, given = dict(zip(self.caches, rest[:count], strict=True)), rest[count]
        conditions = dict(zip(self.conditions, rest[count + 1 :], strict=True))
        logits, _, entries = self.decoder.step(code, position, memory, given, conditions)
        return logits, *(entries[name] for name in self.caches)


def decoders(
    model: AutoregressiveModel,
    names: tuple[str, ...],
    codes: tuple[schema.Tensor, ...],
    conditions: tuple[schema.Tensor, ...],
    geometry: schema.Geometry,
) -> tuple[Decoder, ...]:
    """List the graphs of the decoder.

    Args:
        model: in evaluation mode.
        names: of the codes.
        codes: the same, declared.
        conditions: of the decoder, declared.
        geometry: of its sounds.

    Returns:
        `decode_given`, once for a whole sound, and `decode_step`, once for each sample.
    """
    length = getattr(geometry, "length", None) or "T"
    caches, features = model.decoder.memory().caches, model.decoder.features

    def numbers(name: str, *shape: int | str, unit: str = "hidden") -> schema.Tensor:
        return schema.Tensor(name=name, dtype="float32", shape=("B", *shape), unit=unit)

    code = schema.Tensor(name="code", dtype="int32", shape=("B",), minimum=0, maximum=MU, unit="mu_law")
    position = schema.Tensor(
        name="position", dtype="int64", shape=("B",), minimum=0, maximum=geometry.maximum - 1, unit="sample"
    )
    return (
        ("decode_given", DecodeGiven(model, names), codes, (numbers("given", length, features),)),
        (
            "decode_step",
            DecodeStep(model),
            (
                code,
                position,
                *(numbers(f"cache_{name}", *shape) for name, shape in caches.items()),
                numbers("given", features),
                *conditions,
            ),
            (
                numbers("logits", MU + 1, unit="logit"),
                *(numbers(f"entry_{name}", *shape[1:]) for name, shape in caches.items()),
            ),
        ),
    )
