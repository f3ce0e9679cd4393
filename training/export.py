"""Export: write a run's graphs, measure that they compute what the model computes, and publish them or refuse."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifact import manifest as schema
from artifact.golden import Golden
from artifact.golden import write as write_golden
from artifact.store import Artifact, Store, file_sha256
from models.quantizers import VectorQuantizer
from training import links
from training.card import card
from training.data import Splits
from training.description import describe, described_graphs
from training.draft import Draft, geometry
from training.errors import ExportError
from training.exact.decoder import export_exact_decoder
from training.exact.vae import read_exact_vae
from training.exact_export import export_exact_prior
from training.golden import golden_outputs
from training.graphs import graphs
from training.graphs.reduced import reduced_graphs, reduced_prior_graphs
from training.graphs.spec import GraphSpec, run_modules
from training.graphs.write import write_graphs
from training.kept import keep_graphs, latest_of
from training.latents_export import export_exact_latents
from training.parity import Comparison, Graphs, measure_parity
from training.prior_parity import measure_prior_parity
from training.recipe import Recipe, write_recipe
from training.run import Run
from training.shown import examples_to_show, write_shown


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
    exact = run.exact_chain(recipe, model, splits)
    draft = Draft(recipe, model, prior, splits, geometry(model, splits), exact)
    measured, shown = _metrics(run), examples_to_show(draft, show)
    with store.stage(recipe.name) as stage:
        specs = _write_full(draft, stage, latest_of(store, recipe.name))
        run_written = Graphs(specs, stage).run
        parity = _parity(draft, Comparison(specs, (run_written,)))
        answers = golden_outputs(recipe.name, model, specs, draft.geometry.multiple_of, run_written)
        write_golden(answers, stage / schema.GOLDEN_FILE)
        exact_prior = export_exact_prior(draft, run, stage)
        exact_latents = export_exact_latents(draft, read_exact_vae(run, model), stage)
        exact_decoder = export_exact_decoder(draft, specs, stage)
        reduced = {precision: _write_variant(draft, specs, precision, answers, stage) for precision in variants}
        write_shown(draft, shown, stage)
        (stage / "recipe.toml").write_text(write_recipe(portable(recipe)), "utf-8")
        (stage / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
        described = describe(draft, specs, stage, parity, reduced, measured, exact_prior, exact_latents, exact_decoder)
        text = card(described, recipe.card.description, _trained_numbers(draft))
        (stage / "MODEL_CARD.md").write_text(text, "utf-8")
        files = described.files | {"MODEL_CARD.md": file_sha256(stage / "MODEL_CARD.md")}
        final = described.model_copy(update={"files": files})
        (stage / schema.MANIFEST_FILE).write_text(final.model_dump_json(indent=2) + "\n", "utf-8")
    return store.open(recipe.name)


def _write_full(draft: Draft, stage: Path, latest: Artifact | None) -> tuple[GraphSpec, ...]:
    """Write the graphs in full precision; those of a prior have weights of their own."""
    specs, added = graphs(draft.model, draft.geometry), draft.prior_specs()
    for part, file in ((specs, schema.WEIGHTS_FILE), (added, schema.PRIOR_WEIGHTS_FILE)):
        if part:
            write_graphs(part, stage / file)
            keep_graphs(part, stage / file, latest)
    return specs + added


def _write_variant(
    draft: Draft, full: tuple[GraphSpec, ...], precision: schema.Precision, answers: Golden, stage: Path
) -> schema.Variant:
    """Write the graphs in reduced precision, measure them and try them on the golden inputs."""
    specs = _reduced(draft, precision)
    write_graphs(specs, stage / f"weights.{precision}.data")
    written = Graphs({spec.role: spec for spec in (*full, *specs)}.values(), stage).run
    # ONNX Runtime widens what a CPU has no kernels for, and so leaves most of the rounding out.
    emulated = run_modules((*full, *_reduced(draft, precision, emulated=True)))
    parity = _parity(draft, Comparison(full, (written, emulated), precision))
    answers.check(written, precision=precision)
    return schema.Variant(graphs=described_graphs(specs, stage), parity=parity)


def _reduced(draft: Draft, precision: schema.Precision, *, emulated: bool = False) -> tuple[GraphSpec, ...]:
    """List the graphs in reduced precision."""
    specs = reduced_graphs(draft.model, draft.geometry, precision, emulated=emulated)
    if draft.prior is None:
        return specs
    strides = links.codes_of(draft.model).strides
    added = reduced_prior_graphs(draft.prior, strides, precision, any_size=draft.any_size, emulated=emulated)
    return specs + added


def _parity(draft: Draft, comparison: Comparison) -> schema.Parity:
    """Measure graphs on held-out data."""
    parity = measure_parity(draft.model, comparison, draft.images)
    if draft.prior is None:
        return parity
    measured = measure_prior_parity(comparison, draft.prior, draft.grids)
    return parity.model_copy(update={"prior": measured})


def portable(recipe: Recipe) -> Recipe:
    """Give a recipe as others can have it: of paths only their last part is kept."""
    root, start = recipe.data.root, recipe.start_from
    data = recipe.data.model_copy(update={"root": root and Path(root.resolve().name)})
    return recipe.model_copy(update={"data": data, "start_from": start and Path(start.resolve().name)})


def _trained_numbers(draft: Draft) -> int:
    """Count what the fit decided: parameters, and the codebook that averages keep."""
    modules = [draft.model] if draft.prior is None else [draft.model, draft.prior]
    trained = {id(value): value.numel() for module in modules for value in module.parameters()}
    for module in draft.model.modules():
        if isinstance(module, VectorQuantizer):
            trained[id(module.embedding)] = module.embedding.numel()
    return sum(trained.values())


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
