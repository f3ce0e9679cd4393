"""Objectives that move parts of a model in turn: each group by its own loss alone, and resumed to the bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from training import checkpoint
from training.cli import main
from training.data import load
from training.errors import RecipeError
from training.fit import Fit
from training.fit_model import ModelTask
from training.fit_model import fit as fit_model
from training.objectives import Step, VariationalEM, VariationalEMConfig
from training.objectives.adversarial import Adversarial
from training.recipe import Recipe, read_recipe
from training.run import Run


@pytest.fixture
def em_recipe(recipe_file: Path) -> Recipe:
    """A recipe whose E-steps take 4 steps, and whose M-steps take 2."""
    em = {"kind": "variational-em", "encoder_steps": 4, "decoder_steps": 2, "patience": 4}
    return Recipe.model_validate(read_recipe(recipe_file).model_dump() | {"objective": em})


@pytest.fixture
def gan_recipe(vq_recipe_file: Path) -> Recipe:
    """A VAE-GAN of small pictures in colour."""
    network = {"kind": "conv", "encoder_channels": [6], "decoder_channels": [6], "hidden": 16}
    model = {"family": "vae-gan", "latent": 3, "network": network}
    objective = {"kind": "adversarial", "pixel_weight": 0.5, "discriminator": {"channels": [4, 6, 8]}}
    table = read_recipe(vq_recipe_file).model_dump() | {"model": model, "objective": objective, "prior": None}
    return Recipe.model_validate(table)


@pytest.fixture(params=["em_recipe", "gan_recipe"])
def recipe(request: pytest.FixtureRequest) -> Recipe:
    found: Recipe = request.getfixturevalue(request.param)
    return found


def start(recipe: Recipe, path: Path) -> Fit:
    return Fit(Run(path), ModelTask(recipe, load(recipe.data)))


def go_on(state: Fit, steps: int) -> None:
    for _ in range(steps):
        state.step()
        state.progress.step += 1


def moved_by_each_step(state: Fit, steps: int) -> list[tuple[str, set[str]]]:
    """Take steps; give the group of each loss, with the groups whose weights were others after it."""
    found, steps_of = [], state.objective.steps

    def snapshot() -> dict[str, torch.Tensor]:
        groups = state.objective.groups().items()
        return {name: torch.cat([weight.detach().flatten() for weight in weights]) for name, weights in groups}

    def watched(*batch: torch.Tensor) -> Iterator[Step]:
        for step in steps_of(*batch):
            before = snapshot()
            yield step
            after = snapshot()
            found.append((step.group, {name for name in before if not torch.equal(before[name], after[name])}))

    state.objective.steps = watched
    go_on(state, steps)
    return found


def test_a_loss_moves_its_own_group_alone(recipe: Recipe, tmp_path: Path) -> None:
    moved = moved_by_each_step(start(recipe, tmp_path), 4)
    assert all(groups == {group} for group, groups in moved)
    assert {group for group, _ in moved} >= {"encoder"}


def test_every_weight_is_in_one_group(recipe: Recipe, tmp_path: Path) -> None:
    state = start(recipe, tmp_path)
    grouped = [id(weight) for weights in state.objective.groups().values() for weight in weights]
    assert sorted(grouped) == sorted(id(weight) for weight in state.objective.parameters())


def test_resumed_it_goes_on_to_identical_weights(recipe: Recipe, tmp_path: Path) -> None:
    whole, broken = start(recipe, tmp_path / "whole"), start(recipe, tmp_path / "broken")
    go_on(whole, 7)
    go_on(broken, 3)
    broken.save()
    resumed = start(recipe, tmp_path / "broken")
    resumed.resume()
    go_on(resumed, 4)
    whole.save()
    resumed.save()
    expected, found = checkpoint.read(whole.run.last), checkpoint.read(resumed.run.last)
    assert expected.counters == found.counters
    assert expected.tensors.keys() == found.tensors.keys()
    assert all(torch.equal(expected.tensors[name], found.tensors[name]) for name in expected.tensors)


def test_variational_em_alternates_and_raises_the_bound(em_recipe: Recipe, tmp_path: Path) -> None:
    moved = moved_by_each_step(start(em_recipe, tmp_path / "short"), 12)
    assert [group for group, _ in moved] == (["encoder"] * 4 + ["decoder"] * 2) * 2
    state = start(em_recipe, tmp_path / "long")
    before = state.task.score_nats(state.objective.model)
    go_on(state, 90)
    assert state.task.score_nats(state.objective.model.eval()) > before + 3.0


def test_an_e_step_ends_where_the_average_stops_rising(em_recipe: Recipe, tmp_path: Path) -> None:
    model = start(em_recipe, tmp_path).objective.model
    config = VariationalEMConfig(kind="variational-em", smoothing=0.5, patience=2, decoder_steps=1, encoder_steps=99)
    em = config.build(model, None)
    assert isinstance(em, VariationalEM)
    sides = []
    for bound in (-9.0, -5.0, -8.0, -7.5, -1.0, -3.0, -2.0, -4.0, -4.0):  # averages -9, -7, -7.5, -7.5; -3, -2.5, ...
        em._advance(torch.tensor(bound, dtype=torch.float64))
        sides.append(bool(em.moves_decoder))
    assert sides == [False, False, False, True, False, False, False, False, True]


def test_the_losses_are_those_of_the_paper(gan_recipe: Recipe, tmp_path: Path) -> None:
    """Larsen et al. 2016, algorithm 1, with torch's own cross-entropy and normal densities."""
    state = start(gan_recipe, tmp_path)
    objective, (x,) = state.objective, state.task.batch(0)
    assert isinstance(objective, Adversarial)
    model, discriminator = objective.model, objective.discriminator
    torch.manual_seed(5)
    losses = {step.group: step.loss for step in objective.steps(x)}
    torch.manual_seed(5)
    noise, prior_noise = torch.randn(len(x), 1, 3), torch.randn(len(x), 3)
    encoding = model.encode(x)
    z = encoding["mean"] + (0.5 * encoding["log_variance"]).exp() * noise[:, 0]
    units = [x.float() / 127.5 - 1.0, *(model.decode(latent)["location"] for latent in (z, prior_noise))]
    judged = discriminator(torch.cat(units).permute(0, 3, 1, 2))
    (features, reconstructed, _), (real, kept, drawn) = judged.features.chunk(3), judged.logits.chunk(3)
    normal = torch.distributions.Normal(reconstructed, 1.0)
    likeness = (normal.log_prob(features) - normal.log_prob(reconstructed)).flatten(1).sum(1).mean()
    posterior = torch.distributions.Normal(encoding["mean"], (0.5 * encoding["log_variance"]).exp())
    rate = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    imitated = torch.cat([kept, drawn])
    log_p = model.bound(x, noise).reconstruction.mean()
    detection = binary_cross_entropy_with_logits(real, torch.ones_like(real)) + binary_cross_entropy_with_logits(
        imitated, torch.zeros_like(imitated)
    )
    deceit = binary_cross_entropy_with_logits(imitated, torch.ones_like(imitated))
    assert losses["encoder"].item() == pytest.approx((rate - likeness).item(), rel=1e-4)
    assert losses["decoder"].item() == pytest.approx((deceit - 0.1 * likeness - 1.5 * log_p).item(), rel=1e-5)
    assert losses["discriminator"].item() == pytest.approx(detection.item(), rel=1e-4)


def test_the_penalty_is_the_slope_at_the_data(gan_recipe: Recipe, tmp_path: Path) -> None:
    """Mescheder et al. 2018, eq. 9, by differences of the discriminator's logits."""
    table = gan_recipe.model_dump()
    losses = []
    for penalty in (0.0, 3.0):
        table["objective"]["gradient_penalty"] = penalty
        objective = start(Recipe.model_validate(table), tmp_path / str(penalty)).objective
        assert isinstance(objective, Adversarial)
        torch.manual_seed(5)
        x = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
        (loss,) = (step.loss for step in objective.steps(x) if step.group == "discriminator")
        losses.append(loss.item())
    pictures = objective.model.likelihood.network_input(x).double()
    judge, step = objective.discriminator.double(), 1e-4
    slopes = []
    for place in range(pictures[0].numel()):
        moved = torch.zeros_like(pictures).flatten(1)
        moved[:, place] = step
        moved = moved.view_as(pictures)
        with torch.no_grad():
            above, below = (judge.head(judge.above(judge.below(p))) for p in (pictures + moved, pictures - moved))
        slopes.append((above - below) / (2 * step))
    penalty = 1.5 * torch.stack(slopes).square().sum(0).mean().item()
    assert losses[1] - losses[0] == pytest.approx(penalty, rel=1e-3)


def test_it_begins_as_a_plain_vae(gan_recipe: Recipe, tmp_path: Path) -> None:
    table = gan_recipe.model_dump()
    table["objective"]["pixel_steps"] = 2
    state = start(Recipe.model_validate(table), tmp_path)
    x, model = state.task.batch(0)[0], state.objective.model
    torch.manual_seed(5)
    losses = [(step.group, step.loss.item()) for step in state.objective.steps(x)]
    torch.manual_seed(5)
    loss = -model.bound(x, torch.randn(len(x), 1, 3)).elbo.mean().item()
    assert losses == [("encoder", pytest.approx(loss)), ("decoder", pytest.approx(loss))]
    moved = moved_by_each_step(state, 2)
    assert [group for group, _ in moved] == ["encoder", "decoder", "encoder", "decoder", "discriminator"]
    assert all(groups == {group} for group, groups in moved)


def test_the_discriminator_is_kept_for_the_fit_and_for_nothing_else(gan_recipe: Recipe, tmp_path: Path) -> None:
    short = gan_recipe.model_copy(update={"fit": gan_recipe.fit.model_copy(update={"steps": 4, "validate_every": 2})})
    progress = fit_model(Run(tmp_path), short, resume=False)
    assert progress.best_step == 4, "the last weights are kept, whatever their bound is"
    last, best = (checkpoint.read(path).tensors for path in (Run(tmp_path).last, Run(tmp_path).best))
    assert any(name.startswith("objective.discriminator.") for name in last)
    assert any(name.startswith("optimizer.discriminator.") for name in last)
    assert not any("discriminator" in name for name in best)


def test_a_plain_autoencoder_is_fitted_by_its_reconstructions(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = {"kind": "mlp", "hidden": [16]}
    model = {"family": "autoencoder", "latent": 3, "network": network}
    table = read_recipe(recipe_file).model_dump() | {"model": model}
    with pytest.raises(RecipeError, match="set it to 'reconstruction'"):
        fit_model(Run(tmp_path / "none"), Recipe.model_validate(table), resume=False)
    corruption = {"kind": "masking", "share": 0.1}
    table |= {"objective": {"kind": "reconstruction", "corruption": corruption}}
    recipe = Recipe.model_validate(table)
    state = start(recipe, tmp_path / "run")
    assert state.scored == "reconstruction_nats"
    model, x = state.objective.model, torch.from_numpy(state.task.validation)
    before = state.task.score_nats(model.eval())
    assert before == pytest.approx(model.likelihood.log_prob(x, model.decode(model.encode(x)["z"])).mean().item())
    go_on(state, 60)
    assert state.task.score_nats(model.eval()) > before + 3.0
    weighed = read_recipe(recipe_file).model_dump() | {"objective": {"kind": "reconstruction"}}
    with pytest.raises(RecipeError, match="set it to 'sgvb'"):
        fit_model(Run(tmp_path / "none"), Recipe.model_validate(weighed), resume=False)
    assert main(["fit", str(recipe_file), "--output", str(tmp_path / "cli"), "--fit.steps", "1"]) == 0
    assert "best validation bound" in capsys.readouterr().out
