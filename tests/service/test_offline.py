"""Files to containers and back without a server."""

import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codec.coded import read_coded
from codec.reading import read_any
from media.audio import write_wav
from service.offline import cli
from service.offline.files import write_whole
from tests.service.serving import picture, png
from tests.toys import exact, free, sounds, tokens
from tests.toys.exact_decoder import add_exact_decoder
from tests.toys.publish import publish

MODEL = tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)
TABLES = free.tables(MODEL, 5)
SOUNDS = sounds.make(2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("offline") / "store"
    publish(root, "free", exact.with_exact(free.toy(MODEL, TABLES)))
    add_exact_decoder(root / "free" / "1", MODEL)
    publish(root, "talk", exact.with_exact(sounds.toy(SOUNDS)))
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures in a folder and one below it, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.jpg", "below/a.png")):
        image = MODEL.images(1, 12, 8 + 4 * index, seed=index)[0]
        (folder / name).write_bytes(png(image, "jpeg" if name.endswith("jpg") else "png"))
    (folder / "notes.txt").write_text("no picture")
    return folder


def run(store: Path, *words: object) -> int:
    command, *others = map(str, words)
    return cli.main([command, "--store", str(store), *others])


def test_a_folder_goes_there_and_back(
    store: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    packed, again = tmp_path / "packed", tmp_path / "again"
    assert run(store, "compress", photos, "-o", packed, "--verify", "full") == 0
    names = sorted(str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file())
    assert names == ["a.png.latentd", "b.jpg.latentd", "below/a.png.latentd"]
    assert "3 of 3 files" in capfd.readouterr().out
    assert run(store, "decompress", packed, "-o", again) == 0
    assert sorted(str(path.relative_to(again)) for path in again.rglob("*.*")) == ["a.png", "b.png", "below/a.png"]
    image = picture((photos / "a.png").read_bytes())
    codes = MODEL.encode(image[None])
    expected = np.clip(np.rint(MODEL.decode(codes)), 0, 255)[0]
    assert np.array_equal(picture((again / "a.png").read_bytes()), expected)
    assert run(store, "inspect", packed) == 0
    said = capfd.readouterr().out
    assert said.count("profile prior") == 3
    assert said.count("all checksums are right") == 3
    assert "3 x 2 codes of 7" in said


def test_a_sound_and_a_picture_find_their_models(store: Path, photos: Path, tmp_path: Path) -> None:
    sound = SOUNDS.sound(1000)
    (tmp_path / "talk.wav").write_bytes(write_wav(sound, sample_rate_hz=8000))
    words = ("compress", tmp_path / "talk.wav", photos / "a.png", "-o", tmp_path / "packed", "--profile", "prior")
    assert run(store, *words) == 0
    assert run(store, "decompress", tmp_path / "packed", "-o", tmp_path / "again") == 0
    samples, rate_hz = soundfile.read(tmp_path / "again" / "talk.wav")
    expected = SOUNDS.decode(SOUNDS.encode(np.pad(sound, (0, 24))[None]))[0, :1000]
    assert rate_hz == 8000
    assert np.allclose(samples, expected, atol=2e-4)
    assert (tmp_path / "again" / "a.png").exists()


def test_a_picture_is_stored_to_the_bit(
    store: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    packed, again = tmp_path / "packed", tmp_path / "again"
    assert run(store, "compress", photos, "-o", packed, "--mode", "lossless") == 0
    assert run(store, "decompress", packed, "-o", again) == 0
    for name, other in (("a.png", "a.png"), ("b.jpg", "b.png"), ("below/a.png", "below/a.png")):
        assert np.array_equal(picture((again / other).read_bytes()), picture((photos / name).read_bytes()))
    assert run(store, "inspect", packed / "a.png.latentd") == 0
    said = capfd.readouterr().out
    assert "profile lossless-vq" in said
    assert "the original to the bit: 1 picture" in said


def test_a_sound_is_stored_to_the_bit(store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sound, packed = tmp_path / "a.flac", tmp_path / "a.latentd"
    soundfile.write(sound, SOUNDS.sound(700), 8000, subtype="PCM_16")
    assert run(store, "compress", sound, "-o", packed, "--mode", "lossless", "--verify", "full") == 0
    assert run(store, "inspect", packed) == 0
    assert "the original to the bit: 1 sound\n" in capfd.readouterr().out
    assert run(store, "decompress", packed, "-o", tmp_path / "b.wav") == 0
    samples, _ = soundfile.read(tmp_path / "b.wav", dtype="int16")
    assert np.array_equal(samples, (SOUNDS.sound(700) * 32768).astype(np.int16))


def test_files_are_not_written_over(
    store: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "one.latentd"
    target.write_text("mine")
    assert run(store, "compress", photos / "a.png", "-o", target) == 1
    assert target.read_text() == "mine"
    assert "add --force" in capfd.readouterr().err
    assert run(store, "compress", photos / "a.png", "-o", target, "--force", "--profile", "raw") == 0
    assert target.read_bytes()[4] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.latentd", "photos"]


def test_a_bad_file_does_not_keep_the_others(
    store: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.png").write_bytes(b"no png")
    packed = tmp_path / "packed"
    assert run(store, "compress", photos, "-o", packed) == 1
    said = capfd.readouterr()
    assert "bad.png" in said.err
    assert "3 of 4 files" in said.out
    (packed / "bad.latentd").write_bytes(b"\x8aLTDjunk")
    assert run(store, "decompress", packed, "-o", tmp_path / "again") == 1
    said = capfd.readouterr()
    assert "bad.latentd" in said.err
    assert "3 of 4 containers" in said.out
    assert run(store, "inspect", packed) == 1
    assert "wrong: the checksum" in capfd.readouterr().out


def test_damage_is_told_and_mended(store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tall.png").write_bytes(png(MODEL.images(1, 36, 40, seed=3)[0]))
    packed = tmp_path / "tall.latentd"
    words = ("compress", tmp_path / "tall.png", "-o", packed, "--chunk-rows", 3, "--profile", "prior")
    assert run(store, *words) == 0
    data = bytearray(packed.read_bytes())
    data[data.index(read_coded(bytes(data)).chunks[1].payload)] ^= 1
    packed.write_bytes(bytes(data))
    assert run(store, "decompress", packed, "-o", tmp_path / "no.png") == 1
    assert not (tmp_path / "no.png").exists()
    assert run(store, "inspect", packed) == 1
    assert "damaged chunks, counted from 0: 1" in capfd.readouterr().out
    assert run(store, "decompress", packed, "-o", tmp_path / "yes.png", "--salvage") == 1
    assert "12 .. 23 is lost" in capfd.readouterr().err
    assert picture((tmp_path / "yes.png").read_bytes()).shape == (36, 40, 3)


def test_words_that_do_not_go_together_are_told(
    store: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "a.jpg").write_bytes((photos / "b.jpg").read_bytes())
    assert run(store, "compress", photos, "-o", tmp_path / "packed") == 0
    cases: list[tuple[tuple[object, ...], int, str]] = [
        (("compress", tmp_path / "nobody.png", "-o", "x"), 2, "is not there"),
        (("compress", photos / "below", photos, "-o", tmp_path / "x"), 2, "would both become"),
        (("decompress", tmp_path / "packed", "-o", tmp_path / "x"), 2, "would both become"),
        (("compress", photos / "notes.txt", "-o", tmp_path / "x"), 2, "files that end in .png"),
        (("compress", photos / "a.png", "-o", tmp_path / "x", "--model", "nobody"), 1, "no model 'nobody'"),
        (("compress", photos / "a.png", "-o", tmp_path / "x", "--chunk-rows", "0"), 1, "chunk_rows"),
        (("inspect", photos), 2, "no file that ends in .latentd"),
    ]  # fmt: skip
    for words, status, told in cases:
        assert run(store, *words) == status, words
        assert told in capfd.readouterr().err


def test_a_file_that_cannot_be_written_whole_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_whole(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_it_cleanly(store: Path, photos: Path, tmp_path: Path) -> None:
    for index in range(1000):
        (photos / f"{index}.png").write_bytes(png(MODEL.images(1, 64, 64, seed=index)[0]))
    packed = tmp_path / "packed"
    words = [sys.executable, "-m", "service", "compress", str(photos), "-o", str(packed), "--store", str(store)]
    # Who runs the tests in the background of a shell ignores ctrl-C, and what is started inherits that.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, **pipes, text=True, preexec_fn=heeding) as process:
        waiting = threading.Event()
        while process.poll() is None and not packed.exists():
            waiting.wait(0.001)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; what was written is whole" in said
    assert "Traceback" not in said
    written = [path for path in packed.rglob("*") if path.is_file()]
    assert all(path.suffix == ".latentd" for path in written)
    assert 0 < len(written) < 1000
    for path in written:
        read_any(path.read_bytes())
