"""`fit-exact`: exact priors of runs, what they cost, what they are refused for, and their objective against scipy."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special

from models.chain import Chain
from models.code_priors import CodeGrid
from models.exact.layers import calibrating
from models.exact.prior import ExactPrior
from models.families.pixelcnn import PixelCNNConfig
from models.pixelcnn import GatedPixelCNN
from training import checkpoint
from training.cli import main
from training.data import load
from training.errors import RunError
from training.exact.links import exact_copy
from training.exact.objective import Distillation
from training.run import Run

FIT = ["--exact.fit.steps", "8", "--exact.fit.validate_every", "4", "--exact.fit.threads", "1"]
K = 16


def copied(run: Run, path: Path) -> Run:
    """Copy what counts of a run."""
    (path / "prior").mkdir(parents=True)
    for name in ("recipe.toml", "best.safetensors", "prior/best.safetensors"):
        shutil.copy(run.path / name, path / name)
    return Run(path)


def exact_of(run: Run) -> Chain | None:
    recipe = run.recipe()
    splits = load(recipe.data)
    return run.exact_chain(recipe, run.model(recipe, splits.train.shape), splits)


@pytest.fixture(scope="module")
def exact_run(vq_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = copied(vq_run, tmp_path_factory.mktemp("exact") / "run")
    assert exact_of(run) is None
    assert main(["fit-exact", str(run.path), *FIT]) == 0
    return run


def test_an_exact_prior_costs_hardly_more_than_the_one_in_floating_point(exact_run: Run) -> None:
    counters = checkpoint.read(exact_run.link(0).exact).counters
    assert counters["tokens"] == 20 * 4 * 4, "the test split"
    assert counters["exact_bits_per_token"] < 1.01 * counters["float_bits_per_token"]
    recipe = exact_run.recipe()
    assert recipe.exact is not None
    assert recipe.exact.fit.steps == 8


def test_an_exact_prior_holds_integers_alone(exact_run: Run) -> None:
    chain = exact_of(exact_run)
    assert chain is not None
    (link,) = chain
    assert isinstance(link, ExactPrior)
    assert not list(link.parameters())
    logits = link(torch.zeros(1, 4, 4, dtype=torch.int32))
    assert torch.equal(logits, logits.round())
    assert link.canonical_hash() == checkpoint.read(exact_run.link(0).exact).counters["canonical_sha256"]


def test_an_exact_prior_is_not_fitted_twice(exact_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit-exact", str(exact_run.path), *FIT]) == 1
    assert "holds a fit already; add --resume" in capsys.readouterr().err
    assert main(["fit-exact", str(exact_run.path), "--prior.fit.steps", "3"]) == 1
    assert "cannot be set here" in capsys.readouterr().err
    assert main(["fit-exact", str(exact_run.path), "--exact.links", "[{}, {}]", "--resume"]) == 1
    assert "2 [[exact.links]], the model has 1 grids" in capsys.readouterr().err


def test_a_fit_that_is_done_ends_in_the_same_integers_when_it_is_resumed(exact_run: Run) -> None:
    before = checkpoint.read(exact_run.link(0).exact).counters["canonical_sha256"]
    exact_run.link(0).exact.unlink()
    assert main(["fit-exact", str(exact_run.path), *FIT, "--resume"]) == 0
    assert checkpoint.read(exact_run.link(0).exact).counters["canonical_sha256"] == before


def test_other_integers_and_integers_of_other_weights_are_refused(exact_run: Run, tmp_path: Path) -> None:
    damaged = copied(exact_run, tmp_path / "damaged")
    state = checkpoint.read(exact_run.link(0).exact)
    tensors = state.part("model")
    tensors["inner.bias"][0] += 1
    checkpoint.write(damaged.link(0).exact, {"model": tensors}, state.counters)
    with pytest.raises(RunError, match="does not hold the integers"):
        exact_of(damaged)
    other = copied(exact_run, tmp_path / "other")
    shutil.copy(exact_run.link(0).exact, other.link(0).exact)
    weights = checkpoint.read(other.link(0).best)
    checkpoint.write(other.link(0).best, {"model": weights.part("model")}, weights.counters | {"step": 0})
    with pytest.raises(RunError, match="other weights \\(prior_sha256 differs\\); run fit-exact"):
        exact_of(other)


def test_attention_needs_another_model(vq_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(vq_run, tmp_path / "attention")
    shutil.rmtree(run.path / "prior")
    attention = ["kind", "pixelsnail"], ["channels", "4"], ["layers", "2"], ["heads", "1"], ["attention_every", "1"]
    words = [word for key, value in attention for word in (f"--prior.model.{key}", value)]
    assert main(["fit-prior", str(run.path), *words, "--prior.fit.steps", "2"]) == 0
    assert main(["fit-exact", str(run.path), *FIT]) == 1
    assert "PixelSNAIL has no exact counterpart" in capsys.readouterr().err
    other = ["--exact.model.channels", "4", "--exact.model.layers", "2", "--exact.model_fit.steps", "2"]
    assert main(["fit-exact", str(run.path), *FIT, *other]) == 0
    assert "bits a code in exact integers" in capsys.readouterr().out
    chain = exact_of(run)
    assert chain is not None
    assert len(chain) == 1


def test_the_objective_is_code_length_and_divergence() -> None:
    torch.manual_seed(0)
    config = PixelCNNConfig(channels=4, layers=2, hidden=8)
    teacher: GatedPixelCNN = config.build(CodeGrid(K, (4, 4)), (), {}).eval()
    codes = torch.randint(0, K, (3, 4, 4))
    model = exact_copy(config.build(CodeGrid(K, (4, 4)), (), {}), 0).eval()
    with torch.no_grad(), calibrating(model):
        model(codes)
    (step,) = Distillation(model, teacher, 0.2, 0.25).steps(codes)
    logits = model(codes) / 256, teacher(codes)
    own, taught = (special.log_softmax(x.detach().double().numpy(), axis=1) for x in logits)
    nats = -np.take_along_axis(own, codes.numpy()[:, None], axis=1).sum() / 3
    divergence = (np.exp(taught) * (taught - own)).sum() / 3
    assert step.loss.item() == pytest.approx(0.75 * nats + 0.25 * divergence, rel=1e-5)
    assert step.log_p_nats.item() == pytest.approx(-nats, rel=1e-5)
