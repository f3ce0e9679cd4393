"""The IWAE objective: its gradient is that of the bound, and the doubly reparameterised one is its quieter equal."""

import pytest
import torch

from models.families.flow_vae import FlowVAEConfig
from models.families.hierarchical_vae import HierarchicalVAEConfig
from models.families.vae import MLPConfig, VAEConfig
from models.families.vqvae import FullyConvConfig, VQVAEConfig
from models.model import LatentVariableModel
from models.networks import ImageShape
from training.errors import RecipeError
from training.objectives import DataFacts, IWAEConfig
from training.objectives.iwae import Gradient

SAMPLES = 5


def vae() -> LatentVariableModel:
    torch.manual_seed(3)
    return VAEConfig(latent=2, network=MLPConfig(hidden=(6,))).build(ImageShape(1, 3, 3))


X = (torch.rand(3, 3, 3, 1, generator=torch.Generator().manual_seed(0)) > 0.5).byte() * 255


def gradients(model: LatentVariableModel, gradient: Gradient, x: torch.Tensor = X) -> dict[str, torch.Tensor]:
    """Give the gradient of one step, by network, flat."""
    objective = IWAEConfig(samples=SAMPLES, gradient=gradient).build(model, DataFacts())
    model.zero_grad()
    (step,) = objective.steps(x)
    torch.autograd.backward(step.loss)
    networks = {"encoder": model.encoder, "decoder": model.decoder}
    return {
        name: torch.cat([weight.grad.flatten() for weight in network.parameters()])
        for name, network in networks.items()
    }


@pytest.mark.parametrize("gradient", ["standard", "dreg"])
def test_the_loss_is_minus_the_bound_of_as_many_samples(gradient: Gradient) -> None:
    model = vae()
    objective = IWAEConfig(samples=SAMPLES, gradient=gradient).build(model, DataFacts(examples=300))
    torch.manual_seed(1)
    (step,) = objective.steps(X)
    torch.manual_seed(1)
    bound = model.bound(X, torch.randn(3, SAMPLES, 2))
    weights = bound.log_weights.exp()
    expected = weights.mean(1).log().mean().item()
    assert step.loss.item() == pytest.approx(-expected, rel=1e-5)
    assert step.log_p_nats.item() == pytest.approx(expected, rel=1e-5)
    assert step.figures["dataset_bound_nats"].item() == pytest.approx(300 * bound.elbo.mean().item(), rel=1e-5)
    worth = weights.sum(1).square() / weights.square().sum(1)
    assert step.figures["effective_sample_size"].item() == pytest.approx(worth.mean().item(), rel=1e-5)
    drawn = torch.randn(3, SAMPLES, 2)
    assert torch.allclose(objective.score(model, X, drawn, {}), model.bound(X, drawn).iwae)


def test_the_gradient_weighs_those_of_the_samples() -> None:
    """Burda et al. 2016, eq. 14: sum_s v_s grad log w_s, of the gradients that autograd finds sample by sample."""
    model = vae()
    torch.manual_seed(1)
    found = gradients(model, "standard")
    torch.manual_seed(1)
    log_weights = model.bound(X, torch.randn(3, SAMPLES, 2)).log_weights
    normalised = (log_weights.exp() / log_weights.exp().sum(1, keepdim=True)).detach()
    model.zero_grad()
    for example in range(3):
        for sample in range(SAMPLES):
            share = -normalised[example, sample] / 3
            torch.autograd.backward(share * log_weights[example, sample], retain_graph=True)
    for name, network in (("encoder", model.encoder), ("decoder", model.decoder)):
        expected = torch.cat([weight.grad.flatten() for weight in network.parameters()])
        assert torch.allclose(found[name], expected, atol=1e-6)


def test_dreg_agrees_in_expectation_and_is_quieter() -> None:
    """Tucker et al. 2019: the same mean within 4 standard errors, less variance for the encoder, the same decoder."""
    model, x = vae(), X[:1].expand(20, 3, 3, 1)
    means, variances = {}, {}
    for gradient in ("standard", "dreg"):
        torch.manual_seed(2)
        several = torch.stack([gradients(model, gradient, x)["encoder"] for _ in range(200)])
        means[gradient], variances[gradient] = several.mean(0), several.var(0)
    error = ((variances["standard"] + variances["dreg"]) / 200).sqrt()
    assert ((means["standard"] - means["dreg"]).abs() <= 4 * error + 1e-12).all()
    assert variances["dreg"].sum() < 0.9 * variances["standard"].sum()
    found = {}
    for gradient in ("standard", "dreg"):
        torch.manual_seed(4)
        found[gradient] = gradients(model, gradient)["decoder"]
    assert torch.allclose(found["standard"], found["dreg"], atol=1e-7)


def test_posteriors_that_do_not_fit_are_refused() -> None:
    levels = {"family": "hierarchical-vae", "latent": 2, "levels": [{"downsampling": 2, "latent": 1}]}
    ladder = {"channels": [4], "encoder_blocks": [0], "decoder_blocks": [0], "features": 3, "hidden": 4}
    several = HierarchicalVAEConfig.model_validate({**levels, "network": ladder}).build(ImageShape(1, 4, 4))
    with pytest.raises(RecipeError, match="needs one level of real-valued latents"):
        IWAEConfig(gradient="dreg").build(several, DataFacts())
    flow = {"kind": "planar", "steps": 1, "context": 2}
    config = {"family": "flow-vae", "latent": 2, "network": MLPConfig(hidden=(4,)), "posterior": flow}
    with pytest.raises(RecipeError, match=r"a posterior that can be inverted"):
        IWAEConfig(gradient="dreg").build(FlowVAEConfig.model_validate(config).build(ImageShape(1, 3, 3)), DataFacts())
    codes = VQVAEConfig(family="vqvae", network=FullyConvConfig(downsampling=2, hidden=4, residual_hidden=2))
    with pytest.raises(RecipeError, match=r"choose objective\.kind = 'sgvb'"):
        IWAEConfig().build(codes.build(ImageShape(1, 4, 4)), DataFacts())
