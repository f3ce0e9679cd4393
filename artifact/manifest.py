"""The manifest: everything that a program must know of a trained model before it runs one of its graphs."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from artifact.code_prior import EXACT_PRIOR as EXACT_PRIOR
from artifact.code_prior import PRIOR as PRIOR
from artifact.code_prior import CodePrior as CodePrior
from artifact.code_prior import Link as Link
from artifact.code_prior import condition_input as condition_input
from artifact.code_prior import is_of_prior
from artifact.code_prior import link_role as link_role
from artifact.errors import SchemaError, UnknownVariantError
from artifact.exact import ExactPart
from artifact.exact import ExactPrior as ExactPrior
from artifact.exact_decoder import ExactDecoder as ExactDecoder
from artifact.exact_latents import ExactLatents as ExactLatents
from artifact.graph import DType as DType
from artifact.graph import FileName
from artifact.graph import Graph as Graph
from artifact.graph import Tensor as Tensor
from artifact.parity import CodesParity as CodesParity
from artifact.parity import Parity as Parity
from artifact.parity import PriorParity as PriorParity
from artifact.part import Part, Sha256

SCHEMA_VERSION = 5
"""The manifest schema that this code writes; it reads this one and those before, and refuses a higher one."""

MANIFEST_FILE = "manifest.json"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Capability = Literal["encode", "decode", "reconstruct", "sample", "likelihood", "compress", "decompress"]
Precision = Literal["fp16"]
"""The smaller types that the networks of a variant compute in."""


class Variant(Part):
    """The same model with its networks in a smaller type: its graphs take and give what the full ones do.

    Codes may differ from the model's where two code vectors are nearly as close, which its parity counts.

    Attributes:
        graphs: by role; a graph without a network has no counterpart here.
        parity: how far it was from the model.
    """

    graphs: dict[str, Graph]
    parity: Parity


class ImageGeometry(Part):
    """The images that a model takes: `[B, H, W, C]`, uint8.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        height: pixels, where fixed; None for a fully convolutional model.
        width: likewise.
        multiple_of: both sides must be multiples of this many pixels.
        maximum: the longest side that the model was tried with, in pixels.
    """

    modality: Literal["image"] = "image"
    channels: Literal[1, 3]
    height: int | None = Field(default=None, gt=0)
    width: int | None = Field(default=None, gt=0)
    multiple_of: int = Field(default=1, gt=0)
    maximum: int = Field(default=4096, gt=0)


class AudioGeometry(Part):
    """The sounds that a model takes: `[B, T]`, float32 in [-1, 1], one channel.

    Attributes:
        sample_rate_hz: samples a second.
        length: samples, where fixed.
        multiple_of: the length must be a multiple of this many samples.
        maximum: the longest sound that the model was tried with, in samples.
    """

    modality: Literal["audio"] = "audio"
    sample_rate_hz: int = Field(gt=0)
    length: int | None = Field(default=None, gt=0)
    multiple_of: int = Field(default=1, gt=0)
    maximum: int = Field(gt=0)


Geometry = Annotated[ImageGeometry | AudioGeometry, Field(discriminator="modality")]


class ContinuousLevel(Part):
    """A level of real-valued latents, `z [B, D]`."""

    kind: Literal["continuous"] = "continuous"
    dimensions: int = Field(gt=0)


class DiscreteLevel(Part):
    """A level of integer codes: `num_codebooks` grids of symbols below `num_embeddings`.

    Attributes:
        num_embeddings: K, symbols in a codebook.
        embedding_dim: D, length of a code vector.
        num_codebooks: Q, codes at each place.
        downsampling: input samples (or pixels a side) that one place stands for.
    """

    kind: Literal["discrete"] = "discrete"
    num_embeddings: int = Field(gt=1)
    embedding_dim: int = Field(gt=0)
    num_codebooks: int = Field(default=1, gt=0)
    downsampling: int = Field(gt=0)


Level = Annotated[ContinuousLevel | DiscreteLevel, Field(discriminator="kind")]


class NoiseInput(Part):
    """A graph input that the caller fills with noise (see `artifact.noise`).

    Attributes:
        graph: the graph's role.
        tensor: the input's name.
        distribution: what each element is drawn from.
        stream: the noise stream of `artifact.noise` that it is taken from.
    """

    graph: str
    tensor: str
    distribution: Literal["standard_normal"]
    stream: int


class Windows(Part):
    """How far a place reaches: what is needed to run a model over a large input piece by piece, to the same result.

    Attributes:
        encode_halo: pixels or samples on either side of a piece that its codes depend on.
        decode_halo: places of the finest grid on either side of a piece that its pixels or samples depend on.
    """

    encode_halo: int = Field(ge=0)
    decode_halo: int = Field(ge=0)


class Data(Part):
    """What the model was fitted on."""

    name: str
    source: str
    licence: str


class Manifest(Part):
    """All that is known of an artifact.

    Attributes:
        schema_version: see `SCHEMA_VERSION`.
        name: the model's name in the store.
        family: the family that built it; for people, never branched on.
        created: UTC, ISO 8601.
        geometry: what goes in and comes out.
        latent: the levels, top first.
        conditions: what its decoder can be conditioned on besides the latents; as in `CodePrior`.
        windows: how far a place reaches; None for a model that runs over whole inputs alone.
        warnings: what a user should know of it before relying on it, such as a collapsed codebook.
        graphs: by role: `encode`, `decode`, `log_weight`, ...
        variants: the model in reduced precision, by the type of its networks.
        files: sha256 of every other file of the artifact, by name.
        prior: the learned prior over codes; None where there is none, and codes count as equally probable.
        exact_prior: the prior over codes in integers, which codes are written and read under; None where there is none,
            and codes are stored as they are.
        exact_latents: a VAE in integers, which pictures are archived under; None where there is none.
        exact_decoder: a decoder of codes in integers, around which pictures are stored bit by bit; None where there is
            none.
        decoder: `parallel` has the graph `decode`, which gives the likelihood's mean, unless pictures are decoded
            pixel by pixel, which no graph does; `autoregressive`, of sounds alone, has `decode_given`, what codes say
            of every sample, and `decode_step`, from the class of the sample before to the logits of the 256 mu-law
            classes of the next one, with memory as in the steps of a prior.
        noise: the graph inputs that are noise.
        capabilities: the endpoints that the model can answer.
        bound: what kind of bound its likelihood is; None where it has none.
        parity: as measured by the export.
        metrics: figures by name, names with units.
        metrics_note: how the metrics were measured, in a sentence.
        data: what it was fitted on.
        licence: of the weights.
        git_commit: of the code that exported it; None outside a checkout.
        model_hash: see `model_hash`.
    """

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    name: Name
    family: str
    created: str
    geometry: Geometry
    latent: tuple[Level, ...]
    conditions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    windows: Windows | None = None
    warnings: tuple[str, ...] = ()
    graphs: dict[str, Graph]
    variants: dict[Precision, Variant] = Field(default_factory=dict)
    files: dict[FileName, Sha256]
    prior: CodePrior | None = None
    exact_prior: ExactPrior | None = None
    exact_latents: ExactLatents | None = None
    exact_decoder: ExactDecoder | None = None
    decoder: Literal["parallel", "autoregressive"] = "parallel"
    noise: tuple[NoiseInput, ...]
    capabilities: tuple[Capability, ...]
    bound: Literal["exact", "elbo"] | None
    parity: Parity
    metrics: dict[str, float]
    metrics_note: str
    data: Data
    licence: str
    git_commit: str | None
    model_hash: Sha256

    @model_validator(mode="after")
    def _hash_matches(self) -> "Manifest":
        expected = model_hash(self.graphs, self.files)
        if self.model_hash != expected:
            raise ValueError(f"model_hash is {self.model_hash}, its graphs and weights give {expected}")
        if self.prior is not None and self.prior.prior_hash != (expected := prior_hash(self.graphs, self.files)):
            raise ValueError(f"prior_hash is {self.prior.prior_hash}, its graphs and weights give {expected}")
        return self

    @model_validator(mode="after")
    def _variants_match(self) -> "Manifest":
        for precision, variant in self.variants.items():
            for role, graph in variant.graphs.items():
                full = self.graphs.get(role)
                if full is None or (graph.inputs, graph.outputs) != (full.inputs, full.outputs):
                    raise ValueError(f"graph {role!r} of variant {precision} takes or gives other tensors than in full")
        return self

    @model_validator(mode="after")
    def _exact_parts_fit(self) -> "Manifest":
        for part in self.exact_parts:
            if part.golden not in self.files:
                raise ValueError(f"the golden integers {part.golden!r} are not among the files")
            if common := part.graphs.keys() & self.graphs.keys():
                raise ValueError(f"the graphs {sorted(common)} are both exact and not")
        return self

    @property
    def exact_parts(self) -> tuple[ExactPart, ...]:
        """What there is in exact integers: its graphs are none of `graphs`, and enter neither of the other hashes."""
        parts = (self.exact_prior, self.exact_latents, self.exact_decoder)
        return tuple(part for part in parts if part is not None)

    @property
    def exact_graphs(self) -> dict[str, Graph]:
        """The graphs of the exact parts, by role."""
        return {role: graph for part in self.exact_parts for role, graph in part.graphs.items()}

    def graph(self, role: str) -> Graph:
        """Give a graph in full precision, or in exact integers.

        Raises:
            KeyError: there is none of this role.
        """
        return self.graphs[role] if role in self.graphs else self.exact_graphs[role]

    def graphs_in(self, precision: Precision | None) -> dict[str, Graph]:
        """Give the graphs to run, by role.

        Args:
            precision: of a variant, whose graphs stand in for those that it has; None for the full ones.

        Raises:
            UnknownVariantError: the model has no such variant.
        """
        if precision is None:
            return self.graphs
        if precision not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise UnknownVariantError(
                f"{self.name} has no variant {precision!r}, only: {known}; export it with --variants {precision}, or "
                "run it in full precision"
            )
        return self.graphs | self.variants[precision].graphs

    def checksums(self) -> dict[str, str]:
        """Give the sha256 of every file that the artifact must hold, by file name."""
        graphs = [self.graphs, self.exact_graphs, *(variant.graphs for variant in self.variants.values())]
        return dict(self.files) | {graph.file: graph.sha256 for roles in graphs for graph in roles.values()}


WEIGHTS_FILE = "weights.data"
PRIOR_WEIGHTS_FILE = "prior.data"
EXACT_PRIOR_WEIGHTS_FILE = "prior_exact.data"
GOLDEN_FILE = "golden.npz"


def model_hash(graphs: dict[str, Graph], files: dict[str, str]) -> str:
    """Name a model by its content: sha256 over its graphs, their signatures and their shared weights.

    Two artifacts with this hash compute the same function; cards, pictures and metrics do not enter. A prior over
    codes does not enter either: codes mean the same with another prior, or without one. Nor does a variant, which is
    the same model up to its parity.

    Args:
        graphs: the graphs by role.
        files: sha256 of the other files by name, of which only the weights count.

    Returns:
        64 hexadecimal digits.
    """
    return _hash({role: graph for role, graph in graphs.items() if not is_of_prior(role)}, files.get(WEIGHTS_FILE))


def prior_hash(graphs: dict[str, Graph], files: dict[str, str]) -> str:
    """Name a prior over codes by its content, as `model_hash` does a model."""
    return _hash({role: graph for role, graph in graphs.items() if is_of_prior(role)}, files.get(PRIOR_WEIGHTS_FILE))


def _hash(graphs: dict[str, Graph], weights: str | None) -> str:
    """Hash graphs, their signatures and their weights."""
    content = {"graphs": {role: graph.model_dump(mode="json") for role, graph in graphs.items()}, "weights": weights}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(path: Path) -> Manifest:
    """Read and validate a manifest file.

    Args:
        path: the JSON file.

    Returns:
        The manifest.

    Raises:
        SchemaError: it is not JSON, of a newer schema, or does not fit the schema.
    """
    try:
        content = json.loads(path.read_bytes())
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"{path}: not a manifest (a JSON object with a schema_version): {error!r}") from error
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise SchemaError(
            f"{path}: schema version {version!r}, this latentd reads up to {SCHEMA_VERSION}; update latentd"
        )
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise SchemaError(f"{path}: does not fit manifest schema {SCHEMA_VERSION}: {error}") from error
