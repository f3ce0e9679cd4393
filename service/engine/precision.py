"""In which precision a model runs: in full, or by a variant of its graphs."""

from artifact.manifest import Manifest
from artifact.manifest import Precision as Variant
from service.engine.devices import Provider
from service.settings import Precision


def choose_variant(manifest: Manifest, wish: Precision, provider: Provider) -> Variant | None:
    """Choose the graphs of a model; `Manifest.graphs_in` and `Artifact.file` then find them.

    Args:
        manifest: the model's.
        wish: of the settings.
        provider: what the graphs run on.

    Returns:
        The variant; None for the full graphs.

    Raises:
        UnknownVariantError: a variant is demanded that the model does not have.
    """
    if wish == "fp32":
        return None
    if wish == "auto":
        # A CPU computes fp16 by way of fp32, which takes longer and gains nothing.
        return "fp16" if provider != "cpu" and "fp16" in manifest.variants else None
    manifest.graphs_in(wish)
    return wish
