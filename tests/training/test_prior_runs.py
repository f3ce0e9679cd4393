"""Runs of models of codes and their priors: resumed, refused, never mixed with what belongs to others."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from artifact.store import Artifact, file_sha256
from training import checkpoint
from training import fit_prior as fit_prior_module
from training.cli import main
from training.code_sets import CodeSet
from training.data import load
from training.fit import Fit
from training.fit_prior import LinkTask, encode
from training.links import codes_of
from training.recipe import read_recipe
from training.run import Run

K, SIDE, GRID = 16, 8, 4


def test_figures_and_priors_of_other_weights_are_refused(
    vq_run: Run, vq_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(vq_run.path, moved)
    assert main(["fit", str(moved), "--fit.steps", "160", "--fit.validate_every", "160"]) == 0
    assert Run(moved).recipe().fit.steps == 160, "the recipe is that of the last fit"
    capsys.readouterr()
    for words in (["evaluate", str(moved)], ["export", str(moved), "--store", str(tmp_path / "store")]):
        assert main(words) == 1
        assert "fitted to the codes of other weights" in capsys.readouterr().err
    shutil.rmtree(moved / "prior")
    assert main(["export", str(moved), "--store", str(tmp_path / "store")]) == 1
    assert "figures of other weights" in capsys.readouterr().err


def test_only_what_is_not_fitted_yet_can_be_set(vq_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = vq_run.recipe_file.read_text()
    for words in (
        ["fit-prior", str(vq_run.path), "--resume", "--fit.steps", "5"],
        ["evaluate", str(vq_run.path), "--model.quantizer.decay", "0.5"],
        ["export", str(vq_run.path), "--card.licence", "MIT"],
    ):
        assert main(words) == 1
        assert "cannot be set here" in capsys.readouterr().err
    assert main(["fit-prior", str(vq_run.path), "--resume", "--prior.model.channels", "12"]) == 1
    assert "does not fit the recipe" in capsys.readouterr().err
    assert vq_run.recipe_file.read_text() == before


def test_a_prior_goes_on_from_its_checkpoint(vq_run: Run, tmp_path: Path) -> None:
    """Half of the steps and then the other half end in the same weights as all at once."""
    paths = [tmp_path / name for name in ("whole", "halves")]
    for path in paths:
        path.mkdir()
        for name in ("recipe.toml", "best.safetensors"):
            (path / name).write_bytes((vq_run.path / name).read_bytes())
    words = ["--prior.fit.steps", "20", "--prior.fit.validate_every", "10"]
    assert main(["fit-prior", str(paths[0]), *words]) == 0
    recipe = Run(paths[1]).recipe({"prior.fit.steps": "20", "prior.fit.validate_every": "10"})
    assert recipe.prior is not None
    splits = load(recipe.data)
    model = Run(paths[1]).model(recipe, splits.train.shape)
    encoded = encode("bars", recipe.prior, model, splits, file_sha256(paths[1] / "best.safetensors"))
    first = Fit(Run(paths[1]).link(0), LinkTask(encoded, 0))
    for _ in range(7):
        first.step()
        first.progress.step += 1
    Run(paths[1]).link(0).path.mkdir(exist_ok=True)
    first.save()
    assert main(["fit-prior", str(paths[1]), "--resume", *words]) == 0
    ends = [checkpoint.read(path / "prior" / "last.safetensors").tensors for path in paths]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_prior_is_refused_where_it_makes_no_sense(
    vq_run: Run,
    vq_recipe_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["fit-prior", str(vq_run.path)]) == 1
    assert "holds a prior already; add --resume" in capsys.readouterr().err
    collapsed = Run(tmp_path / "collapsed")
    recipe = read_recipe(vq_recipe_file, {"fit.steps": "1", "fit.validate_every": "1"})
    collapsed.write_recipe(recipe)
    (collapsed.path / "best.safetensors").write_bytes(vq_run.best.read_bytes())
    same = CodeSet((np.zeros((50, GRID, GRID), dtype=np.int32),), {})
    monkeypatch.setattr(fit_prior_module, "code_set", lambda *_, **__: same)
    assert main(["fit-prior", str(collapsed.path)]) == 1
    told = capsys.readouterr().err
    assert "the codebook has collapsed" in told
    assert "perplexity of 1.00" in told
    assert not collapsed.link(0).path.exists()


def test_a_prior_needs_its_table_codes_and_one_size(
    vq_recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "crops"
    words = ["--fit.steps", "1"]
    text = vq_recipe_file.read_text().replace(f"size = {SIDE}", f"crop = {SIDE}")
    crops = tmp_path / "crops.toml"
    crops.write_text(text)
    assert main(["fit", str(crops), "--output", str(path), *words]) == 0
    assert main(["fit-prior", str(path)]) == 1
    assert "differ in size" in capsys.readouterr().err
    bare = tmp_path / "bare.toml"
    bare.write_text(text[: text.index("[prior]")])
    assert main(["fit", str(bare), "--output", str(tmp_path / "bare"), *words]) == 0
    assert main(["fit-prior", str(tmp_path / "bare")]) == 1
    assert "has no [prior] table" in capsys.readouterr().err


def test_a_model_without_codes_has_no_quantizer() -> None:
    from models.families.vae import ConvConfig, VAEConfig
    from models.networks import ImageShape
    from training.errors import RunError

    network = ConvConfig(encoder_channels=(4,), decoder_channels=(4,), hidden=8)
    model = VAEConfig(family="vae", latent=2, network=network).build(ImageShape(1, 4, 4))
    with pytest.raises(RunError, match="no codes"):
        codes_of(model)
