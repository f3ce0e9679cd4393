"""The manifest of what is exported."""

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from artifact import manifest as schema
from artifact.noise import POSTERIOR_STREAM, PRIOR_STREAM
from artifact.store import file_sha256
from models.autoregressive import AutoregressiveModel, AutoregressivePictures
from models.bottleneck import DiscreteBottleneck
from models.continuous import ContinuousBottleneck
from models.receptive_field import halos
from training import codes
from training.draft import Draft
from training.errors import ExportError
from training.evaluation.collapse import kl_per_dimension
from training.graphs import prior as prior_graphs
from training.graphs.discrete import level_downsampling
from training.graphs.spec import GraphSpec
from training.graphs.write import OPSET
from training.posterior_collapse import collapse_warnings

_NOISE_STREAMS = {"draw": POSTERIOR_STREAM, "log_weight": POSTERIOR_STREAM, "draw_prior": PRIOR_STREAM}
"""The noise stream of each graph that takes noise; `draw` gives the very samples that `log_weight` weighs."""

_OF_DENSITY = (
    "its log p is a density over real-valued grey levels, not a probability of pixels: it is no code length, has no "
    "bits per dimension, and compares with other densities over grey levels of the same pictures alone"
)


def describe(
    draft: Draft,
    specs: tuple[GraphSpec, ...],
    stage: Path,
    parity: schema.Parity,
    variants: Mapping[schema.Precision, schema.Variant],
    measured: dict[str, Any],
    exact_prior: schema.ExactPrior | None = None,
    exact_latents: schema.ExactLatents | None = None,
    exact_decoder: schema.ExactDecoder | None = None,
) -> schema.Manifest:
    """Describe what lies in the stage.

    Args:
        draft: what is exported.
        specs: its graphs in full precision.
        stage: the folder of all files but the card and the manifest.
        parity: of those graphs.
        variants: in reduced precision.
        measured: what `evaluate` stored.
        exact_prior: the prior in exact integers, where there is one.
        exact_latents: a VAE in exact integers, likewise.
        exact_decoder: a decoder of codes in exact integers, likewise.

    Returns:
        The manifest, without the card's hash.
    """
    recipe, splits = draft.recipe, draft.splits
    roles = described_graphs(specs, stage)
    exact = (part.graphs for part in (exact_prior, exact_latents, exact_decoder) if part is not None)
    described = (roles, *exact, *(one.graphs for one in variants.values()))
    graph_files = {graph.file for part in described for graph in part.values()}
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
        exact_prior=exact_prior,
        exact_latents=exact_latents,
        exact_decoder=exact_decoder,
        noise=tuple(
            schema.NoiseInput(graph=role, tensor="noise", distribution="standard_normal", stream=stream)
            for role, stream in _NOISE_STREAMS.items()
            if role in roles
        ),
        decoder="autoregressive" if isinstance(draft.model, AutoregressiveModel) else "parallel",
        capabilities=_capabilities(draft),
        bound=_bound(draft, roles),
        parity=parity,
        metrics=measured["metrics"],
        metrics_note=measured["note"],
        data=schema.Data(name=splits.name, source=splits.source, licence=splits.licence),
        licence=recipe.card.licence,
        git_commit=_git_commit(),
        model_hash=schema.model_hash(roles, files),
    )


def described_graphs(specs: tuple[GraphSpec, ...], stage: Path, opset: int = OPSET) -> dict[str, schema.Graph]:
    """Describe written graphs.

    Args:
        specs: the graphs.
        stage: the folder that they lie in.
        opset: that they were written in.

    Returns:
        What the manifest says of each, by role.
    """
    return {
        spec.role: schema.Graph(
            file=spec.file,
            sha256=file_sha256(stage / spec.file),
            opset=opset,
            inputs=spec.inputs,
            outputs=spec.outputs,
        )
        for spec in specs
    }


def _levels(draft: Draft) -> tuple[schema.Level, ...]:
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
    if isinstance(bottleneck, ContinuousBottleneck):
        return (schema.ContinuousLevel(dimensions=bottleneck.dimensions),)
    raise ExportError(f"the manifest has no level for a {type(bottleneck).__name__}")


def _windows(draft: Draft) -> schema.Windows | None:
    """Say how far a place of a model of data of any size reaches."""
    bottleneck = draft.model.bottleneck
    if not draft.any_size or not isinstance(bottleneck, DiscreteBottleneck):
        return None
    channels = getattr(draft.geometry, "channels", 1)
    cell = draft.geometry.multiple_of
    found = halos(draft.model, bottleneck, channels, cell)
    # A sample also depends on samples before it, which a piece must have as well.
    reach = -(-draft.model.decoder.reach // cell) if isinstance(draft.model, AutoregressiveModel) else 0
    return schema.Windows(encode_halo=found.encode, decode_halo=found.decode + reach)


def _warnings(draft: Draft) -> tuple[str, ...]:
    """Say what a user should know: whether codebooks or posteriors have collapsed, on held-out data."""
    bottleneck = draft.model.bottleneck
    if isinstance(bottleneck, DiscreteBottleneck):
        return codes.collapse_warnings(bottleneck, [codes.encode(draft.model, draft.images[0])])
    if not bottleneck.bounds_log_p:
        return ()
    density = (_OF_DENSITY,) if draft.model.likelihood.is_density else ()
    return density + collapse_warnings(kl_per_dimension(draft.model, draft.images[0]).tolist())


def _bound(draft: Draft, roles: Mapping[str, schema.Graph]) -> Literal["exact", "elbo"] | None:
    """Say what is known of log p(x)."""
    if not draft.model.bottleneck.bounds_log_p:
        return None
    return "exact" if "exact" in roles else "elbo"


def _code_prior(draft: Draft, roles: dict[str, schema.Graph], files: dict[str, str]) -> schema.CodePrior | None:
    """Describe the learned prior, where there is one."""
    if draft.prior is None:
        return None
    return schema.CodePrior(
        links=prior_graphs.links(draft.prior, any_size=draft.any_size),
        conditions={name: draft.splits.conditions[name] for name in draft.prior.conditions},
        prior_hash=schema.prior_hash(roles, files),
    )


def _capabilities(draft: Draft) -> tuple[schema.Capability, ...]:
    """Say what the model can answer: it samples where it has a prior, and compresses where it has codes.

    A picture that is drawn pixel by pixel can be encoded and weighed alone, since there is no graph that decodes.
    """
    bottleneck = draft.model.bottleneck
    discrete = isinstance(bottleneck, DiscreteBottleneck)
    has_prior = draft.prior is not None if discrete else bottleneck.bounds_log_p
    samples: tuple[schema.Capability, ...] = ("sample",) if has_prior else ()
    bounds: tuple[schema.Capability, ...] = ("likelihood",) if bottleneck.bounds_log_p else ()
    packs: tuple[schema.Capability, ...] = ("compress", "decompress") if discrete else ()
    if isinstance(draft.model, AutoregressivePictures):
        return ("encode", *bounds)
    return ("encode", "decode", "reconstruct", *samples, *bounds, *packs)


def _git_commit() -> str | None:
    """Name the checked-out commit; None outside a checkout or without git."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
