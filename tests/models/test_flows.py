"""Every step of a flow against autograd: its log-determinant, its way back, and that a fresh one is the identity."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.flows import AffineCoupling, Flow, InverseAutoregressive, Planar, Radial, Transform

D, C = 4, 3

STEPS: dict[str, Callable[[int], Transform]] = {
    "planar": lambda context: Planar(D, context),
    "radial": lambda context: Radial(D, context),
    "autoregressive": lambda context: InverseAutoregressive(D, context, 16, backwards=False),
    "autoregressive-backwards": lambda context: InverseAutoregressive(D, context, 16, backwards=True),
    "coupling": lambda context: AffineCoupling(D, context, 16, even=False),
    "coupling-even": lambda context: AffineCoupling(D, context, 16, even=True),
}


def fitted(step: Transform | Flow, scale: float = 0.7) -> Transform | Flow:
    """Move the weights away from the identity, as a fit does."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in step.parameters():
            weight.add_(scale * torch.randn_like(weight))
    return step.double()


def points(count: int) -> Tensor:
    return 1.5 * torch.randn(count, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def contexts(context: int, count: int) -> Tensor | None:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, context, dtype=torch.float64, generator=generator) if context else None


def jacobians(step: Transform | Flow, z: Tensor, context: Tensor | None) -> Tensor:
    """Give the full Jacobian at each point."""
    given = [None] * len(z) if context is None else list(context)
    jacobian = torch.autograd.functional.jacobian
    return torch.stack([jacobian(lambda one, c=c: step(one, c).z, at) for at, c in zip(z, given, strict=True)])


@pytest.mark.parametrize("context", [0, C])
@pytest.mark.parametrize("name", STEPS)
def test_log_determinant_is_the_jacobians(name: str, context: int) -> None:
    torch.manual_seed(0)
    step, z, given = fitted(STEPS[name](context)), points(5), contexts(context, 5)
    image, log_det = step(z, given)
    assert (image - z).abs().max() > 0.01
    assert log_det.abs().max() > 0.01
    torch.testing.assert_close(log_det.detach(), jacobians(step, z, given).slogdet().logabsdet, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("context", [0, C])
@pytest.mark.parametrize("name", [name for name in STEPS if name != "planar"])
def test_the_way_back_is_the_way_there_undone(name: str, context: int) -> None:
    torch.manual_seed(0)
    step, z, given = fitted(STEPS[name](context)), points(50), contexts(context, 50)
    image, log_det = step(z, given)
    back, log_det_back = step.inverse(image, given)
    torch.testing.assert_close(back, z, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(log_det_back, -log_det, rtol=1e-8, atol=1e-8)


def test_a_planar_step_cannot_be_gone_back() -> None:
    with pytest.raises(TypeError, match="choose a radial, coupling or inverse autoregressive flow"):
        Flow([Planar(D, 0)])(points(1), inverse=True)


@pytest.mark.parametrize("name", STEPS)
def test_a_fresh_step_is_the_identity(name: str) -> None:
    z = points(5).float()
    image, log_det = STEPS[name](C)(z, torch.randn(5, C))
    torch.testing.assert_close(image, z, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(log_det, torch.zeros(5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["planar", "radial"])
def test_constraints_hold_for_any_weights(name: str) -> None:
    """Without them, about half of such steps would fold space, where the determinant is below zero."""
    torch.manual_seed(0)
    for scale in (3.0, 10.0):
        step, z, given = fitted(STEPS[name](C), scale), points(20), contexts(C, 20)
        assert (jacobians(step, z, given).det() > 0).all()
        assert step(z, given).log_det.isfinite().all()


def test_an_autoregressive_step_sees_what_is_before_alone() -> None:
    for backwards in (False, True):
        step = fitted(InverseAutoregressive(D, 0, 16, backwards=backwards))
        jacobian = jacobians(step, points(1), None)[0]
        hidden = torch.ones(D, D, dtype=torch.bool).triu(1)
        assert (jacobian[hidden.T if backwards else hidden] == 0).all()
        assert (jacobian[hidden if backwards else hidden.T] != 0).all()


def test_a_flow_is_its_steps_one_after_the_other() -> None:
    torch.manual_seed(0)
    flow = fitted(Flow([make(C) for name, make in STEPS.items() if name != "planar"]), 0.3)
    z, context = points(6), contexts(C, 2)
    image, log_det = flow(z.unflatten(0, (2, 3)), context.unsqueeze(1))
    assert image.shape == (2, 3, D)
    spread = context.repeat_interleave(3, 0)
    torch.testing.assert_close(log_det.flatten(), jacobians(flow, z, spread).slogdet().logabsdet, rtol=1e-8, atol=1e-8)
    back, log_det_back = flow(image, context.unsqueeze(1), inverse=True)
    torch.testing.assert_close(back.flatten(0, 1), z, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(log_det_back, -log_det, rtol=1e-7, atol=1e-7)


def test_autocast_leaves_a_flow_in_full_precision() -> None:
    flow, z = fitted(Flow([AffineCoupling(D, 0, 16, even=True)])).float(), points(3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = flow(z)
    assert torch.equal(found.z, flow(z).z)
    assert torch.equal(found.log_det, flow(z).log_det)
