"""Sounds of one's own: any rate and channels, classes by folder or name, splits; and the digits' archive."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from training.data import DataConfig, Recordings, Splits, fsdd, load
from training.data.gallery import SOUNDS, open_gallery
from training.errors import DataError

PATTERN = "(?P<label>[0-9])_(?P<speaker>[a-z]+)_.*"


def tone(frames: int, *, rate: int = 8000, channels: int = 1, kind: str = "WAV") -> bytes:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(frames) / rate)
    content = io.BytesIO()
    soundfile.write(content, np.repeat(wave[:, None], channels, axis=1), rate, subtype="PCM_16", format=kind)
    return content.getvalue()


def filled(folder: Path, names: list[str]) -> Path:
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tone(100 + index))
    return folder


def config(folder: Path, **table: object) -> DataConfig:
    return DataConfig.model_validate({"source": "audio-folder", "root": folder, "length": 256, "crop": 64} | table)


def lengths(splits: Splits) -> list[list[int]]:
    return [[len(one[i]) for i in range(len(one))] for one in (splits.train, splits.validation, splits.test)]


def test_any_rate_channels_and_format(tmp_path: Path) -> None:
    filled(tmp_path, [f"{index}.wav" for index in range(8)])
    (tmp_path / "8.FLAC").write_bytes(tone(1000, rate=16000, channels=2, kind="FLAC"))
    (tmp_path / "notes.txt").write_text("no sound")
    splits = load(config(tmp_path, test_every=8))
    assert isinstance(splits.test, Recordings)
    assert [len(sound) for sound in splits.test.sounds] == [100, 500]
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(500) / 8000)
    assert np.abs(splits.test.sounds[1] - expected)[50:-50].max() < 2e-3
    assert splits.conditions == {}
    assert splits.train.batch(np.array([0, 1]), np.random.default_rng(0)).shape == (2, 64)


def test_folders_are_classes(tmp_path: Path) -> None:
    filled(tmp_path, [f"{name}/{index}.wav" for name in ("cow", "dog") for index in range(10)])
    splits = load(config(tmp_path, test_every=5, validation_fraction=0.25))
    assert splits.conditions == {"label": ("cow", "dog")}
    assert lengths(splits)[2] == [100, 105, 110, 115]
    assert splits.test.conditions["label"].tolist() == [0, 0, 1, 1]


def test_names_tell_conditions_and_an_archive_is_as_good(tmp_path: Path) -> None:
    names = [f"{digit}_{speaker}_{index}.wav" for digit in (3, 7) for speaker in ("bob", "ann") for index in range(5)]
    folder = filled(tmp_path / "own", names)
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for name in names:
            archive.write(folder / name, f"own/{name}")
    for source, root in (("audio-folder", folder), ("audio-zip", tmp_path / "own.zip")):
        splits = load(config(root, source=source, pattern=PATTERN, test_fraction=0.2))
        assert splits.conditions == {"label": ("3", "7"), "speaker": ("ann", "bob")}
        assert [len(part) for part in lengths(splits)] == [14, 2, 4]
        for split in (splits.train, splits.validation, splits.test):
            for index in range(len(split)):
                name = names[len(split[index]) - 100]
                classes = {"label": "37".index(name[0]), "speaker": ("ann", "bob").index(name[2:5])}
                assert {key: value[index] for key, value in split.conditions.items()} == classes


@pytest.mark.parametrize(
    ("names", "table", "message"),
    [
        (["a.txt"], {}, r"holds no sounds \(\.flac, \.wav\)"),
        (
            [*(f"3_ann_{index}.wav" for index in range(9)), "other.wav"],
            {"pattern": PATTERN},
            r"other\.wav has no label by data\.pattern",
        ),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, names: list[str], table: dict[str, str], message: str) -> None:
    filled(tmp_path, names)
    with pytest.raises(DataError, match=message):
        load(config(tmp_path, **table))


def test_a_damaged_sound_is_told_by_name(tmp_path: Path) -> None:
    filled(tmp_path, [f"{index}.wav" for index in range(20)])
    (tmp_path / "7.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"7\.wav: .*mend or remove it"):
        load(config(tmp_path))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "[a-z]+"}, "no named group"),
        ({"size": 8}, "have no size and no flip"),
        ({"flip": True}, "have no size and no flip"),
        ({"length": None}, "what sources of sounds need"),
        ({"root": None}, "needs root"),
        ({"source": "fsdd", "test_every": 2}, "test split of its own"),
        ({"source": "fsdd", "pattern": PATTERN}, "for sources 'audio-folder' and 'audio-zip'"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path: Path, table: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(tmp_path, **table)


def test_the_digits_are_fetched_and_their_content_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "v1.zip", "w") as archive:
        for digit in range(2):
            for index in range(10):
                archive.writestr(f"set-1/recordings/{digit}_ann_{index}.wav", tone(100 + index))
        archive.writestr("set-1/other.wav", tone(10))
    monkeypatch.setattr(fsdd, "download", lambda *_: tmp_path / "v1.zip")
    table = DataConfig(source="fsdd", length=256)
    with pytest.raises(DataError, match=r"sha256 of its recordings is .* remove it and get it again"):
        load(table)
    with open_gallery("zip", tmp_path / "v1.zip", SOUNDS) as gallery:
        names = [name for name in gallery.names if "recordings" in name]
        monkeypatch.setattr(fsdd, "CHECKSUM", fsdd.checksum(names[::-1], gallery))
    splits = load(table)
    assert lengths(splits)[2] == [100, 101, 102, 103, 104] * 2
    assert splits.conditions == {"label": ("0", "1"), "speaker": ("ann",)}
    assert len(splits.train) + len(splits.validation) == 10
