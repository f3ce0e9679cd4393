"""An exact VAE: levels of latents on a grid, of which a coder needs no number that two machines could disagree on."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from models.continuous import VectorBottleneck
from models.exact.arithmetic import LOGIT_BITS, NARROW_LIMIT, added
from models.exact.canonical import Canonical, network_form
from models.exact.entries import Given
from models.exact.vae_latents import LATENT_BITS, Scales, drawn, kl_nats, mean_integer, scale_index, scale_table
from models.exact.vae_networks import exact_network
from models.likelihoods import Bernoulli
from models.model import LatentVariableModel
from models.posteriors.diagonal import DiagonalGaussianPosterior
from models.priors import StandardNormal
from models.top_down import GridLevel, TopDownBottleneck

Features = tuple[Tensor, ...]
"""What the posterior of each level sees of x, top first: wide integers, of the top its moments `[B, 2 D]`."""


class UnsupportedModelError(TypeError):
    """A model has no exact counterpart."""


@dataclass(frozen=True)
class Moments:
    """A posterior, or several side by side.

    Attributes:
        mean: integers in units of 2^-10.
        scale: indices of sigma, see `models.exact.vae_latents`.
    """

    mean: Float[Tensor, "B D"]
    scale: Float[Tensor, "B D"]

    @classmethod
    def of(cls, moments: Float[Tensor, "B *places C"]) -> "Moments":
        """Read wide means and log-variances, one half of the last axis each."""
        mean, log_variance = moments.chunk(2, dim=-1)
        return cls(mean_integer(mean).flatten(1), scale_index(log_variance).flatten(1))


@dataclass(frozen=True)
class Drawn:
    """What one way through the model gives in a fit.

    Attributes:
        logits: of white pixels, in units of 2^-8 nats.
        kl_nats: of each latent that is kept, given those of the levels above.
    """

    logits: Float[Tensor, "B H W C"]
    kl_nats: Float[Tensor, "B D"]


class ExactLevel(nn.Module):
    """A level below the top, as `models.top_down.GridLevel`: w = m + s z, channels last.

    Args:
        level: the floating-point one.
        scales: the table of s.
    """

    def __init__(self, level: GridLevel, scales: Scales) -> None:
        super().__init__()
        channels, height, width = level.shape
        self.shape, self.scales = (height, width, channels), scales
        self.arrive, self.prior = exact_network(level.arrive), exact_network(level.prior)
        self.look, self.posterior = exact_network(level.look), exact_network(level.posterior)
        self.merge = exact_network(level.merge)

    def inferred(self, h: Float[Tensor, "B H W C"], features: Float[Tensor, "B H W F"]) -> Moments:
        """Give q(z given those above, x), z in the prior's units."""
        return Moments.of(self.posterior(added(self.look(h), features)))

    def state(self, h: Float[Tensor, "B H W C"], z: Float[Tensor, "B D"]) -> Float[Tensor, "B H W C"]:
        """Join latents, as narrow integers, to what the levels above have made."""
        return added(h, self.merge(self.scales(self.prior(h), z.reshape(-1, *self.shape))))


class ExactVAE(nn.Module):
    """A VAE of black and white pictures in integers: `encode`, `infer` and `decode` are what its graphs compute.

    The latents of all levels stand side by side in one z, those of a grid in the order of its rows, columns, channels.
    Latents that say nothing of pictures can be left out (`keep`): they are then 0, and nowhere coded.

    Attributes:
        kept: 1 for each latent that is kept, 0 for others.

    Args:
        model: a fitted VAE with a Bernoulli likelihood and normal latents, of one level or several.

    Raises:
        UnsupportedModelError: it has another likelihood, posterior or prior.
        TypeError: it has a layer without an exact counterpart.
    """

    one: Tensor
    kept: Tensor

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        bottleneck = model.bottleneck
        _check(model)
        self.register_buffer("one", torch.ones(()), persistent=False)
        self.encoder = exact_network(model.encoder, Given(1.0))
        latents = Given(2.0**-LATENT_BITS)
        if isinstance(bottleneck, TopDownBottleneck):
            self.features = nn.ModuleList(exact_network(one) for one in bottleneck.features)
            self.inward = nn.ModuleList(exact_network(one) for one in bottleneck.inward)
            self.start = exact_network(bottleneck.start, latents)
            scales = Scales()
            levels = [ExactLevel(cast("GridLevel", one), scales) for one in bottleneck.levels]
            self.levels = nn.ModuleList(levels)
            self._sizes = [bottleneck.sizes[0], *(prod(level.shape) for level in levels)]
            self.decoder = exact_network(model.decoder, bits=LOGIT_BITS)
        else:
            self.features, self.inward, self.start = nn.ModuleList([nn.Sequential()]), nn.ModuleList(), nn.Sequential()
            self.levels = nn.ModuleList()
            self._sizes = [cast("VectorBottleneck", bottleneck).dimensions]
            self.decoder = exact_network(model.decoder, latents, bits=LOGIT_BITS)
        self.register_buffer("kept", torch.ones(sum(self._sizes)))
        self.keep(self.kept)

    def keep(self, kept: Float[Tensor, " all"]) -> None:
        """Leave latents out.

        Args:
            kept: 1 for each latent that is kept, at least one, 0 for others.
        """
        self.kept.copy_(kept)
        self._used = kept.nonzero().squeeze(1)
        # Where each latent stands in a z that has a 0 behind its end, which is for those that are left out.
        self._places = torch.where(kept > 0, kept.cumsum(0) - 1, kept.sum()).long()

    @property
    def dimensions(self) -> int:
        """D of z, of the latents that are kept."""
        return len(self._used)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many latents are kept of each level, top first."""
        return tuple(int(part.sum()) for part in torch.split(self.kept, self._sizes))

    def encode(self, x: Shaped[Tensor, "B H W C"]) -> Features:
        """Go up from pixels.

        Args:
            x: 0 and 255.

        Returns:
            What each level's posterior sees.
        """
        maps = [self.encoder(x.to(self.one.dtype).clamp(0, 1) * 2 - 1)]
        for inward in reversed(self.inward):
            maps.insert(0, inward(maps[0]))
        return tuple(network(one) for network, one in zip(self.features, (maps[0], *maps), strict=False))

    def infer(self, z: Shaped[Tensor, "B D"], features: Features) -> Moments:
        """Give the posterior of every level given the z of those above: of the top whatever z is.

        Args:
            z: integers j; those of levels that are not known yet do not matter to the levels above them.
            features: as `encode` gives them.

        Returns:
            The posteriors side by side.
        """
        given = iter(self._spread(z.to(self.one.dtype)))
        found: list[Moments] = []

        def choose(moments: Moments) -> Tensor:
            found.append(moments)
            return next(given)

        self._descend(features, choose)
        mean, scale = torch.cat([one.mean for one in found], 1), torch.cat([one.scale for one in found], 1)
        return Moments(mean[:, self._used], scale[:, self._used])

    def decode(self, z: Shaped[Tensor, "B D"]) -> Float[Tensor, "B H W C"]:
        """Give the logits of white pixels, integers in units of 2^-8 nats.

        Args:
            z: integers j.
        """
        top, *below = self._spread(_narrow(z.to(self.one.dtype)))
        state: Tensor = self.start(top)
        for level, part in zip(self._grids, below, strict=True):
            state = level.state(level.arrive(state), part)
        logits: Tensor = self.decoder(state)
        return logits

    def forward(self, x: Shaped[Tensor, "B H W C"], noise: Float[Tensor, "B D"]) -> Drawn:
        """Draw z and decode it, with straight-through gradients.

        Args:
            x: 0 and 255.
            noise: standard normal.
        """
        parts, kept = iter(self._spread(noise)), iter(torch.split(self.kept, self._sizes))
        found: list[Moments] = []

        def choose(moments: Moments) -> Tensor:
            found.append(moments)
            return drawn(moments.mean, moments.scale, next(parts)) * next(kept)

        state = self._descend(self.encode(x), choose)
        kl = torch.cat([kl_nats(one.mean, one.scale) for one in found], 1)
        return Drawn(self.decoder(state), kl[:, self._used])

    def _spread(self, z: Float[Tensor, "B D"]) -> tuple[Tensor, ...]:
        """Give the latents of each level, with 0 for those that are left out."""
        return torch.split(functional.pad(z, (0, 1))[:, self._places], self._sizes, 1)

    def canonical(self) -> Canonical:
        """Give all that decides what it computes, as JSON: see `models.exact.canonical`.

        Layers are named by where they stand. A level's w is clip(m + ((s j + 2^5) >> 6)), with s the entry of `scales`
        at the index of its log-variance v, clip(((v + 2^6) >> 7) + 80, 0, 95).
        """
        latents = {"sizes": self._sizes, "kept": self._used.tolist(), "scales": list(scale_table())}
        return {"kind": "vae"} | latents | network_form(self)

    def _descend(self, features: Features, choose: Callable[[Moments], Tensor]) -> Float[Tensor, "B ..."]:
        """Go down from the top, where `choose` says what each level's latents are, and give the last state."""
        top, *seen = features
        state: Tensor = self.start(_narrow(choose(Moments.of(top))))
        for level, part in zip(self._grids, seen, strict=True):
            h = level.arrive(state)
            state = level.state(h, _narrow(choose(level.inferred(h, part))))
        return state

    @property
    def _grids(self) -> tuple[ExactLevel, ...]:
        """The levels below the top."""
        return tuple(cast("ExactLevel", level) for level in self.levels)


def _narrow(z: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Clip latents to what is multiplied."""
    return z.clamp(-NARROW_LIMIT, NARROW_LIMIT)


def _check(model: LatentVariableModel) -> None:
    """Refuse a model whose likelihood or latents have no integer tables."""
    bottleneck = model.bottleneck
    flat = (
        isinstance(bottleneck, VectorBottleneck)
        and isinstance(bottleneck.posterior, DiagonalGaussianPosterior)
        and isinstance(bottleneck.prior, StandardNormal)
    )
    if not isinstance(model.likelihood, Bernoulli) or not (flat or isinstance(bottleneck, TopDownBottleneck)):
        raise UnsupportedModelError(
            "an exact VAE needs a Bernoulli likelihood and normal latents, independent given x and the levels above, "
            "with the prior N(0, I); fit such a model"
        )
