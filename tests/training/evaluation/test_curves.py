"""Rate and distortion of models beside other codecs, from files to the numbers, the table and the picture."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from media.audio import write_wav
from training.cli import main
from training.evaluation.curves import Item, picture_curves, sound_curves
from training.evaluation.reconstruct import Reconstruction
from training.run import Run


class Copier:
    """A codec that loses nothing, at 2 bits for each value."""

    def each_rate(self, x, known):
        yield Reconstruction(1, x, {"raw": 2.0 * x.size})


def test_rates_and_means_of_files_of_differing_sizes() -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, shape).astype(np.uint8) for shape in ((40, 30, 3), (24, 24, 3))]

    curves = picture_curves("copier", "noise", Copier(), [Item(picture, {}) for picture in pictures])

    (own,) = curves.curves["copier, raw"]
    assert own.rate == pytest.approx(6.0)
    assert own.figures["ms_ssim"] == pytest.approx(1.0, abs=1e-5)
    assert set(curves.curves) == {"copier, raw", "JPEG", "WebP"}
    for points in (curves.curves["JPEG"], curves.curves["WebP"]):
        rates = [point.rate for point in points]
        assert rates == sorted(rates)
        assert points[0].figures["psnr_db"] < points[-1].figures["psnr_db"]


def test_sounds_beside_opus_with_and_without_its_container() -> None:
    t = np.arange(4000) / 8000
    sounds = [(0.3 * np.sin(2 * np.pi * hz * t) * np.hanning(4000)).astype(np.float32) for hz in (200, 330)]

    curves = sound_curves("copier", "tones", Copier(), [Item(sound, {}) for sound in sounds], 8000)

    assert curves.curves["copier, raw"][0].rate == pytest.approx(16.0)
    assert curves.curves["copier, raw"][0].figures["mel_distance_db"] == 0.0
    for packets, file in zip(curves.curves["Opus packets"], curves.curves["Opus in Ogg"], strict=True):
        assert packets.rate < file.rate
        assert packets.figures == file.figures
        assert math.isfinite(packets.figures["si_sdr_db"])


def test_a_run_is_measured_on_its_split_and_on_a_folder(
    vq_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(vq_run.path), "--limit", "3", "--curves"]) == 0
    measured = json.loads((vq_run.path / "curves.json").read_text())
    metrics = json.loads(vq_run.metrics_file.read_text())["metrics"]
    assert measured["files"] == 3
    for way in ("raw", "prior"):
        point = measured["curves"][f"bars-vq, {way}"][-1]
        assert point["rate"] == pytest.approx(metrics[f"{way}_bits_per_pixel"], rel=1e-5)
        assert point["figures"]["psnr_db"] == pytest.approx(metrics["psnr_db"], abs=1e-3)
    given = measured["curves"]["bars-vq, prior given label"][-1]
    assert given["rate"] == pytest.approx(metrics["prior_given_class_bits_per_pixel"], rel=1e-5)
    with Image.open(vq_run.path / "curves.png") as picture:
        assert picture.format == "PNG"
    assert "WebP" in capsys.readouterr().out

    folder = tmp_path / "own"
    folder.mkdir()
    Image.fromarray(np.full((19, 13, 3), 77, dtype=np.uint8)).save(folder / "a.png")
    assert main(["evaluate", str(vq_run.path), "--folder", str(folder)]) == 0
    own = json.loads((vq_run.path / "curves-own.json").read_text())
    # 10 x 7 codes of 16 for 19 x 13 pixels
    assert own["curves"]["bars-vq, raw"][0]["rate"] == pytest.approx(70 * 4 / (19 * 13))
    (vq_run.path / "curves.json").unlink()


def test_a_folder_without_files_is_told(vq_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.wav").write_bytes(write_wav(np.zeros(10, dtype=np.float32), sample_rate_hz=8000))
    assert main(["evaluate", str(vq_run.path), "--folder", str(tmp_path)]) == 1
    assert "holds no pictures" in capsys.readouterr().err
