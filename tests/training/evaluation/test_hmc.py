"""Hamiltonian transitions: reversible, volume-conserving, and with the right density left as it is."""

import numpy as np
import torch
from scipy import stats

from training.evaluation.hmc import Noise, Place, leapfrog, transition


def banana(z: torch.Tensor) -> Place:
    """log f = -(z_0^2 / 2 + 2 (z_1 - z_0^2)^2): z_0 is standard normal, z_1 given it N(z_0^2, 1/4)."""
    bend = z[..., 1] - z[..., 0].square()
    gradient = torch.stack([-z[..., 0] + 8.0 * bend * z[..., 0], -4.0 * bend], dim=-1)
    log_density = -0.5 * z[..., 0].square() - 2.0 * bend.square()
    return Place(z, log_density, torch.zeros_like(log_density), gradient, torch.zeros_like(z))


def step_size(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1), value, dtype=torch.float64)


def test_a_path_leads_back_when_its_momentum_is_reversed() -> None:
    z, momentum = torch.randn(2, 1, 50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    end, there = leapfrog(banana, banana(z), momentum, 0.0, step_size(0.1), 20)
    assert (end.z - z).abs().max() > 0.5
    back, again = leapfrog(banana, end, -there, 0.0, step_size(0.1), 20)
    assert torch.allclose(back.z, z, atol=1e-9)
    assert torch.allclose(-again, momentum, atol=1e-9)


def test_a_path_conserves_volume_even_where_it_does_not_conserve_energy() -> None:
    start = torch.tensor([0.7, -0.4, 1.1, 0.3], dtype=torch.float64)

    def flow(state: torch.Tensor) -> torch.Tensor:
        z = state[:2].reshape(1, 1, 2)
        end, momentum = leapfrog(banana, banana(z), state[2:].reshape(1, 1, 2), 0.0, step_size(0.3), 7)
        return torch.cat([end.z.flatten(), momentum.flatten()])

    jacobian = torch.autograd.functional.jacobian(flow, start)
    assert abs(float(torch.linalg.det(jacobian)) - 1.0) < 1e-9
    end = flow(start)
    energy = [-float(banana(s[:2]).log_start) + 0.5 * float(s[2:].square().sum()) for s in (start, end)]
    assert abs(energy[1] - energy[0]) > 0.01


def test_transitions_leave_the_density_as_it_is() -> None:
    """Chains that begin in the density are in it ever after: they stay at its moments and its distribution."""
    generator, chains = torch.Generator().manual_seed(1), 20_000
    first = torch.randn(1, chains, 2, dtype=torch.float64, generator=generator)
    z = torch.stack([first[..., 0], first[..., 0].square() + 0.5 * first[..., 1]], dim=-1)
    place, acceptance = banana(z), torch.zeros(())
    for _ in range(12):
        noise = Noise(
            torch.randn(1, chains, 2, dtype=torch.float64, generator=generator),
            torch.rand(1, chains, dtype=torch.float64, generator=generator).log(),
        )
        place, accepted = transition(banana, place, 0.0, torch.full((1,), 0.3, dtype=torch.float64), 5, noise)
        acceptance = acceptance + accepted.mean() / 12
    assert 0.3 < float(acceptance) < 0.95, "a step that is nearly always accepted would prove little"
    z = place.z[0]
    assert (z - first[0]).abs().max() > 1.0
    x, y = z[:, 0].numpy(), z[:, 1].numpy()
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert stats.kstest(2.0 * (y - x**2), "norm").pvalue > 1e-3
    assert abs(y.mean() - 1.0) < 4 * np.sqrt(2.25 / chains)
    assert abs(np.square(x).var() - 2.0) < 4 * np.sqrt(56.0 / chains)


def test_a_path_that_runs_away_is_refused() -> None:
    z = torch.full((1, 3, 2), 3.0, dtype=torch.float64)
    noise = Noise(torch.ones_like(z), torch.full((1, 3), -1.0, dtype=torch.float64))
    place, acceptance = transition(banana, banana(z), 0.0, torch.full((1,), 50.0, dtype=torch.float64), 30, noise)
    assert torch.equal(place.z, z)
    assert acceptance.tolist() == [[0.0] * 3]
