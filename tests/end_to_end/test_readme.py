"""The README as a newcomer would use it: a server in a process of its own, and every curl line, in order."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
CURL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LATENTD_")}
    log = (tmp_path_factory.mktemp("log") / "log").open("wb")
    with (
        log,
        subprocess.Popen(
            [sys.executable, "-m", "service"], cwd=ROOT, stderr=log, env=environment | {"LATENTD_PORT": str(port)}
        ) as process,
    ):
        for _ in range(600):
            ready = subprocess.run(["curl", "-sf", f"localhost:{port}/readyz"], capture_output=True, check=False)
            if ready.returncode == 0 or process.poll() is not None:
                break
            time.sleep(0.05)
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def wait_for_job(address: str) -> None:
    for _ in range(600):
        answer = subprocess.run(["curl", "-sS", address], capture_output=True, text=True, check=True).stdout
        if json.loads(answer)["state"] not in ("queued", "running"):
            return
        time.sleep(0.05)


def test_every_curl_line_answers(port: int, tmp_path: Path) -> None:
    assert len(CURL) >= 20
    endpoints = {"/sample", "/encode", "/decode", "/reconstruct", "/likelihood", "/compress", "/decompress"}
    assert endpoints | {"/models", "/metrics", "/docs"} <= {
        match[0] for line in CURL for match in [re.search(r"(?<=localhost:8000)/[a-z]+", line)] if match
    }
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    printed = []
    for line in CURL:
        words = [word.replace("localhost:8000", f"127.0.0.1:{port}") for word in shlex.split(line)]
        if "{id}" in line:
            job = json.loads((tmp_path / "job.json").read_text())["id"]
            words = [word.replace("{id}", job) for word in words]
            wait_for_job(f"127.0.0.1:{port}/jobs/{job}")
        answer = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, (line, answer.stdout, answer.stderr)
        printed.append(answer.stdout)
    for name in ("digit.png", "decoded.png", "reconstruction.png"):
        with Image.open(tmp_path / name) as image:
            assert image.size == (28, 28)
    with Image.open(ROOT / "docs" / "cat.png") as cat:
        for name in ("reconstructed-cat.png", "cat-again.png"):
            with Image.open(tmp_path / name) as image:
                assert image.size == cat.size
        tokens = -(-cat.width // 4) * -(-cat.height // 4)
    assert np.load(tmp_path / "codes.npz")["codes"].size == tokens
    assert 0 < (tmp_path / "cat.latentd").stat().st_size < 0.8 * 9 * tokens / 8, "coded under the prior"
    assert np.load(tmp_path / "codebook.npy").shape == (512, 8)
    with Image.open(tmp_path / "horses.png") as image:
        assert min(image.size) >= 4 * 32
    *_, drawn = (tmp_path / "drawn.events").read_text().strip().split("\n\n")
    assert drawn.startswith("event: result\ndata: ")
    assert len(json.loads(drawn.partition("data: ")[2])["items"]) == 64
    with Image.open(tmp_path / "later.png") as image:
        assert min(image.size) >= 8 * 32
    with Image.open(tmp_path / "surprise.png") as image:
        assert image.size == (32, 32)
    (codes,) = json.loads(next(text for text in printed if "bits_per_token" in text))["items"]
    assert codes["prior"] == "learned"
    assert codes["elbo_nats"] == pytest.approx(codes["reconstruction_nats"] - codes["kl_nats"])
    assert np.load(tmp_path / "images.npy").shape == (2, 28, 28, 1)
    assert np.load(tmp_path / "row-5.npy").shape == (1, 28, 28, 1)
    (likelihood,) = json.loads(next(text for text in printed if '"iwae_nats":-' in text))["items"]
    assert likelihood["iwae_nats"] >= likelihood["elbo_nats"] > -300


def test_every_block_of_python_runs(port: int) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert blocks
    for block in blocks:
        program = block.replace("localhost:8000", f"127.0.0.1:{port}")
        ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        (told,) = re.findall(r"print\(.*\)  # (.*)", block)
        assert ended.stdout == f"{told}\n"


def test_the_recipes_and_pictures_that_the_readme_names_are_there() -> None:
    named = re.findall(r"(?:training/recipes|pretrained)/[\w./-]+\.(?:toml|png)", README)
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path
