"""The model card: what a model is, what it was fitted on, how good it is, how to get it again."""

from artifact.manifest import Manifest


def card(manifest: Manifest, description: str, parameters: int, command: str) -> str:
    """Write a model card in Markdown.

    Args:
        manifest: of the artifact.
        description: what the recipe says of the model.
        parameters: trained numbers in it.
        command: how to fit it again.

    Returns:
        The text.
    """
    metrics = "\n".join(f"| {name} | {value:.6g} |" for name, value in manifest.metrics.items())
    parity = manifest.parity
    return f"""# {manifest.name}

{description}

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

## Metrics

{manifest.metrics_note}

| metric | value |
| --- | --- |
{metrics}

## Parity of the exported graphs

On {parity.examples} held-out examples: tensors within {parity.tensor_error:.2e} (absolute and relative together),
bounds within {parity.bound_error_nats_per_dim:.2e} nats a dimension of the model that they were exported from.

## Pictures

Originals, each with its reconstruction through the posterior mean to its right:

![reconstructions](reconstructions.png)

Means of samples from the prior, not chosen:

![samples](samples.png)

## Again

```
{command}
```
"""
