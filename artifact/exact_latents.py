"""What a manifest says of an exact VAE: latents on a grid, under which black and white pictures are archived."""

from typing import Final

from pydantic import Field, model_validator

from artifact.exact import ExactParity, ExactPart
from artifact.graph import FileName

ENCODE, INFER, DECODE = "encode_exact", "infer_exact", "decode_exact"
"""Roles: `x -> features_*`, what the posterior of each level sees; `z, features_* -> mean, scale`, without z where
there is one level; `z -> logits`."""

LATENTS_GOLDEN_FILE: Final = "latents_exact.npz"
LATENTS_WEIGHTS_FILE: Final = "latents_exact.data"


class ExactLatents(ExactPart):
    """A VAE of black and white pictures in exact integers; docs/format.md says how pictures are coded under it.

    Attributes:
        sizes: how many latents each level has, top first; z holds them side by side.
        float_elbo_nats: mean ELBO of held-out pictures under the model that it was made of.
        exact_elbo_nats: likewise under this one, by the integer frequencies that pictures are coded under.
        parity: what was compared before publication; its grids are pictures.
    """

    golden: FileName = LATENTS_GOLDEN_FILE
    sizes: tuple[int, ...] = Field(min_length=1)
    float_elbo_nats: float
    exact_elbo_nats: float
    parity: ExactParity

    @model_validator(mode="after")
    def _has_its_graphs(self) -> "ExactLatents":
        if missing := {ENCODE, INFER, DECODE} - self.graphs.keys():
            raise ValueError(f"the exact latents lack the graphs {sorted(missing)}")
        return self

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of what the posteriors see: features of the picture, top first, behind z where there are levels."""
        return tuple(tensor.name for tensor in self.graphs[INFER].inputs)
