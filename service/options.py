"""The typed options of each endpoint."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from artifact.noise import MAX_SEED, draw_seed
from media.audio import MAX_SAMPLE_RATE_HZ, MIN_SAMPLE_RATE_HZ
from service.errors import ParameterError

FitName = Literal["pad", "crop", "resize", "error"]
BoundName = Literal["exact", "iwae", "elbo"]
TIGHTEST_FIRST: tuple[BoundName, ...] = ("exact", "iwae", "elbo")


def _split(value: object) -> object:
    """Read a comma list of the query, or a list of a JSON body, as a tuple."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return tuple(value) if isinstance(value, list) else value


def split_or_wrap(value: object) -> object:
    """Read a comma list, a list, or one number."""
    return (value,) if type(value) is int else _split(value)


Names = Annotated[tuple[str, ...], BeforeValidator(_split), Field(min_length=1, max_length=8)]
Labels = Annotated[tuple[str | int, ...], BeforeValidator(split_or_wrap), Field(min_length=1)]
BoundNames = Annotated[tuple[BoundName, ...], BeforeValidator(_split), Field(min_length=1, max_length=3)]


class Options(BaseModel):
    """What every endpoint takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = Field(
        default=None,
        max_length=80,
        description="`name` or `name@version` of the model; left out, the default for the endpoint and what was sent "
        "serves: pictures or sounds",
    )
    sample_rate: int | None = Field(
        default=None,
        ge=MIN_SAMPLE_RATE_HZ,
        le=MAX_SAMPLE_RATE_HZ,
        description="of sounds that are sent as an array, or that are made of something else than sounds: samples a "
        "second; left out: the model's. A file says its own, which the answer has as well",
    )

    @property
    def asked(self) -> Mapping[str, Labels | None]:
        """The classes asked for, by condition."""
        return {}


class NoOptions(BaseModel):
    """What a plain look-up takes: nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoiseOptions(Options):
    """Which noise to use: item i of a request takes that of (seed, first_index + i)."""

    seed: int = Field(
        default_factory=draw_seed, ge=0, le=MAX_SEED, description="left out, one is drawn; the answer tells which"
    )
    first_index: int = Field(
        default=0, ge=0, le=2**62, description="index of the first item; reproduces row i alone with first_index=i"
    )


class MediaOptions(Options):
    """How the given images are brought to the model's geometry."""

    fit: FitName | None = Field(
        default=None,
        description="what to do with a geometry that the model does not take; "
        "left out: `error` for a model of fixed size, `pad` for a fully convolutional one",
    )
    binarize: Literal["threshold"] | None = Field(
        default=None, description="turn grey values into 0 and 255, for a model that takes these alone"
    )


class SpeakerOptions(Options):
    """Which voice a decoder is conditioned on."""

    speaker: Labels | None = Field(
        default=None,
        description="comma list of speakers, each a name, a number or `none`: one for all items, or one an item; "
        "left out: none. For a model that knows speakers",
    )

    @property
    def asked(self) -> Mapping[str, Labels | None]:
        """The classes asked for, by condition."""
        return {"speaker": self.speaker}


class DecoderTemperatureOptions(Options):
    """How a decoder draws that draws sounds."""

    decoder_temperature: float | None = Field(
        default=None,
        ge=0.0,
        le=10.0,
        description="divisor of the logits of each sample, where 0 gives the most probable one; left out: 1. For a "
        "model whose decoder draws sounds sample by sample",
    )


class DecoderNoiseOptions(SpeakerOptions, DecoderTemperatureOptions):
    """Likewise, with the noise that it draws from."""

    decoder_seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="names the noise of the samples, of item i that of (decoder_seed, i); left out: 0, so that the "
        "same codes give the same sound. For a model whose decoder draws sounds sample by sample",
    )


class LabelOptions(SpeakerOptions):
    """Which classes a prior over codes is conditioned on."""

    label: Labels | None = Field(default=None, description="the same as `labels`; give one of them")
    labels: Labels | None = Field(
        default=None,
        description="comma list of classes, each a name, a number or `none`: one for all items, or one an item; "
        "left out: none. For a model whose prior knows classes",
    )

    @property
    def asked(self) -> Mapping[str, Labels | None]:
        """The classes asked for, by condition.

        Raises:
            ParameterError: both `label` and `labels` are given.
        """
        if self.label is not None and self.labels is not None:
            raise ParameterError("label and labels are given, which are the same; give one")
        return {"label": self.labels or self.label, **super().asked}


class CodebooksOptions(MediaOptions):
    """How many codebooks of a residual model are used."""

    codebooks: int | None = Field(
        default=None,
        ge=1,
        description="use so many codebooks at each place, the first ones: a lower rate. For a model with several; left "
        "out: all",
    )


class EncodeOptions(CodebooksOptions):
    """What `/encode` takes."""

    output: Names | None = Field(
        default=None,
        description="comma list of what to answer, the primary first: `mean`, `log_variance`, or for a model of codes "
        "`codes`, `z_q`, of all levels, or of one such as `codes_0`; of another posterior what its manifest lists; `z` "
        "for draws from the posterior. Left out: all that describes the posterior, or codes",
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        description="S, draws of each item: `z` is `[B, S, D]`, the samples that `/likelihood` weighs for the same "
        "seed; left out: one, `[B, D]`, where the encoder gives no `z` of its own. For real-valued latents",
    )
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="of the draws; left out, one is drawn, and the answer tells which"
    )
    first_index: int = Field(default=0, ge=0, le=2**62, description="of the draws: index of the first item")


class DecodeOptions(DecoderNoiseOptions):
    """What `/decode` takes."""


class ReconstructOptions(CodebooksOptions, DecoderNoiseOptions):
    """What `/reconstruct` takes."""


class SampleOptions(NoiseOptions, LabelOptions, DecoderTemperatureOptions):
    """What `/sample` takes."""

    n: int = Field(default=1, ge=1, description="how many to draw")
    temperature: float = Field(
        default=1.0,
        ge=0.0,
        le=10.0,
        description="factor on the prior's standard deviation, where 0 gives its mean; or divisor of the logits of "
        "codes, where 0 gives the most probable code place by place",
    )
    top_k: int | None = Field(
        default=None, ge=1, description="draw from so many of the most probable codes; left out: from all"
    )
    top_p: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="draw from the fewest most probable codes that have at least this probability together; left out: "
        "from all",
    )
    height: int | None = Field(
        default=None,
        ge=1,
        description="of the pictures, in pixels, for a prior over any size; left out: the size that it is made for",
    )
    width: int | None = Field(default=None, ge=1, description="likewise")
    output: Names | None = Field(
        default=None,
        description="comma list of what to answer, the primary first: `images`, and `codes` of a model of codes; "
        "left out: all that there is",
    )


class LikelihoodOptions(MediaOptions, NoiseOptions, LabelOptions):
    """What `/likelihood` takes."""

    samples: int = Field(default=64, ge=1, description="S, importance samples of an item")
    bounds: BoundNames | None = Field(
        default=None,
        description="comma list of `elbo`, `iwae`, `exact`; left out, all that the model has",
    )
    surprise: bool = Field(
        default=False, description="answer the nats of every code as well; for a model of codes, as a PNG always"
    )


class CompressOptions(CodebooksOptions, LabelOptions):
    """What `/compress` takes."""

    mode: Literal["codes", "lossless"] = Field(
        default="codes",
        description="`codes`: what the model makes of the input; `lossless`: the input itself to the bit, for a model "
        "that has exact networks for that: several pictures in one archive, or each file by itself",
    )
    profile: Literal["raw", "prior"] | None = Field(
        default=None,
        description="`prior`: codes under the model's exact prior; `raw`: each code in the bits that its codebook "
        "needs; left out: under the prior where the model has one for this size and that is smaller",
    )
    chunk_rows: int | None = Field(
        default=None,
        ge=1,
        description="rows of the coarsest grid of codes, or places of a sound's, that are coded as a chunk of their "
        "own, which is read even where others are damaged; left out: as many as are fast. For a prior over any size",
    )
    verify: Literal["tables", "full"] = Field(
        default="tables",
        description="how each container is read again before it is answered: `tables` by the frequencies that it was "
        "written under, `full` place by place, as `/decompress` will",
    )


class DecompressOptions(SpeakerOptions):
    """What `/decompress` takes."""

    output: Names | None = Field(
        default=None,
        description="comma list of what to answer, the primary first: `images`, `codes`; left out: images",
    )
    salvage: bool = Field(
        default=False,
        description="read what is left of damaged containers: what is lost is filled from beside it, and told",
    )
