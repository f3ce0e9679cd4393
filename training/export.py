"""Export: write a run's graphs, measure that they compute what the model computes, and publish them or refuse."""

import json
import logging
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from artifact import manifest as schema
from artifact.golden import Golden
from artifact.golden import write as write_golden
from artifact.noise import POSTERIOR_STREAM
from artifact.store import Artifact, Store, file_sha256
from media.audio import write_wav
from media.images import write_png
from models.bottleneck import DiscreteBottleneck, GaussianBottleneck
from models.chain import Chain
from models.model import LatentVariableModel
from models.quantizers import VectorQuantizer
from models.receptive_field import halos
from training import codes, links, pictures, spectrograms
from training.card import card
from training.data import Examples, Recordings, Splits
from training.errors import ExportError
from training.golden import golden_outputs
from training.graphs import graphs
from training.graphs import prior as prior_graphs
from training.graphs.discrete import level_downsampling
from training.graphs.reduced import reduced_graphs, reduced_prior_graphs
from training.graphs.spec import GraphSpec, axes, by_parameter, example, run_modules
from training.parity import Comparison, Graphs, Images, measure_parity
from training.prior_parity import Grids, measure_prior_parity
from training.recipe import Recipe, write_recipe
from training.run import Run
from training.weights import write_shared
from training.whole import padded

OPSET = 20
PARITY_EXAMPLES = 1000
_WHOLE_PICTURES = 8
_MAXIMUM_SIDE = 2048
_LONGEST_S = 60

_PICTURE_EXAMPLES = 32
_SOUND_EXAMPLES = 8
_PICTURE_SAMPLES = 64


@dataclass(frozen=True)
class _Draft:
    """What is exported.

    Attributes:
        recipe: of the run.
        model: with its best weights.
        prior: likewise, where there is one.
        splits: the data.
        geometry: of its data.
    """

    recipe: Recipe
    model: LatentVariableModel
    prior: Chain | None
    splits: Splits
    geometry: schema.Geometry

    @property
    def any_size(self) -> bool:
        """Whether the model takes data of any size."""
        return not self.splits.train.uniform

    @cached_property
    def images(self) -> list[Images]:
        """The held-out images that parity is measured on."""
        return held_out(self.splits.test, self.geometry.multiple_of)

    @cached_property
    def grids(self) -> list[Grids]:
        """Codes of these, link by link of a prior."""
        books = codes.codebooks(links.codes_of(self.model))
        encodings = [codes.encode(self.model, images) for images in self.images]
        return [[book.grid(encoding) for book in books] for encoding in encodings]

    def prior_specs(self) -> tuple[GraphSpec, ...]:
        """List the graphs of the prior; none where there is none."""
        if self.prior is None:
            return ()
        return prior_graphs.graphs(self.prior, links.codes_of(self.model).strides, any_size=self.any_size)


def export(
    run: Run,
    splits: Splits,
    store: Store,
    *,
    show: Path | None = None,
    variants: Sequence[schema.Precision] = (),
) -> Artifact:
    """Publish a run's best weights as the next version of its model.

    Args:
        run: fitted, and evaluated if the artifact is to bear metrics.
        splits: its data; the test split is what parity is measured on.
        store: where to publish.
        show: folder of pictures to show reconstructions of; None for those of the test split.
        variants: reduced precisions in which to publish it as well.

    Returns:
        The published artifact.

    Raises:
        RunError: the run is not complete.
        ExportError: the graphs are not within tolerance of the model; nothing is published then.
        GoldenError: a variant is not within tolerance of the golden outputs; likewise.
    """
    recipe = run.recipe()
    model = run.model(recipe, splits.train.shape)
    prior = run.fitted_prior(recipe, model, splits)
    draft = _Draft(recipe, model, prior, splits, geometry(model, splits))
    measured, shown = _metrics(run), _examples(draft, show)
    with store.stage(recipe.name) as stage:
        specs = _write_full(draft, stage)
        run_written = Graphs(specs, stage).run
        parity = _parity(draft, Comparison(specs, (run_written,)))
        answers = golden_outputs(recipe.name, model, specs, draft.geometry.multiple_of, run_written)
        write_golden(answers, stage / schema.GOLDEN_FILE)
        reduced = {precision: _write_variant(draft, specs, precision, answers, stage) for precision in variants}
        _write_shown(draft, shown, stage)
        (stage / "recipe.toml").write_text(write_recipe(portable(recipe)), "utf-8")
        (stage / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
        described = _manifest(draft, specs, stage, parity, reduced, measured)
        text = card(described, recipe.card.description, _trained_numbers(draft))
        (stage / "MODEL_CARD.md").write_text(text, "utf-8")
        files = described.files | {"MODEL_CARD.md": file_sha256(stage / "MODEL_CARD.md")}
        final = described.model_copy(update={"files": files})
        (stage / schema.MANIFEST_FILE).write_text(final.model_dump_json(indent=2) + "\n", "utf-8")
    return store.open(recipe.name)


def geometry(model: LatentVariableModel, splits: Splits) -> schema.Geometry:
    """Say what a model takes: images of the size that it was fitted to, or any where it was fitted to crops; sounds."""
    factor = codes.downsampling(model)
    if isinstance(splits.train, Recordings):
        hz = splits.train.sample_rate_hz
        return schema.AudioGeometry(sample_rate_hz=hz, multiple_of=factor, maximum=_LONGEST_S * hz // factor * factor)
    height, width, channels = splits.train.shape
    if splits.train.uniform:
        return schema.ImageGeometry(channels=channels, height=height, width=width, multiple_of=factor)
    return schema.ImageGeometry(channels=channels, multiple_of=factor, maximum=_MAXIMUM_SIDE)


def held_out(test: Examples, multiple_of: int) -> list[Images]:
    """Choose what parity is measured on: of pictures of any size crops, whole ones, and one as long as is taken.

    Args:
        test: the split.
        multiple_of: what both sides of an image must be multiples of.

    Returns:
        Arrays, each of images of one size.
    """
    if test.uniform:
        return [test.fixed(PARITY_EXAMPLES)]
    random = np.random.Generator(np.random.Philox(key=[0, 0]))
    crops = test.batch(np.arange(PARITY_EXAMPLES) % len(test), random)
    whole = [padded(test[index], multiple_of)[0][None].copy() for index in range(min(_WHOLE_PICTURES, len(test)))]
    if isinstance(test, Recordings):
        longest = np.resize(whole[0][0], _LONGEST_S * test.sample_rate_hz // multiple_of * multiple_of)
    else:
        longest = np.resize(whole[0][0].swapaxes(0, 1), (_MAXIMUM_SIDE, *whole[0].shape[1:2], whole[0].shape[3]))
    return [crops, *whole, longest[None]]


def write_graphs(specs: tuple[GraphSpec, ...], weights: Path) -> None:
    """Write every graph beside the file of their shared weights.

    Args:
        specs: the graphs.
        weights: the file.
    """
    write_shared({weights.with_name(spec.file): _trace(spec) for spec in specs}, weights)


def _trace(spec: GraphSpec) -> onnx.ModelProto:
    """Turn a module into an ONNX graph with its symbolic axes."""
    arguments = tuple(example(tensor, spec) for tensor in spec.inputs)
    symbols = axes(spec)
    shapes = [
        {axis: symbols[name] for axis, name in enumerate(tensor.shape) if isinstance(name, str)}
        for tensor in spec.inputs
    ]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing of the model's
        program = torch.onnx.export(
            spec.module.eval(),
            arguments,
            dynamo=True,
            dynamic_shapes=by_parameter(spec.module, shapes),
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"torch gave no graph for {spec.role}")
    graph: onnx.ModelProto = program.model_proto
    for part in (*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.value_info, graph.graph):
        part.ClearField("metadata_props")  # traces of the source and its place: most of the file, and none of the model
    return graph


def _write_full(draft: _Draft, stage: Path) -> tuple[GraphSpec, ...]:
    """Write the graphs in full precision; those of a prior have weights of their own."""
    specs = graphs(draft.model, draft.geometry)
    write_graphs(specs, stage / schema.WEIGHTS_FILE)
    if draft.prior is None:
        return specs
    added = draft.prior_specs()
    write_graphs(added, stage / schema.PRIOR_WEIGHTS_FILE)
    return specs + added


def _write_variant(
    draft: _Draft, full: tuple[GraphSpec, ...], precision: schema.Precision, answers: Golden, stage: Path
) -> schema.Variant:
    """Write the graphs in reduced precision, measure them and try them on the golden inputs."""
    specs = _reduced(draft, precision)
    write_graphs(specs, stage / f"weights.{precision}.data")
    written = Graphs({spec.role: spec for spec in (*full, *specs)}.values(), stage).run
    # ONNX Runtime widens what a CPU has no kernels for, and so leaves most of the rounding out.
    emulated = run_modules((*full, *_reduced(draft, precision, emulated=True)))
    parity = _parity(draft, Comparison(full, (written, emulated), precision))
    answers.check(written, precision=precision)
    return schema.Variant(graphs=_described(specs, stage), parity=parity)


def _reduced(draft: _Draft, precision: schema.Precision, *, emulated: bool = False) -> tuple[GraphSpec, ...]:
    """List the graphs in reduced precision."""
    specs = reduced_graphs(draft.model, draft.geometry, precision, emulated=emulated)
    if draft.prior is None:
        return specs
    strides = links.codes_of(draft.model).strides
    added = reduced_prior_graphs(draft.prior, strides, precision, any_size=draft.any_size, emulated=emulated)
    return specs + added


def _parity(draft: _Draft, comparison: Comparison) -> schema.Parity:
    """Measure graphs on held-out data."""
    parity = measure_parity(draft.model, comparison, draft.images)
    if draft.prior is None:
        return parity
    measured = measure_prior_parity(comparison, draft.prior, draft.grids)
    return parity.model_copy(update={"prior": measured})


def _described(specs: tuple[GraphSpec, ...], stage: Path) -> dict[str, schema.Graph]:
    """Describe written graphs, by role."""
    return {
        spec.role: schema.Graph(
            file=spec.file,
            sha256=file_sha256(stage / spec.file),
            opset=OPSET,
            inputs=spec.inputs,
            outputs=spec.outputs,
        )
        for spec in specs
    }


def portable(recipe: Recipe) -> Recipe:
    """Give a recipe as others can have it: of the path of the data only its last part is kept."""
    root = recipe.data.root
    data = recipe.data.model_copy(update={"root": root and Path(root.resolve().name)})
    return recipe.model_copy(update={"data": data})


def _trained_numbers(draft: _Draft) -> int:
    """Count what the fit decided: parameters, and the codebook that averages keep."""
    modules = [draft.model] if draft.prior is None else [draft.model, draft.prior]
    trained = {id(value): value.numel() for module in modules for value in module.parameters()}
    for module in draft.model.modules():
        if isinstance(module, VectorQuantizer):
            trained[id(module.embedding)] = module.embedding.numel()
    return sum(trained.values())


def _examples(draft: _Draft, show: Path | None) -> Images:
    """Choose the pictures whose reconstructions the card shows."""
    if show is not None:
        if isinstance(draft.geometry, schema.AudioGeometry):
            raise ExportError("--show is a folder of pictures, but the model is of sounds; leave it out")
        return pictures.to_show(show, draft.geometry)
    test = draft.splits.test.fixed()
    return test[:: max(1, len(test) // _PICTURE_EXAMPLES)][:_PICTURE_EXAMPLES]


def _write_shown(draft: _Draft, shown: Images, stage: Path) -> None:
    """Write what the card shows: pictures, and of sounds what can be heard as well."""
    if isinstance(draft.splits.test, Recordings):
        drawn = {"reconstructions": spectrograms.both(draft.model, shown[:_SOUND_EXAMPLES])}
        if draft.prior is not None:
            means = pictures.sample_means(draft.model, draft.prior)
            drawn["samples"] = means[:: pictures.SAMPLES_OF_A_CLASS].numpy()
        for name, sounds in drawn.items():
            heard = write_wav(sounds.ravel(), sample_rate_hz=draft.splits.test.sample_rate_hz)
            (stage / f"{name}.wav").write_bytes(heard)
            (stage / f"{name}.png").write_bytes(write_png(spectrograms.sheet(sounds)))
        return
    for name, picture in _pictures(draft, shown).items():
        (stage / f"{name}.png").write_bytes(write_png(picture))


def _pictures(draft: _Draft, shown: Images) -> dict[str, Any]:
    """Draw what the card shows."""
    drawn = {"reconstructions": pictures.reconstructions(draft.model, shown)}
    if draft.prior is not None:
        return drawn | {"samples": pictures.prior_samples(draft.model, draft.prior)}
    samples = pictures.samples(draft.model, _PICTURE_SAMPLES)
    return drawn if samples is None else drawn | {"samples": samples}


def _metrics(run: Run) -> dict[str, Any]:
    """Read what `evaluate` stored, if it ran.

    Raises:
        ExportError: it measured other weights than those that are exported.
    """
    if not run.metrics_file.exists():
        return {"note": "Not evaluated.", "metrics": {}}
    stored: dict[str, Any] = json.loads(run.metrics_file.read_text("utf-8"))
    if stored.get("weights") != run.weights():
        raise ExportError(
            f"{run.metrics_file} has the figures of other weights than the run has now; evaluate it again, or remove "
            "the file to publish without figures"
        )
    return stored


def _manifest(
    draft: _Draft,
    specs: tuple[GraphSpec, ...],
    stage: Path,
    parity: schema.Parity,
    variants: Mapping[schema.Precision, schema.Variant],
    measured: dict[str, Any],
) -> schema.Manifest:
    """Describe what lies in the stage."""
    recipe, splits = draft.recipe, draft.splits
    roles = _described(specs, stage)
    graph_files = {
        graph.file for part in (roles, *(one.graphs for one in variants.values())) for graph in part.values()
    }
    files = {path.name: file_sha256(path) for path in sorted(stage.iterdir()) if path.name not in graph_files}
    return schema.Manifest(
        name=recipe.name,
        family=recipe.model.family,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        geometry=draft.geometry,
        latent=_levels(draft),
        conditions={name: draft.splits.conditions[name] for name in draft.model.conditions},
        windows=_windows(draft),
        warnings=_warnings(draft),
        graphs=roles,
        variants=dict(variants),
        files=files,
        prior=_code_prior(draft, roles, files),
        noise=tuple(
            schema.NoiseInput(
                graph="log_weight", tensor="noise", distribution="standard_normal", stream=POSTERIOR_STREAM
            )
            for role in roles
            if role == "log_weight"
        ),
        capabilities=_capabilities(draft),
        bound="elbo",
        parity=parity,
        metrics=measured["metrics"],
        metrics_note=measured["note"],
        data=schema.Data(name=splits.name, source=splits.source, licence=splits.licence),
        licence=recipe.card.licence,
        git_commit=_git_commit(),
        model_hash=schema.model_hash(roles, files),
    )


def _levels(draft: _Draft) -> tuple[schema.Level, ...]:
    """Describe the latents."""
    bottleneck = draft.model.bottleneck
    if isinstance(bottleneck, DiscreteBottleneck):
        return tuple(
            schema.DiscreteLevel(
                num_embeddings=quantizer.num_embeddings,
                embedding_dim=quantizer.embedding_dim,
                num_codebooks=quantizer.num_codebooks,
                downsampling=level_downsampling(draft.geometry.multiple_of, bottleneck.strides, level),
            )
            for level, quantizer in enumerate(bottleneck.quantizers)
        )
    if isinstance(bottleneck, GaussianBottleneck):
        return (schema.ContinuousLevel(dimensions=bottleneck.dimensions),)
    raise ExportError(f"the manifest has no level for a {type(bottleneck).__name__}")


def _windows(draft: _Draft) -> schema.Windows | None:
    """Say how far a place of a model of data of any size reaches."""
    bottleneck = draft.model.bottleneck
    if not draft.any_size or not isinstance(bottleneck, DiscreteBottleneck):
        return None
    channels = getattr(draft.geometry, "channels", 1)
    found = halos(draft.model, bottleneck, channels, draft.geometry.multiple_of)
    return schema.Windows(encode_halo=found.encode, decode_halo=found.decode)


def _warnings(draft: _Draft) -> tuple[str, ...]:
    """Say what a user should know: of codebooks whether they have collapsed, on held-out data."""
    if not isinstance(draft.model.bottleneck, DiscreteBottleneck):
        return ()
    return codes.collapse_warnings(draft.model.bottleneck, [codes.encode(draft.model, draft.images[0])])


def _code_prior(draft: _Draft, roles: dict[str, schema.Graph], files: dict[str, str]) -> schema.CodePrior | None:
    """Describe the learned prior, where there is one."""
    if draft.prior is None:
        return None
    return schema.CodePrior(
        links=prior_graphs.links(draft.prior, any_size=draft.any_size),
        conditions={name: draft.splits.conditions[name] for name in draft.prior.conditions},
        prior_hash=schema.prior_hash(roles, files),
    )


def _capabilities(draft: _Draft) -> tuple[schema.Capability, ...]:
    """Say what the model can answer: it samples where it has a prior, and compresses where it has codes."""
    discrete = isinstance(draft.model.bottleneck, DiscreteBottleneck)
    samples: tuple[schema.Capability, ...] = () if discrete and draft.prior is None else ("sample",)
    packs: tuple[schema.Capability, ...] = ("compress", "decompress") if discrete else ()
    return ("encode", "decode", "reconstruct", *samples, "likelihood", *packs)


def _git_commit() -> str | None:
    """Name the checked-out commit; None outside a checkout or without git."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
