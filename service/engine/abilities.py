"""What a model can do: what its manifest says, and what follows from that for latents that lie in a space."""

from typing import Literal, get_args

from artifact.manifest import Capability, ContinuousLevel, Manifest

Tool = Literal["interpolate", "traverse", "vary"]
"""What moves about in the space of real-valued latents and shows where it comes to."""
Ability = Capability | Tool


def can(manifest: Manifest, ability: Ability) -> bool:
    """Tell whether a model can do something.

    Args:
        manifest: the model's.
        ability: what.
    """
    if ability in get_args(Tool):
        return _is_continuous(manifest) and "decode" in manifest.capabilities
    if ability in ("compress", "decompress") and manifest.exact_latents is not None:
        return True
    return ability in manifest.capabilities


def why_not(manifest: Manifest, ability: Ability) -> str | None:
    """Say why a model cannot do something; None where that is no matter of its kind.

    Args:
        manifest: the model's.
        ability: which it lacks.
    """
    if not _is_continuous(manifest):
        if ability in get_args(Tool):
            return "its latents are integer codes, between which there is nothing"
        return "it has no learned prior over its codes" if ability == "sample" and manifest.prior is None else None
    if ability in ("compress", "decompress"):
        return "its latents are real numbers, not codes"
    if ability in ("sample", "likelihood") and manifest.bound is None:
        return "it has no prior over its latents, and so no bound on log p(x)"
    if "decode" not in manifest.graphs and ability != "encode":
        return "its decoder makes a picture value by value, each from those before it"
    return None


def _is_continuous(manifest: Manifest) -> bool:
    return isinstance(manifest.latent[0], ContinuousLevel)
