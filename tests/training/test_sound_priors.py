"""Priors over the codes of sounds: what they are fitted to, and what whole recordings cost under them."""

import math

import numpy as np
import pytest
import torch

from models.chain import Chain, link_grids
from models.families.sound_vqvae import SoundVQVAEConfig
from models.families.transformer import TransformerConfig
from models.families.wavenet import WaveNetConfig
from models.model import LatentVariableModel
from models.networks import SoundShape
from training.code_sets import code_set
from training.data import ImageArray, Recordings, Splits
from training.errors import RecipeError, RunError
from training.evaluate_codes import evaluate_codes
from training.evaluation import judge as judging
from training.evaluation.classifier import ClassifierConfig
from training.evaluation.curves import Item, sound_curves
from training.evaluation.reconstruct import Reconstructor
from training.graphs.prior import Asked
from training.links import codes_of

RATE, K, PLACE = 8000, 8, 64
LENGTHS = (150, 64, 300)
CONDITIONS = {"label": 3, "speaker": 2}


@pytest.fixture(scope="module")
def model() -> LatentVariableModel:
    config = SoundVQVAEConfig.model_validate(
        {
            "family": "sound-vqvae",
            "num_speakers": 2,
            "network": {
                "encoder_channels": [4, 4, 4, 4, 4, 4],
                "decoder_channels": [4, 4],
                "encoder_blocks": 1,
                "decoder_blocks": 1,
            },
            "quantizer": {"num_embeddings": K, "embedding_dim": 2},
        }
    )
    torch.manual_seed(0)
    model = config.build(SoundShape(512))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def recordings() -> Recordings:
    random = np.random.default_rng(0)
    sounds = tuple((0.2 * random.standard_normal(length)).clip(-1, 1).astype(np.float32) for length in LENGTHS)
    conditions = {"label": np.array([2, 0, 1]), "speaker": np.array([1, 0, 1])}
    return Recordings(sounds, 512, RATE, crop=256, conditions=conditions)


def chain(model: LatentVariableModel, config: WaveNetConfig | TransformerConfig, length: int) -> Chain:
    torch.manual_seed(1)
    (grid,) = link_grids(codes_of(model), (length,))
    return Chain([config.build(grid, (), CONDITIONS)], [grid]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def wavenet(model: LatentVariableModel) -> Chain:
    found = chain(model, WaveNetConfig(channels=8, skip_channels=8, cycles=1, layers=3, hidden=8), 6)
    for parameter in found.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return found


def filled(sound: np.ndarray, places: int) -> torch.Tensor:
    return torch.from_numpy(np.pad(sound, (0, places * PLACE - len(sound))))[None]


def test_sounds_begun_later_are_encoded_behind_the_others(model: LatentVariableModel, recordings: Recordings) -> None:
    found = code_set(model, codes_of(model), recordings, {"label": np.array([2, 0, 1])}, 4, shifts=4)
    assert found.labels["label"].tolist() == [2, 0, 1] * 4
    (grids,) = found.grids
    for shift in range(4):
        for index, sound in enumerate(recordings.sounds):
            grid = grids[3 * shift + index]
            expected = model.encode(filled(sound[16 * shift :], len(grid)))["codes"][0]
            assert len(grid) == max(4, math.ceil(len(sound) / PLACE))
            assert grid.tolist() == expected.tolist()


def test_more_beginnings_than_samples_or_of_pictures_are_refused(
    model: LatentVariableModel, recordings: Recordings
) -> None:
    with pytest.raises(RecipeError, match=r"prior\.shifts is 65, expected at most 64"):
        code_set(model, codes_of(model), recordings, {}, 4, shifts=65)
    pictures = ImageArray(np.zeros((2, 64, 64, 1), dtype=np.uint8))
    with pytest.raises(RecipeError, match="for sounds alone: leave it out"):
        code_set(model, codes_of(model), pictures, {}, None, shifts=2)


def test_whole_recordings_cost_the_bits_of_their_own_codes(
    model: LatentVariableModel, recordings: Recordings, wavenet: Chain
) -> None:
    """Of their own length, which is none that the prior draws: no silence counts as codes, and none as time."""
    (link,) = wavenet
    bits, tokens = {"prior": 0.0, "prior_given_class": 0.0}, 0
    for index, sound in enumerate(recordings.sounds):
        places = math.ceil(len(sound) / PLACE)
        codes = model.encode(filled(sound, places))["codes"]
        known = {name: torch.from_numpy(labels[index : index + 1]) for name, labels in recordings.conditions.items()}
        for name, conditions in (("prior", {}), ("prior_given_class", known)):
            for place in range(places):  # one after the other, from the codes before it alone
                logits = link(codes[:, : place + 1], None, conditions)[0, :, place].double()
                bits[name] -= float(logits.log_softmax(0)[int(codes[0, place])]) / math.log(2)
        tokens += places
    seconds = sum(LENGTHS) / RATE

    metrics = evaluate_codes(model, codes_of(model), wavenet, recordings)

    assert metrics["tokens"] == tokens == 3 + 1 + 5
    assert metrics["raw_kbit_per_s"] == pytest.approx(3 * tokens / seconds / 1000)
    for name, expected in bits.items():
        assert metrics[f"{name}_bits_per_token"] == pytest.approx(expected / tokens, rel=1e-5)
        assert metrics[f"{name}_kbit_per_s"] == pytest.approx(expected / seconds / 1000, rel=1e-5)

    items = [
        Item(sound, {name: torch.from_numpy(of[i : i + 1]) for name, of in recordings.conditions.items()})
        for i, sound in enumerate(recordings.sounds)
    ]
    curves = sound_curves("toy", "noise", Reconstructor(model, wavenet), items, RATE).curves
    given = "given label and speaker"
    for name, key in (("raw", "raw"), ("prior", "prior"), (f"prior {given}", "prior_given_class")):
        assert curves[f"toy, {name}"][0].rate == pytest.approx(metrics[f"{key}_kbit_per_s"], rel=1e-5)
    for how in ("raw", "prior"):
        for name, key in ((how, "mel_distance_db"), (f"{how} {given}", "mel_distance_db_given_speaker")):
            found = curves[f"toy, {name}"][0].figures["mel_distance_db"]
            assert found == pytest.approx(metrics[key], rel=1e-3), "decoded with what the name says"


def test_a_transformer_knows_how_its_sequences_begin_and_no_longer_ones(
    model: LatentVariableModel, recordings: Recordings
) -> None:
    short = chain(model, TransformerConfig(channels=8, heads=2, layers=1), 3)
    (link,) = short
    codes = torch.tensor([[3, 1, 5]])
    whole = link(codes)[0].double().log_softmax(0)
    expected = float(whole[3, 0] + whole[1, 1])
    assert float(link.log_prob(codes[:, :2])) == pytest.approx(expected, rel=1e-5)
    assert short.covers((codes[:, :2],))
    assert not short.covers((torch.zeros(1, 4),))
    with pytest.raises(RunError, match="example 2 has 5 codes, and the prior knows at most 3"):
        evaluate_codes(model, codes_of(model), short, recordings)


def test_samples_are_decoded_with_the_voice_that_was_asked_for(
    model: LatentVariableModel, recordings: Recordings, wavenet: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Asked] = []
    told: list[dict[str, torch.Tensor]] = []
    decode = model.mean

    def draw(chain: Chain, request: Asked) -> list[np.ndarray]:
        asked.append(request)
        return [np.zeros((request.count, 6), dtype=np.int32)]

    def mean(point: torch.Tensor, conditions: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        if point.shape[-1] == 6:
            told.append(dict(conditions or {}))
        return decode(point, conditions)

    monkeypatch.setattr(judging, "draw", draw)
    monkeypatch.setattr(model, "mean", mean)
    splits = Splits(
        recordings, recordings, recordings, name="toys", source="", licence="",
        conditions={"label": ("a", "b", "c"), "speaker": ("x", "y")},
    )  # fmt: skip
    config = ClassifierConfig(channels=(2, 2), seconds=0.1)
    classifier = config.build(3, modality="audio", sample_rate_hz=RATE).eval().requires_grad_(False)
    figures = judging.judge(model, wavenet, splits, recordings, classifier, ("a", "b", "c"), 3, seed=5)
    assert [sorted(request.conditions) for request in asked] == [["label"], ["label", "speaker"]]
    assert asked[1].conditions["label"].tolist() == [0, 1, 2]
    for request, given in zip(asked, told, strict=True):
        assert {n: of.tolist() for n, of in given.items()} == {n: of.tolist() for n, of in request.conditions.items()}
    for kind in ("reconstructions", "samples"):
        for given in ("", "_given_speaker"):
            assert {f"accuracy_on_{kind}{given}", f"frechet_distance_of_{kind}{given}"} <= figures.keys()
    other = config.build(3, modality="audio", sample_rate_hz=16000)
    with pytest.raises(RunError, match="hears 16000 samples a second, toys has 8000"):
        judging.judge(model, wavenet, splits, recordings, other, ("a", "b", "c"), 3, seed=5)
