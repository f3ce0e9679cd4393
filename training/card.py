"""The model card: what a model is, what it was fitted on, how good it is, how to get it again."""

from artifact.manifest import Manifest, Parity


def card(manifest: Manifest, description: str, parameters: int) -> str:
    """Write a model card in Markdown.

    Args:
        manifest: of the artifact.
        description: what the recipe says of the model.
        parameters: trained numbers in it.

    Returns:
        The text.
    """
    metrics = "\n".join(f"| {name} | {value:.6g} |" for name, value in manifest.metrics.items())
    return f"""# {manifest.name}

{description}
{_warnings(manifest)}
| | |
| --- | --- |
| family | {manifest.family} |
| parameters | {parameters:,} |
| bound | {manifest.bound} |
| data | {manifest.data.name} ({manifest.data.source}; {manifest.data.licence}) |
| licence of the weights | {manifest.licence} |
| created | {manifest.created} |
| exported at commit | {manifest.git_commit or "unknown"} |
| model hash | `{manifest.model_hash}` |
{_prior_rows(manifest)}{_exact_latents_rows(manifest)}
## Metrics

{manifest.metrics_note}

| metric | value |
| --- | --- |
{metrics}

## Parity of the exported graphs

{_parity(manifest.parity)}
{_variants(manifest)}
## {_kind(manifest)}

Originals, each with its reconstruction {_beside(manifest)}:

![reconstructions](reconstructions.png)
{_samples(manifest)}
## Again

The recipe lies beside this card; its data are wherever `--data.root` says.

```
{_commands(manifest)}
```
"""


def _kind(manifest: Manifest) -> str:
    """Name what there is to be seen or heard."""
    return "Pictures" if manifest.geometry.modality == "image" else "Sounds"


def _beside(manifest: Manifest) -> str:
    """Say where a reconstruction is."""
    if manifest.geometry.modality == "image":
        return "to its right"
    return "behind it, to be heard in [reconstructions.wav](reconstructions.wav), and as spectrograms"


def _commands(manifest: Manifest) -> str:
    """Say how to get the model again."""
    prior = [f"python -m training fit-prior runs/{manifest.name}"] if manifest.prior is not None else []
    is_exact = manifest.exact_prior is not None or manifest.exact_latents is not None
    exact = [f"python -m training fit-exact runs/{manifest.name}"] if is_exact else []
    steps = (
        "make train RECIPE=recipe.toml",
        *prior,
        *exact,
        f"python -m training evaluate runs/{manifest.name}",
        f"python -m training export runs/{manifest.name}",
    )
    return "\n".join(steps)


def _warnings(manifest: Manifest) -> str:
    """Say what a user should know first."""
    return "".join(f"\n**Warning:** {warning}.\n" for warning in manifest.warnings)


def _prior_rows(manifest: Manifest) -> str:
    """Describe the prior over codes, where there is one."""
    prior = manifest.prior
    if prior is None:
        return ""
    grids = ", ".join("x".join(map(str, link.grid)) for link in prior.links)
    known = "; ".join(f"{name}: {', '.join(classes)}" for name, classes in prior.conditions.items())
    rows = (
        f"| prior over codes | grids drawn: {grids}; conditions: {known or 'none'} |",
        f"| prior hash | `{prior.prior_hash}` |",
    )
    return "".join(f"{row}\n" for row in (*rows, *_exact_prior_rows(manifest)))


def _exact_prior_rows(manifest: Manifest) -> tuple[str, ...]:
    """Describe the exact prior, where there is one."""
    prior = manifest.exact_prior
    if prior is None:
        return ()
    exact, floating = prior.exact_bits_per_token, prior.float_bits_per_token
    return (
        f"| exact prior | {exact:.4f} bits a code of the test split, in floating point {floating:.4f} "
        f"({exact / floating - 1.0:+.3%}); all {prior.parity.integers:,} integers compared with torch's are equal |",
        f"| canonical hash of the exact prior | `{prior.canonical_hash}` |",
    )


def _exact_latents_rows(manifest: Manifest) -> str:
    """Describe the exact latents, where there are some."""
    latents = manifest.exact_latents
    if latents is None:
        return ""
    exact, floating = -latents.exact_elbo_nats, -latents.float_elbo_nats
    rows = (
        f"| exact latents | {sum(latents.sizes)}; {exact:.2f} nats a held-out picture, under the model itself "
        f"{floating:.2f} ({exact / floating - 1.0:+.2%}); all {latents.parity.integers:,} integers compared with "
        "torch's are equal |",
        f"| canonical hash of the exact latents | `{latents.canonical_hash}` |",
    )
    return "".join(f"{row}\n" for row in rows)


def _parity(parity: Parity) -> str:
    """Say how far the graphs are from the model."""
    lines = [
        f"On {parity.examples} held-out examples: tensors within {parity.tensor_error:.2e} (absolute and relative "
        f"together), bounds within {parity.bound_error_nats_per_dim:.2e} nats a dimension of the model that they were "
        "exported from."
    ]
    if parity.codes is not None:
        lines.append(
            f"Of {parity.codes.compared:,} codes {parity.codes.differing} differ; {parity.codes.near_ties} are "
            "near-ties (their two nearest code vectors within 1e-4 of each other, relatively), and no other may differ."
        )
    if parity.prior is not None:
        lines.append(
            f"The prior, on {parity.prior.examples} held-out grids: logits within {parity.prior.logits_error:.2e}; its "
            f"steps within {parity.prior.incremental_error:.2e} of its parallel pass. Of {parity.prior.drawn:,} "
            f"codes that they drew, the parallel pass draws {parity.prior.differing} otherwise from the same noise."
        )
    return "\n".join(lines)


def _variants(manifest: Manifest) -> str:
    """Say how far each variant is from the model."""
    return "".join(f"\n{_variant(name, variant.parity)}\n" for name, variant in manifest.variants.items())


def _variant(name: str, parity: Parity) -> str:
    """Say it of one."""
    told = [
        f"Variant `{name}`, the worse of ONNX Runtime on the CPU and of torch with every layer's output rounded: "
        f"tensors within {parity.tensor_error:.2e} of their largest value, bounds within "
        f"{parity.bound_error_nats_per_dim:.2e} nats a dimension"
    ]
    if parity.codes is not None:
        told.append(f"{parity.codes.differing:,} of {parity.codes.compared:,} codes differ")
    if parity.prior is not None:
        told.append(
            f"the prior's logits within {parity.prior.logits_error:.2e}, its steps within "
            f"{parity.prior.incremental_error:.2e} of its parallel pass, which draws {parity.prior.differing} of "
            f"{parity.prior.drawn:,} codes otherwise"
        )
    return "; ".join(told) + "."


def _samples(manifest: Manifest) -> str:
    """Show samples, where the model can draw them."""
    if "sample" not in manifest.capabilities:
        return ""
    order = "; a row a class, in the order above" if manifest.prior is not None and manifest.prior.classes else ""
    if manifest.geometry.modality == "audio":
        order = ", the classes in the order above, to be heard in [samples.wav](samples.wav)"
    return f"\nMeans of samples from the prior, not chosen{order}:\n\n![samples](samples.png)\n"
