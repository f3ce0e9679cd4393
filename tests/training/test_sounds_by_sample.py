"""A model whose decoder gives a sound sample by sample, from a fit to an artifact whose graphs draw the same sound."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from artifact.codes import draw_codes
from artifact.line import Line
from artifact.store import Artifact, Store
from media.mu_law import classes, expanded
from models.autoregressive import AutoregressiveModel
from models.sound_likelihoods import FULL_SCALE, MuLawCategorical, mu_law
from training import draft
from training.data import load
from training.errors import RecipeError
from training.evaluate import evaluate_run
from training.export import export
from training.fit_model import fit
from training.parity import Graphs
from training.recipe import Recipe
from training.run import Run

RATE, CELL = 8000, 8


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder, random = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    for index in range(24):
        time = np.arange(random.integers(60, 120)) / RATE
        sound = 0.3 * np.sin(2 * np.pi * 500 * (1 + index % 2) * time) + 0.01 * random.standard_normal(len(time))
        soundfile.write(folder / f"{'ab'[index % 2]}_{index:02d}.wav", sound, RATE, subtype="PCM_16")
    return Recipe.model_validate(
        {
            "name": "toy-samples",
            "data": {
                "source": "audio-folder",
                "root": folder,
                "pattern": "(?P<speaker>[ab])_.*",
                "test_every": 4,
                "length": 96,
                "crop": 64,
            },
            "model": {
                "family": "sound-vqvae",
                "num_speakers": 2,
                "decoder": "wavenet",
                "wavenet": {
                    "features": 4,
                    "channels": 6,
                    "skip_channels": 8,
                    "cycles": 1,
                    "layers": 3,
                    "hidden": 8,
                },
                "network": {"encoder_channels": [4, 6, 8], "encoder_blocks": 1},
                "quantizer": {"num_embeddings": 8, "embedding_dim": 4},
                "likelihood": {"kind": "mu-law"},
            },
            "fit": {"steps": 12, "batch_size": 4, "warmup_steps": 2, "validate_every": 12, "device": "cpu"},
        }
    )


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("runs") / "toy-samples")
    fit(run, recipe, resume=False)
    return run


@pytest.fixture(scope="module")
def artifact(run: Run, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    splits = load(recipe.data)
    evaluate_run(run, splits, split="test", samples=1, seed=0, limit=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draft, "_LONGEST_DRAWN_S", 1)
        patch.setattr(draft, "PARITY_EXAMPLES", 50)
        return export(run, splits, Store(tmp_path_factory.mktemp("store")))


def test_the_manifest_says_how_it_decodes(artifact: Artifact) -> None:
    manifest = artifact.manifest
    assert manifest.decoder == "autoregressive"
    assert set(manifest.graphs) == {"encode", "embed", "decode_given", "decode_step", "log_likelihood"}
    step = manifest.graphs["decode_step"]
    assert [tensor.name for tensor in step.inputs] == ["code", "position", "cache_inputs", "given", "speaker"]
    assert [(tensor.name, tensor.shape) for tensor in step.outputs] == [
        ("logits", ("B", 256)),
        ("entry_inputs", ("B", 3, 6)),
    ]
    assert manifest.windows is not None
    assert manifest.windows.decode_halo >= 2, "a sample depends on the 8 before it, and on more by the features"


def test_the_bound_is_that_of_every_sample(artifact: Artifact, run: Run, recipe: Recipe) -> None:
    metrics = artifact.manifest.metrics
    splits = load(recipe.data)
    model = run.model(recipe, splits.train.shape)
    total = 0.0
    for index in range(len(splits.test)):
        sound = splits.test[index]
        x = torch.from_numpy(np.pad(sound, (0, -len(sound) % CELL)))[None]
        with torch.no_grad():
            z = model.bottleneck.point(model.encode(x))
            logits = model.decoder.logits(x, z).double().log_softmax(1)[0].T
        level = np.round(x[0].numpy() * FULL_SCALE)
        bent = np.sign(level) * np.log1p(255 * np.abs(level) / FULL_SCALE) / np.log(256)
        chosen = np.round((bent + 1) / 2 * 255).astype(int)
        sizes = MuLawCategorical().sizes.numpy()
        total += float(sum(logits[t, c] - np.log(sizes[c]) for t, c in enumerate(chosen[: len(sound)])))
    assert metrics["reconstruction_nats"] == pytest.approx(total / len(splits.test), rel=1e-6)
    assert metrics["mel_distance_db"] > 0


def test_steps_of_the_graphs_draw_what_their_parallel_pass_gives(artifact: Artifact, run: Run, recipe: Recipe) -> None:
    class Spec:
        def __init__(self, role: str) -> None:
            graph = artifact.manifest.graphs[role]
            self.role, self.file, self.outputs = role, graph.file, graph.outputs

    graphs = Graphs([Spec(role) for role in artifact.manifest.graphs], artifact.path)
    codes, speaker = np.array([[1, 5, 2]], dtype=np.int32), np.array([1])
    given = graphs.run("decode_given", {"codes": codes})["given"]
    uniform = np.random.default_rng(0).random(3 * CELL)
    line = Line("decode_step", artifact.manifest.graphs, (3 * CELL,), 2)
    line.join(1, {"uniform": uniform, "given": given[0], "speaker": speaker})
    while line.drawn[1] < line.places:
        role, feeds = line.call()
        line.proceed(graphs.run(role, feeds))
    model = run.model(recipe, load(recipe.data).train.shape)
    assert isinstance(model, AutoregressiveModel)
    x = expanded(line.codes[1:])
    with torch.no_grad():
        z = model.bottleneck.point({"codes": torch.from_numpy(codes)})
        logits = model.decoder.logits(torch.from_numpy(x), z, {"speaker": torch.from_numpy(speaker)})
    expected = draw_codes(logits[0].T.numpy(), uniform)
    assert np.array_equal(line.codes[1], expected)
    assert len(set(expected.tolist())) > 3


def test_a_piece_with_its_halo_is_as_likely_as_in_the_whole(artifact: Artifact) -> None:
    class Spec:
        role, file = "log_likelihood", artifact.manifest.graphs["log_likelihood"].file
        outputs = artifact.manifest.graphs["log_likelihood"].outputs

    assert artifact.manifest.windows is not None
    graphs, halo, places = Graphs([Spec()], artifact.path), artifact.manifest.windows.decode_halo, 40
    random = np.random.default_rng(0)
    x = random.uniform(-0.5, 0.5, (1, places * CELL)).astype(np.float32)
    codes, speaker = random.integers(0, 8, (1, places), dtype=np.int32), np.array([0])
    first = 20 - halo
    whole = graphs.run("log_likelihood", {"x": x, "codes": codes, "speaker": speaker})["log_p_x_given_z"]
    cut = {"x": x[:, first * CELL :], "codes": codes[:, first:], "speaker": speaker}
    piece = graphs.run("log_likelihood", cut)["log_p_x_given_z"]
    assert np.abs(piece[:, halo * CELL :] - whole[:, 20 * CELL :]).max() < 1e-4
    assert np.abs(piece[:, :1] - whole[:, first * CELL : first * CELL + 1]).max() > 1e-3, "without it, it is not"


def test_the_scale_is_that_of_the_likelihood() -> None:
    levels = np.arange(-FULL_SCALE, FULL_SCALE)
    assert np.array_equal(classes((levels / FULL_SCALE).astype(np.float32)), mu_law(torch.from_numpy(levels)).numpy())
    assert np.array_equal(expanded(np.arange(256, dtype=np.int32)), MuLawCategorical().centres.numpy())


def test_the_graph_knows_the_class_of_every_value(artifact: Artifact, run: Run, recipe: Recipe) -> None:
    class Spec:
        role, file = "log_likelihood", artifact.manifest.graphs["log_likelihood"].file
        outputs = artifact.manifest.graphs["log_likelihood"].outputs

    x = (np.arange(-FULL_SCALE, FULL_SCALE) / FULL_SCALE).astype(np.float32)[None]
    codes, speaker = np.zeros((1, x.shape[1] // CELL), dtype=np.int32), np.array([2])
    found = Graphs([Spec()], artifact.path).run("log_likelihood", {"x": x, "codes": codes, "speaker": speaker})
    model = run.model(recipe, load(recipe.data).train.shape)
    with torch.no_grad():
        params = model.weighing(torch.from_numpy(x), model.bottleneck.point({"codes": torch.from_numpy(codes)}))
        expected = model.likelihood.pixel_log_prob(torch.from_numpy(x), params)
    assert np.abs(found["log_p_x_given_z"] - expected.numpy()).max() < 1e-4


def test_a_likelihood_or_loss_that_does_not_fit_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    table = recipe.model_dump()
    table["model"]["likelihood"] = {"kind": "gaussian"}
    with pytest.raises(ValueError, match=r"set likelihood\.kind to 'mu-law'"):
        Recipe.model_validate(table)
    spectral = recipe.model_copy(update={"objective": recipe.objective.model_copy(update={"spectral_weight": 1.0})})
    with pytest.raises(RecipeError, match=r"spectral_weight .* set it to 0"):
        fit(Run(tmp_path / "other"), spectral, resume=False)
