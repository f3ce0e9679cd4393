"""The alarm for posteriors that collapse onto the prior: z then says nothing of x, and the decoder models x alone."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

UNUSED_NATS = 0.01
"""Mean KL below which a dimension counts as unused."""
COLLAPSED_NATS = 0.1
"""Mean KL of all dimensions together below which a posterior counts as collapsed."""
UNUSED_SHARE = 0.5
"""Share of unused dimensions from which on it is worth a word: some are unused in most models that are well."""

_REMEDY = (
    "fit again with objective.annealing (kind 'linear' or 'cyclical'), objective.free_bits above 0, "
    "objective.rate_weight below 1, a weaker decoder, or family 'delta-vae', whose KL has a floor"
)

_KEPT = 0.98
"""Of the mean over batches at each new one."""


class RateWatch:
    """The mean rate of each dimension over the last batches of a fit."""

    def __init__(self) -> None:
        self._mean: Tensor | None = None

    @torch.no_grad()
    def add(self, kl: Float[Tensor, "B D"]) -> None:
        """Add a batch.

        Args:
            kl: KL(q || p) of each dimension, nats.
        """
        batch = kl.double().mean(0)
        self._mean = batch if self._mean is None else batch.lerp(self._mean, _KEPT)

    def warnings(self) -> tuple[str, ...]:
        """Say what has collapsed."""
        return () if self._mean is None else collapse_warnings(self._mean.tolist())


def collapse_warnings(kl_per_dimension: Sequence[float]) -> tuple[str, ...]:
    """Warn of a posterior that is too close to the prior.

    Args:
        kl_per_dimension: mean KL(q || p) of each dimension, or of each group of them that has one of its own, nats.

    Returns:
        What is wrong and what to do; none where it is well.
    """
    total, count = float(sum(kl_per_dimension)), len(kl_per_dimension)
    if total < COLLAPSED_NATS:
        return (
            f"posterior collapsed: mean KL {total:.3g} nats (at least {COLLAPSED_NATS} is expected), so that z says "
            f"nothing of x; {_REMEDY}",
        )
    unused = sum(float(kl) < UNUSED_NATS for kl in kl_per_dimension)
    if count > 1 and unused >= UNUSED_SHARE * count:
        return (
            f"{unused} of {count} dimensions carry less than {UNUSED_NATS} nats each, so that {count - unused} would "
            f"do as well; choose a smaller model.latent (in a hierarchy, fewer latents in model.levels), or {_REMEDY}",
        )
    return ()
