"""A hierarchy of real-valued latents: up from x for features, down from the top for latents (Soenderby et al. 2016)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from models.bottleneck import Encoding, Latent, Level
from models.bound import Bound
from models.code_priors import Conditions
from models.continuous import ContinuousBottleneck
from models.distributions import DiagonalGaussian, standard_normal_log_prob
from models.likelihoods import Params
from models.model import LatentVariableModel, Pass
from models.posteriors import Quantity

_LIMIT = 10.0
"""Log-variances stay within +- this, where exp is far from overflow."""


def _gaussian(moments: Float[Tensor, "N C *grid"]) -> DiagonalGaussian:
    """Read means and log-variances, one half of the channels each, as a normal over the flat latents of a level."""
    mean, log_variance = moments.float().chunk(2, dim=1)
    return DiagonalGaussian(mean.flatten(1), log_variance.flatten(1).clamp(-_LIMIT, _LIMIT))


class GridLevel(nn.Module):
    """One level below the top: a grid of latents w = m(h) + s(h) z, where h is what the levels above have made.

    p(w | above) = N(m(h), s(h)^2) and q(w | above, x) = N(m + s a, (s b)^2), with a and b from h and the features of x
    (relative to the prior, as Vahdat & Kautz 2020, section 3.2). In the prior's own units, z = (w - m) / s, these are
    N(0, I) and N(a, b^2): log q - log p is the same number, as the Jacobians cancel. So z is what the model shows of w.

    Args:
        shape: C, H, W of the latents.
        channels: of h.
        features: channels of what this level sees of x.
        arrive: from the state of the level above to h.
    """

    def __init__(self, shape: tuple[int, int, int], channels: int, features: int, arrive: nn.Module) -> None:
        super().__init__()
        self.shape, self.arrive = shape, arrive
        self.prior = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, 2 * shape[0], 1))
        self.look = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, features, 1))
        self.posterior = nn.Sequential(nn.ReLU(), nn.Conv2d(features, 2 * shape[0], 3, padding=1))
        self.merge = nn.Conv2d(shape[0], channels, 1)
        for last in (self.prior[-1], self.posterior[-1]):
            nn.init.zeros_(cast("nn.Conv2d", last).weight)

    def inferred(self, h: Float[Tensor, "N C H W"], features: Float[Tensor, "N F H W"]) -> DiagonalGaussian:
        """Give q(z | above, x), z in the prior's units."""
        return _gaussian(self.posterior(self.look(h) + features))

    def state(self, h: Float[Tensor, "N C H W"], z: Float[Tensor, "N D"]) -> Float[Tensor, "N C H W"]:
        """Join the latents to what the levels above have made."""
        prior = _gaussian(self.prior(h))
        w = prior.rsample(z.unsqueeze(1)).reshape(-1, *self.shape)
        state: Tensor = h + self.merge(w)
        return state


@dataclass(frozen=True)
class PathLevel(Level):
    """All levels together, with what they have made.

    Attributes:
        state: the map that the decoder reads.
    """

    state: Float[Tensor, "N C H W"]


class TopDownBottleneck(ContinuousBottleneck):
    """Levels of normal latents side by side in one z, each inferred given those above (Kingma et al. 2016; Child 2021).

    z is in the units of each level's prior given those above (see `GridLevel`), hence p(z) = N(0, I), and a draw of z
    times a temperature is an ancestral draw with that temperature at each level.

    The rate of each dimension is KL(q(z_l | z_<l, x) || p) in closed form given the sampled levels above: the mean over
    z_<l is an estimate without bias, with less variance than log q - log p, and so no closed form of the whole rate.

    Args:
        dimensions: of the top, a vector with prior N(0, I).
        start: from the top's z to the first state.
        levels: those below, top first.
        features: of each level, the top's first: from its map on the way up to what its posterior sees of x; of the
            top, these are the moments.
        inward: from the map of each level to that of the next coarser, the top's first.
        grid_features: channels of what a level below the top sees.
    """

    def __init__(
        self,
        dimensions: int,
        start: nn.Module,
        levels: Sequence[GridLevel],
        features: Sequence[nn.Module],
        inward: Sequence[nn.Module],
        grid_features: int,
    ) -> None:
        super().__init__()
        self.start, self.levels = start, nn.ModuleList(levels)
        self.features, self.inward = nn.ModuleList(features), nn.ModuleList(inward)
        self.sizes = [dimensions, *(prod(level.shape) for level in levels)]
        self.dimensions = self.noise_dimensions = self.prior_noise_dimensions = sum(self.sizes)
        self._features = (
            Quantity("features_0", (2 * dimensions,), "hidden"),
            *(
                Quantity(f"features_{index}", (grid_features, *level.shape[1:]), "hidden")
                for index, level in enumerate(levels, 1)
            ),
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The path of posterior means, and what the posteriors see of x."""
        return Quantity("z", (self.dimensions,), "latent"), *self._features

    @property
    def drawn_from(self) -> tuple[str, ...]:
        """What the posteriors see."""
        return tuple(quantity.name for quantity in self._features)

    @property
    def prior_is_standard_normal(self) -> bool:
        """It is, in the units of z."""
        return True

    def sample(self, noise: Float[Tensor, "B N"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Give the noise itself, times the temperature."""
        return temperature.unsqueeze(1) * noise

    def encoding(self, h: Float[Tensor, "B C H W"]) -> Encoding:
        """Give the path of posterior means, and the features."""
        features = self._seen(h)
        means = self._path(features, h.new_zeros(h.shape[0], 1, self.dimensions, dtype=torch.float32))
        return {"z": means.z.squeeze(1), **features}

    def draw(self, encoding: Encoding, noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z level by level."""
        return (self._path(encoding, noise),)

    def forward(self, h: Float[Tensor, "B C H W"], noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z given the encoder's output; see `Bottleneck.forward`."""
        return (self._path(self._seen(h), noise),)

    def state(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N C H W"]:
        """Give the map that all levels make together, which the decoder reads."""
        top, *below = torch.split(z, self.sizes, 1)
        state: Tensor = self.start(top)
        for level, part in zip(self._grids, below, strict=True):
            state = level.state(level.arrive(state), part)
        return state

    @property
    def _grids(self) -> tuple[GridLevel, ...]:
        """The levels below the top."""
        return tuple(cast("GridLevel", level) for level in self.levels)

    def _seen(self, h: Float[Tensor, "B C H W"]) -> Encoding:
        """Go up from the finest map for the features of every level."""
        maps = [h]
        for inward in reversed(self.inward):
            maps.insert(0, inward(maps[0]))
        found = zip(self._features, self.features, (maps[0], *maps), strict=True)
        return {quantity.name: network(one).float() for quantity, network, one in found}

    def _path(self, encoding: Encoding, noise: Float[Tensor, "B S D"]) -> PathLevel:
        """Go down from the top, and draw each level given those above."""
        batch, samples, _ = noise.shape
        top, *seen = (
            encoding[quantity.name].unsqueeze(1).expand(-1, samples, *quantity.shape).reshape(-1, *quantity.shape)
            for quantity in self._features
        )
        first, *below = torch.split(noise.reshape(-1, 1, self.dimensions), self.sizes, 2)
        posteriors = [_gaussian(top)]
        state: Tensor = self.start(posteriors[0].rsample(first).squeeze(1))
        for level, features, part in zip(self._grids, seen, below, strict=True):
            h = level.arrive(state)
            posteriors.append(level.inferred(h, features))
            state = level.state(h, posteriors[-1].rsample(part).squeeze(1))
        joint = DiagonalGaussian(
            torch.cat([one.mean for one in posteriors], 1), torch.cat([one.log_variance for one in posteriors], 1)
        )
        z, log_q = joint.draw(noise.reshape(-1, 1, self.dimensions))
        z = z.reshape(batch, samples, self.dimensions)
        return PathLevel(
            z=z,
            codes=None,
            log_q=log_q.reshape(batch, samples),
            log_p=standard_normal_log_prob(z),
            kl=joint.kl_from_standard_normal().reshape(batch, samples, self.dimensions).mean(1),
            penalty=None,
            state=state,
        )


class TopDownModel(LatentVariableModel):
    """A model whose decoder reads what the levels have made on the way down, so that no way is gone twice."""

    bottleneck: TopDownBottleneck

    def decode(self, z: Float[Tensor, "*batch D"], conditions: Conditions | None = None) -> Params:
        """Give the likelihood's parameters for z; see `LatentVariableModel.decode`."""
        del conditions
        return self._shown(self.bottleneck.state(z.flatten(0, -2)), self.batch_shape(z))

    def weigh(self, x: Shaped[Tensor, "B *data"], latent: Latent, conditions: Conditions | None = None) -> Pass:
        """Weigh what was drawn."""
        del conditions
        (level,) = cast("tuple[PathLevel]", latent)
        params = self._shown(level.state, level.z.shape[:2])
        log_p_x_given_z = self.likelihood.log_prob(x.unsqueeze(1), params)
        return Pass(latent, params, Bound(log_p_x_given_z, level.log_p, level.log_q, level.kl))

    def _shown(self, state: Float[Tensor, "N C H W"], batch: torch.Size) -> Params:
        """Give the parameters that the decoder makes of a state."""
        params = self.likelihood.params(self.decoder(state))
        return {name: value.reshape(*batch, *value.shape[1:]) for name, value in params.items()}
