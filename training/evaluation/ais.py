"""Annealed importance sampling: a lower bound on log p(x), and with its reverse on simulated data an upper one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from artifact.noise import batch_normal
from models.bottleneck import Encoding
from models.model import LatentVariableModel
from training.errors import RunError
from training.evaluation.batches import in_batches
from training.evaluation.hmc import Noise, Place, transition
from training.evaluation.latents import draw_prior, log_likelihood, log_posterior, log_prior, weighable
from training.evaluation.marginal import LogLikelihood, standard_error
from training.evaluation.simulate import simulate

Start = Literal["prior", "posterior"]

_START, _FORWARD, _REVERSE, _PILOT = range(512, 516)
"""Streams of noise, apart from those that the service uses."""
_ROWS = 256
_PILOT_CHAINS = 4
_STEEPNESS = 4.0
_ACCEPTANCE = 0.65
_FIRST_STEP_SIZE, _ADAPTATION = 0.1, 0.3


@dataclass(frozen=True)
class Annealing:
    """How chains are annealed.

    Attributes:
        chains: S for each example.
        steps: T densities after the first; more give a tighter bound.
        leapfrog_steps: of each transition.
        start: f_0, the prior p(z) or the posterior q(z given x).
    """

    chains: int = 16
    steps: int = 500
    leapfrog_steps: int = 10
    start: Start = "prior"


@dataclass(frozen=True)
class Annealed:
    """What chains gave for N examples.

    Attributes:
        lower: estimates from the forward chains, in expectation at most log p(x).
        upper_nats: from the reverse chains, in expectation at least log p(x); None where the posterior is not known.
        acceptance: mean probability of the forward chains' proposals.
    """

    lower: LogLikelihood
    upper_nats: Float64[np.ndarray, " N"] | None
    acceptance: Float64[np.ndarray, " N"]

    @classmethod
    def joined(cls, parts: "list[Annealed]") -> "Annealed":
        """Put batches one after the other."""
        uppers = [part.upper_nats for part in parts if part.upper_nats is not None]
        return cls(
            LogLikelihood.joined([part.lower for part in parts]),
            np.concatenate(uppers) if uppers else None,
            np.concatenate([part.acceptance for part in parts]),
        )


def sigmoid_schedule(steps: int) -> Float64[np.ndarray, " T+1"]:
    """Give the inverse temperatures b_0 = 0 .. b_T = 1, close to each other at both ends, as Wu et al. 2017 do.

    b_t = (s(d (2t / T - 1)) - s(-d)) / (s(d) - s(-d)), with s the logistic function and d = 4.

    Args:
        steps: T.

    Returns:
        Rising numbers.
    """
    found = 1.0 / (1.0 + np.exp(-_STEEPNESS * np.linspace(-1.0, 1.0, steps + 1)))
    betas: NDArray[np.float64] = (found - found[0]) / (found[-1] - found[0])
    return betas


class PathToPosterior:
    """The densities f_b(z) = f_0(z)^(1 - b) (p(z) p(x given z))^b of a batch; see `training.evaluation.hmc.Path`.

    Args:
        model: in evaluation mode.
        x: data.
        start: f_0.

    Raises:
        RunError: f_0 or the prior cannot weigh any z.
    """

    def __init__(self, model: LatentVariableModel, x: Shaped[Tensor, "B *data"], start: Start) -> None:
        self.model, self.bottleneck, self.x = model, weighable(model), x
        self.encoding: Encoding | None = None
        if start == "posterior":
            with torch.no_grad():
                self.encoding = model.encode(x)

    def __call__(self, z: Float[Tensor, "B S D"]) -> Place:
        """Look at points."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_start = log_prior(self.bottleneck, z).double()
            log_ratio = log_likelihood(self.model, self.x, z)
            if self.encoding is not None:
                log_joint = log_start + log_ratio
                log_start = self._log_posterior(self.encoding, z)
                log_ratio = log_joint - log_start
            (of_ratio,) = torch.autograd.grad(log_ratio.sum(), z, retain_graph=True)
            (of_start,) = torch.autograd.grad(log_start.sum(), z)
        return Place(z.detach(), log_start.detach(), log_ratio.detach(), of_start, of_ratio)

    def first(self, noise: "Streams", chains: int) -> Place:
        """Draw from f_0."""
        drawn = noise.normal(_START, (chains, self._noise_dimensions), 0)
        with torch.no_grad():
            if self.encoding is None:
                return self(draw_prior(self.bottleneck, drawn))
            return self(self.bottleneck.draw(self.encoding, drawn)[-1].z)

    @property
    def _noise_dimensions(self) -> int:
        """Numbers that a draw from f_0 takes."""
        return self.bottleneck.prior_noise_dimensions if self.encoding is None else self.bottleneck.noise_dimensions

    def _log_posterior(self, encoding: Encoding, z: Float[Tensor, "B S D"]) -> Float64[Tensor, "B S"]:
        """Give log q(z given x)."""
        try:
            return log_posterior(self.bottleneck, encoding, z).double()
        except TypeError as error:
            raise RunError(f"chains cannot start from this posterior: {error}; leave --ais-start out") from error


@dataclass(frozen=True)
class Streams:
    """The noise of a batch, a function of seed, example and stream.

    Attributes:
        seed: of all.
        first_index: of the batch's first example.
        batch: B.
        device: where it is needed.
    """

    seed: int
    first_index: int
    batch: int
    device: torch.device

    def normal(self, stream: int, shape: tuple[int, int], first_sample: int) -> Float[Tensor, "B S N"]:
        """Draw standard normal numbers of each example."""
        drawn = batch_normal(
            self.seed, self.first_index, self.batch, shape, stream=stream, first_sample=first_sample * shape[0]
        )
        return torch.from_numpy(drawn).to(self.device)

    def transition(self, stream: int, step: int, place: Place) -> Noise:
        """Draw what one transition takes."""
        chains, dimensions = place.z.shape[1:]
        drawn = self.normal(stream, (chains, dimensions + 1), step)
        return Noise(drawn[..., :-1], torch.special.log_ndtr(drawn[..., -1].double()))


class Annealer:
    """Chains for a batch of examples.

    A pilot, whose chains are used for nothing else, adapts the step sizes to an acceptance of 0.65. They are then held
    fixed, since steps that follow their own chain's past would not leave the densities as they are, and the estimate
    would be no bound.

    Args:
        path: from f_0 to the posterior.
        noise: of the batch.
        config: how.
        advance: called after each step of all chains, with the number of examples.
    """

    def __init__(
        self, path: PathToPosterior, noise: Streams, config: Annealing, advance: Callable[[int], None]
    ) -> None:
        self.path, self.noise, self.config, self.advance = path, noise, config, advance
        self.betas = sigmoid_schedule(config.steps).tolist()
        self.step_sizes = self._adapted()

    def _adapted(self) -> list[Float[Tensor, " B"]]:
        """Let the pilot find a step size for every example and every transition, by a Robbins-Monro rule on its log."""
        place = self.path.first(self.noise, _PILOT_CHAINS)
        step_size = torch.full((self.noise.batch,), _FIRST_STEP_SIZE, device=self.noise.device)
        found = []
        for step, beta in enumerate(self.betas[1:-1]):
            found.append(step_size)
            random = self.noise.transition(_PILOT, step, place)
            place, acceptance = transition(self.path, place, beta, step_size, self.config.leapfrog_steps, random)
            step_size = step_size * (_ADAPTATION * (acceptance.mean(1) - _ACCEPTANCE)).exp().float()
            self.advance(self.noise.batch)
        return found

    def forward(self) -> tuple[Float64[Tensor, "B S"], Float64[Tensor, " B"]]:
        """Anneal from f_0 to the posterior (Neal 2001, section 2): E w = p(x).

        Returns:
            Log-weights log w = sum_t (b_t - b_(t-1)) log_ratio(z_(t-1)), nats, and the mean acceptance.
        """
        return self._anneal(self.path.first(self.noise, self.config.chains), self.betas, self.step_sizes, _FORWARD)

    def reverse(self, z: Float[Tensor, "B D"]) -> Float64[Tensor, "B S"]:
        """Anneal from the posterior to f_0 (Grosse et al. 2015): E w = 1 / p(x).

        All chains of an example leave from its one exact sample: their weights depend on each other, which their mean's
        expectation does not mind.

        Args:
            z: an exact sample from p(z given x) of each example.

        Returns:
            Log-weights, nats.
        """
        place = self.path(z.unsqueeze(1).expand(-1, self.config.chains, -1))
        return self._anneal(place, self.betas[::-1], self.step_sizes[::-1], _REVERSE)[0]

    def _anneal(
        self, place: Place, betas: Sequence[float], step_sizes: Sequence[Float[Tensor, " B"]], stream: int
    ) -> tuple[Float64[Tensor, "B S"], Float64[Tensor, " B"]]:
        """Weigh and move, from density to density; nothing follows the last weight, so that it needs no move."""
        log_weights = torch.zeros_like(place.log_ratio)
        accepted = torch.zeros_like(log_weights[:, 0])
        for step, (before, after) in enumerate(pairwise(betas)):
            log_weights = log_weights + (after - before) * place.log_ratio
            if step < len(step_sizes):
                random = self.noise.transition(stream, step, place)
                size, leapfrog_steps = step_sizes[step], self.config.leapfrog_steps
                place, acceptance = transition(self.path, place, after, size, leapfrog_steps, random)
                accepted = accepted + acceptance.mean(1) / len(step_sizes)
            self.advance(self.noise.batch)
        return log_weights, accepted


def ais(
    model: LatentVariableModel,
    data: Shaped[np.ndarray, "N *data"],
    config: Annealing,
    *,
    seed: int,
    progress: bool = False,
) -> Annealed:
    """Bound log p(x) from below by annealed importance sampling with Hamiltonian transitions (Wu et al. 2017).

    Args:
        model: in evaluation mode, with real-valued latents and a decoder that z can be differentiated through.
        data: item i has index i.
        config: how.
        seed: of the noise.
        progress: show a bar.

    Returns:
        The bounds.

    Raises:
        RunError: the model has no prior over real-valued latents.
    """
    return _each(model, data, None, config, seed, "annealed importance sampling" if progress else None)


def bdmc(
    model: LatentVariableModel,
    count: int,
    shape: tuple[int, ...],
    config: Annealing,
    *,
    seed: int,
    progress: bool = False,
) -> Annealed:
    """Bound log p(x) of simulated data from both sides: bidirectional Monte Carlo (Grosse et al. 2015).

    For x that was drawn from p(z) p(x given z), its z is an exact sample from the posterior, from which a chain can go
    back. The gap between both bounds is, in expectation, at least the error of either on data such as the model's own.

    Args:
        model: as for `ais`.
        count: N, of the simulated examples.
        shape: of one.
        config: how.
        seed: of the noise.
        progress: show a bar.

    Returns:
        The bounds.

    Raises:
        RunError: the model has no prior over real-valued latents.
    """
    z, x = simulate(model, count, shape, seed)
    return _each(model, x, z, config, seed, "bidirectional Monte Carlo" if progress else None)


def _each(
    model: LatentVariableModel,
    data: Shaped[np.ndarray, "N *data"],
    z: Float[np.ndarray, "N D"] | None,
    config: Annealing,
    seed: int,
    label: str | None,
) -> Annealed:
    """Anneal chains for all examples; with exact samples from their posteriors, also back."""
    model = model.for_export().eval()
    device = next(model.parameters()).device
    steps = config.steps * (2 if z is None else 3) - 1
    lock = Lock()

    def advance(count: int) -> None:
        with lock:
            bar.update(count)

    def measure(part: slice) -> Annealed:
        x = torch.from_numpy(data[part]).to(device)
        noise = Streams(seed, part.start, len(x), device)
        annealer = Annealer(PathToPosterior(model, x, config.start), noise, config, advance)
        log_weights, acceptance = annealer.forward()
        upper = None
        if z is not None:
            back = annealer.reverse(torch.from_numpy(z[part]).to(device))
            upper = -LogLikelihood.of_weights(back.cpu().numpy()).nats
        lower = LogLikelihood.of_weights(log_weights.cpu().numpy())
        return Annealed(lower, upper, acceptance.cpu().numpy())

    parts, total, done = [], 0.0, 0
    with tqdm(total=len(data) * steps, unit="step", unit_scale=True, desc=label, disable=label is None) as bar:
        for found in in_batches(len(data), max(1, _ROWS // config.chains), measure):
            parts.append(found)
            total, done = total + float(found.lower.nats.sum()), done + len(found.lower.nats)
            bar.set_postfix_str(f"{total / done:.3f} nats", refresh=False)
    return Annealed.joined(parts)


def figures(found: Annealed, name: str) -> dict[str, float]:
    """Give the means over examples, by names that begin with `name`."""
    measured = found.lower.figures(name) | {f"{name}_acceptance": float(found.acceptance.mean())}
    if found.upper_nats is None:
        return measured
    gap = found.upper_nats - found.lower.nats
    return measured | {
        f"{name}_upper_nats": float(found.upper_nats.mean()),
        f"{name}_upper_standard_error_nats": standard_error(found.upper_nats),
        f"{name}_gap_nats": float(gap.mean()),
        f"{name}_gap_standard_error_nats": standard_error(gap),
    }
