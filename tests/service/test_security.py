"""Who may ask, and how often; no model is needed to find out."""

import asyncio
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.errors import ConfigurationError
from service.rates import Limiter, Rate
from service.security import read_keys
from service.settings import Settings

ORIGIN = "https://pages.example"
BEARER = {"authorization": "Bearer secret of alice"}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(folder: Path, *lines: str) -> Path:
    path = folder / "keys"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return write(tmp_path, f"alice:{digest('secret of alice')}", f"bob:{digest('secret of bob')}:0.5:2")


def app_with(folder: Path, **options: Any) -> FastAPI:
    return create_app(Settings(store=folder, **options))


def ask(app: FastAPI, path: str = "/openapi.json", method: str = "GET", **options: Any) -> httpx.Response:
    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(request())


def test_reads_names_and_rates(tmp_path: Path) -> None:
    lines = ["# who may ask", "", f"a:{digest('a')}", f"b:{digest('b').upper()}:2.5  # slow", f"c:{digest('c')}:10:40"]
    a, b, c = read_keys(write(tmp_path, *lines))
    assert (a.name, a.rate) == ("a", None)
    assert (b.digest.hex(), b.rate) == (digest("b"), Rate(2.5, 3))
    assert c.rate == Rate(10, 40)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("alice:secret", "line 2: expected name:sha256-of-key"),
        ("alice", "line 2: expected"),
        (f"al ice:{digest('x')}", "line 2: expected"),
        (f"alice:{digest('x')}:fast", "line 2: expected"),
        (f"alice:{digest('x')}:1:2:3", "line 2: expected"),
        (f"alice:{digest('x')}:0", "line 2: rate and burst are above 0"),
        (f"first:{digest('x')}", "line 2: the name first, or its key, stands there twice"),
        (f"alice:{digest('one')}", "line 2: the name alice, or its key, stands there twice"),
    ],
)
def test_a_bad_line_is_named_and_not_quoted(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, f"first:{digest('one')}", line)
    with pytest.raises(ConfigurationError) as caught:
        app_with(tmp_path, api_keys_file=path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_would_let_nobody_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no key"):
        read_keys(write(tmp_path, "# nobody yet"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_keys(tmp_path / "missing")


def test_the_documented_command_makes_a_key(tmp_path: Path) -> None:
    readme = Path("README.md").read_text()
    (command,) = [line for line in readme.splitlines() if line.startswith("python3 -c ")]
    printed = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    app = app_with(tmp_path, api_keys_file=tmp_path / "keys")
    assert ask(app, headers={"x-api-key": printed.strip()}).status_code == 200


@pytest.mark.parametrize("path", ["/sample", "/models", "/metrics", "/openapi.json", "/docs", "/livez/", "/nowhere"])
def test_everything_but_probes_needs_a_key(tmp_path: Path, keys_file: Path, path: str) -> None:
    app = app_with(tmp_path, api_keys_file=keys_file)
    for headers in ({}, {"authorization": "Bearer secret"}, {"authorization": "Basic c2VjcmV0IG9mIGFsaWNl"}):
        answer = ask(app, path, "POST" if path == "/sample" else "GET", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["instance"].endswith(answer.headers["x-request-id"])


@pytest.mark.parametrize(
    "headers",
    [BEARER, {"authorization": "bearer secret of alice"}, {"x-api-key": "secret of alice"}],
)
def test_a_key_opens(tmp_path: Path, keys_file: Path, headers: dict[str, str]) -> None:
    app = app_with(tmp_path, api_keys_file=keys_file)
    assert ask(app, headers=headers).status_code == 200
    # Past the guard, where the models are still to be loaded.
    assert ask(app, "/sample", "POST", headers=headers).status_code == 503


def test_probes_are_open_and_metrics_by_setting(tmp_path: Path, keys_file: Path) -> None:
    app = app_with(tmp_path, api_keys_file=keys_file, metrics_open=True)
    assert ask(app, "/livez").status_code == 200
    assert ask(app, "/readyz").status_code == 503
    assert ask(app, "/metrics").status_code == 200


def test_each_key_has_its_own_rate(tmp_path: Path, keys_file: Path) -> None:
    app = app_with(tmp_path, api_keys_file=keys_file)
    bob = {"x-api-key": "secret of bob"}
    assert [ask(app, headers=bob).status_code for _ in range(4)] == [200, 200, 429, 429]
    refused = ask(app, headers=bob)
    assert refused.headers["retry-after"] == "2"
    assert refused.json()["type"] == "urn:latentd:problem:rate-limited"
    assert [ask(app, headers=BEARER).status_code for _ in range(4)] == [200] * 4
    assert ask(app, "/livez").status_code == 200


def test_without_keys_an_address_has_a_rate_where_that_is_set(tmp_path: Path) -> None:
    app = app_with(tmp_path, client_rate_per_s=0.01, client_burst=3)
    assert [ask(app).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert ask(app, "/livez").status_code == 200


def test_the_keys_are_read_again(tmp_path: Path, keys_file: Path) -> None:
    app = app_with(tmp_path, api_keys_file=keys_file)
    write(tmp_path, f"carol:{digest('secret of carol')}")
    assert ask(app, headers=BEARER).status_code == 200
    app.state.keys.reload()
    assert ask(app, headers=BEARER).status_code == 401
    write(tmp_path, "a bad line")
    app.state.keys.reload()
    assert ask(app, headers={"x-api-key": "secret of carol"}).status_code == 200


def test_a_bucket_lets_through_what_its_rate_and_burst_allow() -> None:
    limiter, rate = Limiter(), Rate(per_s=4.0, burst=5)
    times_s = [step / 64 for step in range(641)]
    admitted = [limiter.take("somebody", rate, time_s) == 0 for time_s in times_s]
    assert admitted[:6] == [True] * 5 + [False]
    assert sum(admitted) == 5 + 4 * 10
    assert limiter.take("somebody", rate, 10.0) == 0.25


def test_whoever_has_not_asked_for_longest_is_forgotten() -> None:
    limiter, rate = Limiter(capacity=2), Rate(per_s=0.001, burst=1)
    assert [limiter.take(who, rate, 0.0) == 0 for who in "aabbacca"] == [
        True, False, True, False, False, True, False, False,
    ]  # fmt: skip
    assert limiter.take("b", rate, 0.0) == 0


def test_pages_of_other_origins_may_ask_where_that_is_set(tmp_path: Path, keys_file: Path) -> None:
    app = app_with(tmp_path, api_keys_file=keys_file, cors_origins=ORIGIN)
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, content-type"}
    preflight = ask(app, "/encode", "OPTIONS", headers={"origin": ORIGIN} | asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    answer = ask(app, headers={"origin": ORIGIN})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-expose-headers"] == "*"
    assert "access-control-allow-origin" not in ask(app, headers={"origin": "https://other.example"}).headers


def test_pages_of_other_origins_may_not_ask_by_default(tmp_path: Path) -> None:
    assert "access-control-allow-origin" not in ask(app_with(tmp_path), headers={"origin": ORIGIN}).headers


@pytest.mark.parametrize("origin", ["pages.example", "https://pages.example/", "https://pages.example/a"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        Settings(cors_origins=origin)


def test_the_document_tells_of_the_keys(tmp_path: Path, keys_file: Path) -> None:
    document = ask(app_with(tmp_path, api_keys_file=keys_file), headers=BEARER).json()
    assert document["security"] == [{"bearer": []}, {"header": []}]
    assert document["paths"]["/livez"]["get"]["security"] == []
    assert {"401", "429"} <= document["paths"]["/models"]["get"]["responses"].keys()
    assert "security" not in ask(app_with(tmp_path)).json()
