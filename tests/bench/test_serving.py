"""The benchmark of serving: its model, its books and its verdicts; nothing here depends on how fast anything is."""

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
from PIL import Image

from artifact.store import Store
from bench import bench_serving
from bench.serving import cases, rounds
from bench.serving.contenders import CONTENDERS, LATENTD, Contender, Question
from bench.serving.limits import BARE, LIMITS, verdicts
from bench.serving.make_model import NAME, publish
from bench.serving.plot import plot
from bench.serving.processes import cpu_s, descendants, running
from bench.serving.subject import PICTURE, STORES, Subject, subject
from bench.serving.table import claims, table

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_):
        pass

answer = open(sys.argv[2], "rb").read()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def encoder():
    with subject("bench-encoder", 1) as found:
        yield found


def test_the_model_is_small_and_computes_what_another_runtime_does(encoder: Subject):
    artifact = Store(STORES["bench-encoder"]).open("bench-encoder")
    assert sum(path.stat().st_size for path in artifact.path.iterdir()) < 1_000_000
    assert artifact.manifest.capabilities == ("encode",)

    with Image.open(PICTURE) as picture:
        x = np.asarray(picture)[None]
    assert x.shape == (1, 64, 64, 3)
    (expected, _) = onnx.reference.ReferenceEvaluator(onnx.load(artifact.file("encode"))).run(None, {"x": x})
    assert encoder.expected().shape == (1, 32)
    np.testing.assert_allclose(encoder.expected(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_model_is_the_one_that_its_script_makes(tmp_path, encoder: Subject):
    publish(Store(tmp_path))
    made = Subject(NAME, tmp_path, tmp_path / NAME / "1" / "encode.onnx", encoder.output, 1)
    np.testing.assert_allclose(made.expected(), encoder.expected(), rtol=1e-5, atol=1e-5)


def figures(**latentd: float) -> dict[str, dict[str, list[float]]]:
    found = {"many": 900.0, "one": 0.5, "batches": 950.0, "png": 850.0, "idle": 0.5} | latentd
    return {
        BARE: {"many": [900, 1000, 5000], "one": [0.2, 0.2, 9.0], "batches": [1000.0], "png": [1000.0]},
        LATENTD: {case: [value] for case, value in found.items()},
        "mosec, 2 ms": {"many": [900.0], "one": [3.0]},
        "mosec, 10 ms": {"many": [800.0], "one": [11.0]},
        "LitServe": {"many": [180.0], "one": [2.0]},
    }


@pytest.mark.parametrize(
    ("worse", "missed"),
    [
        ({}, []),
        ({"many": 879.0}, ["32 connections: of bare ONNX Runtime's best", "32 connections: of mosec's best setting",
                           "32 connections: times LitServe"]),
        ({"many": 899.0}, ["32 connections: of mosec's best setting", "32 connections: times LitServe"]),
        ({"one": 0.61}, ["one connection: p50 over a bare run, ms"]),
        ({"batches": 949.0}, ["batches of 64: of bare ONNX Runtime's best"]),
        ({"png": 849.0}, ["PNG: of what decoding and runtime allow"]),
        ({"idle": 1.01}, ["idle: % of a core"]),
    ],
)  # fmt: skip
def test_each_limit_is_judged_by_medians(worse, missed):
    judged = verdicts(figures(**worse))
    assert [limit.text for limit, value in judged if not limit.holds(value)] == missed
    assert claims(judged).count("| NO |") == len(missed)
    assert claims(judged).count("| yes |") == len(LIMITS) - len(missed)


def test_what_was_not_measured_is_not_judged():
    results = figures()
    del results["LitServe"], results["mosec, 2 ms"], results["mosec, 10 ms"], results[LATENTD]["idle"]
    assert len(verdicts(results)) == len(LIMITS) - 3


def test_the_table_has_medians_and_extremes():
    lines = table(figures(), cases.CASES).splitlines()
    assert lines[2].startswith(f"| {BARE} | 1,000 (900 to 5,000) | 0.20 (0.20 to 9.00) | 1,000 | 1,000 | – |")
    assert len(lines) == 2 + 5


def test_the_plot_is_a_picture(tmp_path):
    plot(figures(), "a setting", tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size[0] > picture.size[1] > 100


def contender(script, answer, name="some server") -> Contender:
    def ask(_: Subject) -> Question:
        return Question("/", b"picture", {})

    def command(_: Subject, port: int) -> list[str]:
        return [sys.executable, str(script), str(port), str(answer)]

    return Contender(
        name, "peer", command, {"many": ask, "one": ask}, lambda body, _: np.frombuffer(body, np.float32)[None]
    )


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return path


def test_who_answers_like_bare_onnx_runtime_is_measured_and_who_does_not_is_left_out(encoder, script, tmp_path, capsys):
    (tmp_path / "right").write_bytes(encoder.expected().tobytes())
    (tmp_path / "wrong").write_bytes((encoder.expected() + 0.001).tobytes())
    (tmp_path / "broken.py").write_text("raise SystemExit('no such framework')")
    contenders = [
        contender(script, tmp_path / "right", "right"),
        contender(script, tmp_path / "wrong", "wrong"),
        contender(tmp_path / "broken.py", "", "broken"),
    ]
    one = [case for case in cases.CASES if case.key == "one"]
    found = rounds.measure(encoder, contenders, one, with_bare=True, runs=2, seconds=0.05)

    assert {name: list(map(len, figures.values())) for name, figures in found.items()} == {BARE: [2], "right": [2]}
    assert all(value > 0 for value in found["right"]["one"])
    notices = capsys.readouterr().err
    assert "wrong is left out: it answers" in notices
    assert "broken is left out: not ready (exit status 1):\nno such framework" in notices


def test_a_peer_that_cannot_be_installed_is_left_out(monkeypatch, capsys):
    def fail(name: str) -> None:
        if name == "ray":
            raise rounds.InstallError("no matching distribution")

    monkeypatch.setattr(rounds, "install", fail)
    there = rounds.installed(CONTENDERS)
    assert [one.group for one in there] == [LATENTD, "mosec", "mosec", "litserve", "bentoml"]
    assert "Ray Serve is left out: it cannot be installed: no matching distribution" in capsys.readouterr().err


def test_the_computing_of_a_process_and_its_children_is_counted_and_all_of_them_end(tmp_path):
    told = tmp_path / "child"
    burn = "import pathlib, time\nwhile time.process_time() < 0.3: pass\n"
    child_script = f"{burn}pathlib.Path({str(told)!r}).write_text('done')\ntime.sleep(60)"
    script = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child_script!r}])\n{burn}time.sleep(60)"

    with running([sys.executable, "-c", script], {}, told.exists) as process:
        (child,) = descendants(process)
        assert cpu_s(child) > 0.2
        while cpu_s(process) < cpu_s(child) + 0.2:
            time.sleep(0.01)
    end_s = time.monotonic() + 20
    while not (has_ended(process) and has_ended(child)):
        assert time.monotonic() < end_s
        time.sleep(0.01)


def has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_flag_that_names_nobody_is_a_clear_error(capsys):
    with pytest.raises(SystemExit):
        bench_serving.main(["--only", "latentd,triton"])
    assert "'triton' is none of bare, latentd, mosec" in capsys.readouterr().err
