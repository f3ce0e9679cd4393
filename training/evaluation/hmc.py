"""Hamiltonian Monte Carlo on densities that lead from an easy one to a hard one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor


@dataclass(frozen=True)
class Place:
    """Points z, and what is known there of the path of densities log f_b(z) = log_start(z) + b log_ratio(z).

    Attributes:
        z: the points.
        log_start: log f_0, nats.
        log_ratio: log f_1 - log f_0, nats.
        start_gradient: of log_start by z.
        ratio_gradient: of log_ratio by z.
    """

    z: Float[Tensor, "B S D"]
    log_start: Float64[Tensor, "B S"]
    log_ratio: Float64[Tensor, "B S"]
    start_gradient: Float[Tensor, "B S D"]
    ratio_gradient: Float[Tensor, "B S D"]

    def log_density(self, beta: float) -> Float64[Tensor, "B S"]:
        """Give log f_b, not normalised."""
        return self.log_start + beta * self.log_ratio

    def gradient(self, beta: float) -> Float[Tensor, "B S D"]:
        """Give its gradient by z."""
        return self.start_gradient + beta * self.ratio_gradient

    def where(self, accepted: Tensor, other: "Place") -> "Place":
        """Take these points where they are accepted, the others elsewhere."""
        whole = accepted.unsqueeze(-1)
        return Place(
            torch.where(whole, self.z, other.z),
            torch.where(accepted, self.log_start, other.log_start),
            torch.where(accepted, self.log_ratio, other.log_ratio),
            torch.where(whole, self.start_gradient, other.start_gradient),
            torch.where(whole, self.ratio_gradient, other.ratio_gradient),
        )


Path = Callable[[Float[Tensor, "B S D"]], Place]
"""Look at points."""


class Noise(NamedTuple):
    """What is random in a transition.

    Attributes:
        momentum: standard normal.
        log_uniform: logarithms of uniform numbers in (0, 1).
    """

    momentum: Float[Tensor, "B S D"]
    log_uniform: Float64[Tensor, "B S"]


class Transition(NamedTuple):
    """Where a transition ended.

    Attributes:
        place: the points.
        acceptance: the probability with which each proposal was accepted.
    """

    place: Place
    acceptance: Float64[Tensor, "B S"]


def leapfrog(
    path: Path,
    place: Place,
    momentum: Float[Tensor, "B S D"],
    beta: float,
    step_size: Float[Tensor, "B 1 1"],
    steps: int,
) -> tuple[Place, Float[Tensor, "B S D"]]:
    """Follow Hamilton's equations of H(z, r) = |r|^2 / 2 - log f_b(z) (Neal 2011, "MCMC using Hamiltonian dynamics",
    section 2.3): half a step of r, a step of z, half a step of r.

    Going on from its end with the momentum reversed leads back, and volume in (z, r) is conserved, for any step.

    Args:
        path: of densities.
        place: where it begins.
        momentum: r, likewise.
        beta: b, which density of the path.
        step_size: of each example, in units of z.
        steps: how many.

    Returns:
        Where it ends, and the momentum there.
    """
    for _ in range(steps):
        momentum = momentum + 0.5 * step_size * place.gradient(beta)
        place = path(place.z + step_size * momentum)
        momentum = momentum + 0.5 * step_size * place.gradient(beta)
    return place, momentum


def transition(
    path: Path, place: Place, beta: float, step_size: Float[Tensor, " B"], steps: int, noise: Noise
) -> Transition:
    """Move by one step of Hamiltonian Monte Carlo, which leaves f_b as it is.

    The end of a leapfrog path from a fresh momentum is accepted with probability min(1, exp(H - H')) (Neal 2011,
    section 3.2), else the point stays.

    Args:
        path: of densities.
        place: where it begins.
        beta: b, which density of the path.
        step_size: of each example, in units of z.
        steps: leapfrog steps.
        noise: what is random.

    Returns:
        Where it ends.
    """
    proposal, momentum = leapfrog(path, place, noise.momentum, beta, step_size[:, None, None], steps)
    before = place.log_density(beta) - 0.5 * noise.momentum.double().square().sum(-1)
    after = proposal.log_density(beta) - 0.5 * momentum.double().square().sum(-1)
    # A path that ran away has no finite energy, and so is refused.
    log_acceptance = (after - before).nan_to_num(nan=-torch.inf).clamp(max=0.0)
    return Transition(proposal.where(noise.log_uniform < log_acceptance, place), log_acceptance.exp())
