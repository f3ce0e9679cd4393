"""A model of sounds from recordings to an artifact: fit, evaluation, graphs and parity."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file

from artifact.golden import read as read_golden
from artifact.store import Artifact, Store
from training import draft
from training.data import load
from training.errors import RecipeError
from training.evaluate import evaluate_run
from training.export import export
from training.fit_model import ModelTask, fit
from training.parity import Graphs
from training.recipe import Recipe
from training.run import Run

RATE = 8000
SPEAKERS = ("ann", "bob")
LONGEST_S = 2


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write tones whose pitch is the digit and whose timbre is the speaker."""
    folder = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    for digit in range(3):
        for overtone, speaker in enumerate(SPEAKERS):
            for index in range(10):
                time = np.arange(random.integers(150, 700)) / RATE
                tone = np.sin(2 * np.pi * 300 * (digit + 1) * time) + 0.5 * np.sin(4000 * (overtone + 1) * time)
                sound = 0.2 * tone + 0.01 * random.standard_normal(len(time))
                soundfile.write(folder / f"{digit}_{speaker}_{index}.wav", sound, RATE, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def recipe(recordings: Path) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "toy-speech",
            "data": {"source": "fsdd", "root": recordings, "length": 512, "crop": 256},
            "model": {
                "family": "sound-vqvae",
                "num_speakers": 2,
                "network": {
                    "encoder_channels": [4, 6, 8, 8, 8, 8],
                    "decoder_channels": [8, 8, 6],
                    "encoder_blocks": 1,
                    "decoder_blocks": 1,
                },
                "quantizer": {"num_embeddings": 16, "embedding_dim": 4},
            },
            "objective": {"spectral_weight": 1.0},
            "fit": {
                "steps": 30,
                "batch_size": 8,
                "warmup_steps": 2,
                "validate_every": 15,
                "checkpoint_every": 10,
                "device": "cpu",
            },
        }
    )


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("runs") / "toy-speech")
    progress = fit(run, recipe, resume=False)
    assert progress.step == 30
    assert progress.figures["spectral_nats"] > 0
    return run


@pytest.fixture(scope="module")
def artifact(run: Run, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    splits = load(recipe.data)
    evaluate_run(run, splits, split="test", samples=1, seed=0, limit=None)
    store = Store(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        # Of as much as a real export measures the fixture would take long.
        patch.setattr(draft, "_LONGEST_S", LONGEST_S)
        patch.setattr(draft, "PARITY_EXAMPLES", 50)
        export(run, splits, store)
    return store.open("toy-speech")


def test_a_fit_that_broke_off_goes_on_to_identical_weights(
    recipe: Recipe, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, batch = Run(tmp_path / "broken"), ModelTask.batch

    def break_off(task: ModelTask, step: int) -> tuple[torch.Tensor, ...]:
        if step == 17:
            raise OSError("the disk is full")
        return batch(task, step)

    monkeypatch.setattr(ModelTask, "batch", break_off)
    with pytest.raises(OSError, match="disk is full"):
        fit(broken, recipe, resume=False)
    monkeypatch.undo()
    assert fit(broken, recipe, resume=True).step == 30
    expected, found = load_file(run.last), load_file(broken.last)
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_figures_of_a_split(artifact: Artifact) -> None:
    metrics = artifact.manifest.metrics
    assert metrics["examples"] == 30
    assert metrics["raw_kbit_per_s"] == pytest.approx(4 * RATE / 64 / 1000, rel=0.2), "padding costs codes as well"
    assert metrics["mel_distance_db"] > 0
    assert {"si_sdr_db", "si_sdr_db_given_speaker", "mel_distance_db_given_speaker"} <= metrics.keys()
    assert metrics["bits_per_dim"] < 17


def test_the_manifest_says_what_it_takes(artifact: Artifact) -> None:
    manifest = artifact.manifest
    assert manifest.geometry.model_dump() == {
        "modality": "audio",
        "sample_rate_hz": RATE,
        "length": None,
        "multiple_of": 64,
        "maximum": LONGEST_S * RATE,
    }
    assert manifest.conditions == {"speaker": SPEAKERS}
    assert manifest.windows is not None
    assert manifest.windows.encode_halo >= 63
    assert [tensor.name for tensor in manifest.graphs["decode"].inputs] == ["codes", "speaker"]
    assert [tensor.shape for tensor in manifest.graphs["encode"].outputs] == [("B", "t")]
    assert manifest.graphs["log_likelihood"].outputs[0].shape == ("B", "T")
    assert soundfile.info(artifact.path / "reconstructions.wav").frames == 16 * 512


def test_the_graphs_give_their_golden_outputs_again(artifact: Artifact) -> None:
    class Spec:
        def __init__(self, role: str) -> None:
            graph = artifact.manifest.graphs[role]
            self.role, self.file, self.outputs = role, graph.file, graph.outputs

    graphs = Graphs([Spec(role) for role in artifact.manifest.graphs], artifact.path)
    assert read_golden(artifact).check(graphs.run).errors.keys() == artifact.manifest.graphs.keys()
    x = np.zeros((1, 1280), dtype=np.float32)
    codes = graphs.run("encode", {"x": x})["codes"]
    assert codes.shape == (1, 20)
    assert graphs.run("decode", {"codes": codes, "speaker": np.array([0])})["mean"].shape == (1, 1280)


def test_another_speaker_is_another_voice(artifact: Artifact, run: Run, recipe: Recipe) -> None:
    class Spec:
        def __init__(self, role: str) -> None:
            graph = artifact.manifest.graphs[role]
            self.role, self.file, self.outputs = role, graph.file, graph.outputs

    graphs, splits = Graphs([Spec("encode"), Spec("decode")], artifact.path), load(recipe.data)
    x = np.pad(splits.test[0], (0, -len(splits.test[0]) % 64))[None]
    codes = graphs.run("encode", {"x": x})["codes"]
    voices = [graphs.run("decode", {"codes": codes, "speaker": np.array([speaker])})["mean"] for speaker in range(3)]
    model = run.model(recipe, splits.train.shape)
    with torch.no_grad():
        for speaker, voice in enumerate(voices):
            expected = model.reconstruct(torch.from_numpy(x), {"speaker": torch.tensor([speaker])})
            assert np.allclose(voice, expected.numpy(), atol=1e-4), speaker
        assert np.allclose(voices[2], model.reconstruct(torch.from_numpy(x)).numpy(), atol=1e-4), "none is the default"
    assert not np.allclose(voices[0], voices[1])
    assert not np.allclose(voices[0], voices[2])


def test_as_many_speakers_as_the_data_have(recipe: Recipe, tmp_path: Path) -> None:
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update={"num_speakers": 3})})
    with pytest.raises(RecipeError, match=r"set model\.num_speakers to 2"):
        fit(Run(tmp_path / "other"), other, resume=False)


def test_the_official_split(recipe: Recipe) -> None:
    splits = load(recipe.data)
    assert len(splits.test) == 30
    assert len(splits.train) + len(splits.validation) == 30
    assert splits.conditions == {"label": ("0", "1", "2"), "speaker": SPEAKERS}
    assert np.bincount(splits.test.conditions["speaker"]).tolist() == [15, 15]
    assert np.bincount(splits.test.conditions["label"]).tolist() == [10, 10, 10]
