"""The load generator against a server whose every answer is known."""

import asyncio
import io
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import scipy.stats
import uvloop

from bench import load, loops
from bench.connection import LoadError, Target
from bench.loops import closed_loop, due_times, open_loop
from bench.measure import free_port
from bench.report import Report, Tally

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nContent-Length: 0\r\n\r\n"
REFUSED_FOREVER = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"
NO_HTTP = b"hello\r\n\r\n"
HANG_UP = b""


@dataclass
class Server:
    """Answers with what its script says, request by request, and keeps book.

    An answer that is not complete ends the connection; so does one that says so. None is no answer at all.
    """

    script: Iterable[bytes | None]
    delay_s: Callable[[int], float] = lambda _: 0.0
    requests: list[bytes] = field(default_factory=list)
    given: Counter = field(default_factory=Counter)
    url: str = ""

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
                body = await reader.readexactly(int(fields.get("Content-Length", 0)))
                answer = next(self.script)
                self.requests.append(head + body)
                self.given[answer] += 1
                await asyncio.sleep(self.delay_s(len(self.requests)))
                if answer is None:
                    await asyncio.sleep(60)
                writer.write(answer)
                if answer in (HALF, NO_HTTP, HANG_UP, CLOSING):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(server: Server):
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/encode?model=a"
    try:
        yield server
    finally:
        listener.close()


def put(server: Server, work: Callable[[Target], Awaitable[Report]], body: bytes | None = b"xyz") -> Report:
    async def both() -> Report:
        async with running(server):
            return await work(Target.of(server.url, body))

    return uvloop.run(both())


def test_a_closed_loop_counts_each_answer_once():
    server = Server(itertools.cycle([OK, CHUNKED, REFUSED, CLOSING, REFUSED_FOREVER, FAILED]))
    report = put(server, lambda target: closed_loop(target, connections=3, seconds=0.3))

    counts = {status: answers.count for status, answers in report.answers.items()}
    accepted = server.given[OK] + server.given[CHUNKED] + server.given[CLOSING]
    refused = server.given[REFUSED] + server.given[REFUSED_FOREVER]
    assert counts == {200: accepted, 429: refused, 500: server.given[FAILED]}
    assert report.sent == len(server.requests) > 20
    assert report.retry_after_percent == pytest.approx(100 * server.given[REFUSED] / refused)
    assert report.connection_errors == report.unanswered == 0
    assert report.goodput_per_s == pytest.approx(accepted / report.seconds)


def test_what_a_connection_takes_with_it_is_an_error_and_the_load_goes_on():
    server = Server(itertools.cycle([OK, HALF, OK, HANG_UP, NO_HTTP]))
    report = put(server, lambda target: closed_loop(target, connections=2, seconds=0.3))

    assert report.answers.keys() == {200}
    assert report.ok == server.given[OK] > 5
    assert report.connection_errors == server.given[HALF] + server.given[HANG_UP] + server.given[NO_HTTP]
    assert report.sent == len(server.requests)


def test_an_open_loop_sends_all_that_is_due_and_survives_lost_connections():
    server = Server(itertools.cycle([OK, HALF, CLOSING, REFUSED]))
    report = put(server, lambda target: open_loop(target, rate_per_s=400, seconds=0.4, arrivals="fixed"))

    assert report.sent == len(server.requests) == 160
    assert report.ok == server.given[OK] + server.given[CLOSING]
    assert report.connection_errors == server.given[HALF] == 40
    assert report.answers[429].count == 40
    assert report.retry_after_percent == 100.0
    assert report.unanswered == 0


def test_an_open_loop_charges_the_wait_from_when_a_request_was_due():
    stall_s, gap_s = 0.4, 0.02
    server = Server(itertools.repeat(OK), delay_s=lambda number: stall_s if number == 1 else 0.0)
    report = put(
        server,
        lambda target: open_loop(target, rate_per_s=1 / gap_s, seconds=0.5, connections=1, arrivals="fixed"),
    )

    assert report.sent == report.ok == 25
    # Nothing can be answered before the stall is over: request k, due after k gaps, waits for the rest of it.
    least_ms = 1e3 * np.percentile(stall_s - gap_s * np.arange(25), [50, 90])
    assert report.answers[200].p50_ms >= least_ms[0]
    assert report.answers[200].p90_ms >= least_ms[1]
    assert report.late_p99_ms >= 1e3 * (stall_s - 2 * gap_s)


def test_an_open_loop_opens_as_many_connections_as_the_requests_in_flight_need():
    server = Server(itertools.repeat(OK), delay_s=lambda _: 0.3)
    report = put(server, lambda target: open_loop(target, rate_per_s=50, seconds=0.5, arrivals="fixed"))

    assert report.ok == 25
    assert report.answers[200].p50_ms >= 300
    assert report.answers[200].max_ms < 25 * 300  # as it would be one after the other


@pytest.mark.parametrize("kind", ["open", "closed"])
def test_what_is_never_answered_is_told(kind, monkeypatch):
    monkeypatch.setattr(loops, "_GRACE_S", 0.2)
    server = Server(itertools.chain([OK, None], itertools.repeat(OK)))
    if kind == "open":
        work = lambda target: open_loop(target, rate_per_s=100, seconds=0.2, arrivals="fixed", deadline_s=0.1)  # noqa: E731
    else:
        work = lambda target: closed_loop(target, connections=2, seconds=0.2, deadline_s=0.1)  # noqa: E731
    report = put(server, work)

    assert report.unanswered == 1
    assert report.ok == report.sent - 1 == server.given[OK]


def test_percentiles_and_goodput_are_those_of_numpy():
    tally, times_s = Tally(), np.random.default_rng(1).exponential(0.1, 501)
    for time_s in times_s:
        tally.add(200, time_s, has_retry_after=False)
    tally.add(503, 9.0, has_retry_after=True)
    tally.sent = 503
    report = tally.report(2.0, deadline_s=0.1)

    found = report.answers[200]
    expected = np.quantile(times_s * 1e3, [0.5, 0.9, 0.95, 0.99, 1.0])
    np.testing.assert_allclose([found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms, found.max_ms], expected)
    assert report.goodput_per_s == np.count_nonzero(times_s <= 0.1) / 2.0
    assert report.retry_after_percent is None
    assert report.unanswered == 1
    assert report.answers[503].max_ms == 9000.0


def test_arrivals_are_equally_spaced_or_a_poisson_process():
    np.testing.assert_allclose(due_times(50, 0.2, "fixed", 0), [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18])

    times = due_times(1000, 20.0, "poisson", 3)
    assert abs(len(times) - 20_000) < 5 * np.sqrt(20_000)
    assert scipy.stats.kstest(np.diff(times), "expon", args=(0, 1e-3)).pvalue > 1e-3
    np.testing.assert_array_equal(times, due_times(1000, 20.0, "poisson", 3))
    assert len(times) != len(due_times(1000, 20.0, "poisson", 4))


def test_the_command_sends_the_array_and_writes_the_report(tmp_path, capsys):
    server, out = Server(itertools.repeat(OK)), tmp_path / "report.json"

    async def command() -> int:
        async with running(server):
            words = [server.url, "--npy", "2x4x4x3", "--header", "accept: */*", "--connections", "1"]
            return await asyncio.to_thread(load.main, [*words, "--seconds", "0.1", "--json", str(out)])

    assert asyncio.run(command()) == 0
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /encode?model=a HTTP/1.1"
    assert {"Content-Type: application/x-npy", "accept: */*", f"Content-Length: {len(body)}"} < set(lines)
    assert "Accept: application/x-npy" not in lines
    array = np.load(io.BytesIO(body), allow_pickle=False)
    assert (array.shape, array.dtype) == ((2, 4, 4, 3), np.uint8)

    report = json.loads(out.read_text("utf-8"))
    assert report["answers"]["200"]["count"] == report["sent"] == len(server.requests)
    assert f"{report['sent']} sent" in capsys.readouterr().out


def test_a_file_is_sent_with_its_media_type(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    server = Server(itertools.repeat(OK))

    async def command() -> int:
        async with running(server):
            return await asyncio.to_thread(
                load.main, [server.url, "--body", str(path), "--rate", "50", "--seconds", "0.1"]
            )

    assert asyncio.run(command()) == 0
    assert b"\r\nContent-Type: image/png\r\n" in server.requests[0]
    assert server.requests[0].endswith(b"\r\n\r\npicture")


def test_a_failed_load_has_exit_status_1(capsys):
    server = Server(itertools.cycle([OK, HANG_UP]))

    async def command() -> int:
        async with running(server):
            return await asyncio.to_thread(load.main, [server.url, "--seconds", "0.1"])

    assert asyncio.run(command()) == 1
    assert server.requests[0].startswith(b"GET /encode?model=a HTTP/1.1\r\n")
    assert "connection errors" in capsys.readouterr().out


def test_a_server_that_is_not_there_is_a_clear_error(capsys):
    url = f"http://127.0.0.1:{free_port()}/"

    assert load.main([url, "--seconds", "0.1"]) == 1
    assert "is the server running?" in capsys.readouterr().err
    assert load.main([url, "--body", "/nowhere.png"]) == 1
    assert "nowhere.png" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["https://localhost/", "localhost:8000", "http:///encode", "http://localhost:port/"])
def test_an_address_of_something_else_is_refused(url):
    with pytest.raises(LoadError, match="expected http://host:port/path"):
        Target.of(url)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "-1"], "no number above 0"),
        (["--seconds", "inf"], "no number above 0"),
        (["--connections", "0"], "no whole number of 1 or more"),
        (["--npy", "1x0"], "no whole number of 1 or more"),
        (["--header", "accept"], "expected NAME:VALUE"),
        (["--npy", "1,2", "--body", "a.png"], "not allowed with"),
    ],
)
def test_a_wrong_flag_is_a_clear_error(words, message, capsys):
    with pytest.raises(SystemExit):
        load.main(["http://localhost/", *words])
    assert message in capsys.readouterr().err
