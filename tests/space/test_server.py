"""The service as a process: starting, stopping, and many callers at once."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from candles import bars, request

READY = re.compile(r"ready: (\S+) at revision (\S+) on http://(\S+):(\d+)")


@dataclass
class Server:
    """A running `python -m kronos_space`, which prints into a file that never fills up."""

    process: subprocess.Popen[str]
    log: Path
    url: str

    def stop(self, sig: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit status, and all that was printed."""
        self.process.send_signal(sig)
        return self.process.wait(timeout=60), self.log.read_text()


def spawn(log: Path, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    settings = {"KRONOS_MODEL": "kronos-nano", "KRONOS_THREADS": "1", **environ}
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "kronos_space", "--host", "127.0.0.1", *arguments],
            env={**os.environ, **settings},
            stdout=output,
            stderr=output,
            text=True,
        )


def failed(log: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """Exit status and output of a server that cannot start."""
    status = spawn(log, *arguments, **environ).wait(timeout=60)
    return status, log.read_text()


@contextmanager
def serving(log: Path, **environ: str) -> Iterator[Server]:
    process = spawn(log, "--port", "0", **environ)
    try:
        until(lambda: READY.search(log.read_text()) or process.poll() is not None)
        match = READY.search(log.read_text())
        assert match, log.read_text()
        yield Server(process, log, f"http://127.0.0.1:{match[4]}")
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def long_request(samples: int = 100) -> dict[str, object]:
    """Work for the bundled model that takes half a second or so."""
    return request(horizon=100, samples=samples)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metric(url: str, name: str) -> float:
    for line in requests.get(f"{url}/metrics", timeout=10).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def test_when_ready_it_names_the_model_and_its_address_and_ctrl_c_ends_it_in_order(
    log: Path,
) -> None:
    with serving(log) as server:
        health = requests.get(f"{server.url}/health", timeout=10).json()
        status, output = server.stop(signal.SIGINT)
    assert f"ready: {health['model']} at revision {health['model_revision']}" in output
    assert status == 0
    assert "Traceback" not in output


def test_on_sigterm_what_runs_and_waits_is_finished_and_the_status_is_0(log: Path) -> None:
    with serving(log) as server, ThreadPoolExecutor() as pool:
        work = {"requests": [long_request()] * 4}
        answer = pool.submit(requests.post, f"{server.url}/predict/batch", json=work, timeout=60)
        until(lambda: metric(server.url, "kronos_queue_series") > 0)
        status, output = server.stop()
        assert [result["ok"] for result in answer.result().json()["results"]] == [True] * 4
    assert status == 0
    assert "Traceback" not in output
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/health", timeout=1)


def test_work_that_outlasts_the_deadline_is_given_up_and_the_status_is_still_0(
    log: Path,
) -> None:
    with serving(log, KRONOS_SHUTDOWN_TIMEOUT="1") as server, ThreadPoolExecutor() as pool:
        work = {"requests": [long_request()] * 20}
        answer = pool.submit(requests.post, f"{server.url}/predict/batch", json=work, timeout=60)
        until(lambda: metric(server.url, "kronos_queue_series") > 0)
        status, output = server.stop()
        assert answer.result().status_code == 503
        assert answer.result().json()["error"]["code"] == "shutting_down"
    assert status == 0
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "environ", "status", "line"),
    [
        ([], {"KRONOS_MODEL": "/no/such/folder"}, 2, "KRONOS_MODEL='/no/such/folder': neither"),
        (
            [],
            {"KRONOS_MODEL": "kronos-small", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/-"},
            1,
            "NeoQuasar/Kronos-small@901c26c1 cannot be had from the Hub",
        ),
        ([], {"KRONOS_MAX_BATCH": "abc"}, 2, "KRONOS_MAX_BATCH='abc': expected a whole number"),
        (["--port", "99999"], {}, 1, "cannot listen on 127.0.0.1:99999: a port is a number"),
        (["--host", "no.such.host.invalid"], {}, 1, "cannot listen on no.such.host.invalid"),
    ],
)
def test_what_keeps_it_from_starting_is_told_in_one_line(
    log: Path, arguments: list[str], environ: dict[str, str], status: int, line: str
) -> None:
    ended, output = failed(log, "--port", "0", *arguments, **environ)
    assert ended == status
    assert output.startswith(f"kronos_space: {line}")
    assert output.count("\n") == 1


def test_a_port_that_is_taken_is_told_in_one_line(log: Path, space_url: str) -> None:
    port = space_url.rsplit(":", 1)[1]
    assert failed(log, "--port", port) == (
        1,
        f"kronos_space: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "stop what listens there, or choose another with --port\n",
    )


def test_health_answers_at_once_while_the_engine_is_busy(space_url: str) -> None:
    with ThreadPoolExecutor() as pool:
        done = metric(space_url, "kronos_engine_seconds_count")
        work = pool.submit(requests.post, f"{space_url}/predict", json=long_request(), timeout=60)
        slowest = 0.0
        with requests.Session() as session:
            session.get(f"{space_url}/health", timeout=10)
            while not work.done():
                started = time.monotonic()
                session.get(f"{space_url}/health", timeout=10)
                slowest = max(slowest, time.monotonic() - started)
        assert work.result().status_code == 200
        assert metric(space_url, "kronos_engine_seconds_count") == done + 1
    assert slowest < 0.25


def test_sixteen_callers_at_once_are_all_answered_in_few_calls_of_the_engine(
    space_url: str,
) -> None:
    before = metric(space_url, "kronos_engine_series_count")
    with ThreadPoolExecutor(16) as pool:
        names = [f"T{n}" for n in range(16)]
        posts = [
            pool.submit(
                requests.post, f"{space_url}/predict", json=request(symbol=name), timeout=60
            )
            for name in names
        ]
        answers = [post.result() for post in posts]
    assert [answer.json()["symbol"] for answer in answers] == names
    assert len({json.dumps(answer.json()["as_of"]) for answer in answers}) == 1
    assert metric(space_url, "kronos_engine_series_count") - before < 16


def test_a_full_queue_answers_429_with_a_time_to_come_again(log: Path) -> None:
    with serving(log, KRONOS_MAX_QUEUE="2") as server, ThreadPoolExecutor(24) as pool:
        posts = [
            pool.submit(
                requests.post, f"{server.url}/predict", json=request(horizon=100), timeout=60
            )
            for _ in range(24)
        ]
        answers = [post.result() for post in posts]
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["Retry-After"]) >= 1


def test_a_caller_that_hangs_up_frees_its_places(space_url: str) -> None:
    given_up = 'kronos_http_requests_total{method="POST",route="/predict/batch",status="499"}'
    before = metric(space_url, given_up)
    body = json.dumps({"requests": [long_request(samples=25)] * 60}).encode()
    host, port = space_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        head = f"POST /predict/batch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.sendall(head.encode() + body)
        until(lambda: metric(space_url, "kronos_queue_series") > 30)
    until(lambda: metric(space_url, "kronos_queue_series") == 0)
    until(lambda: metric(space_url, given_up) == before + 1)
    assert requests.post(f"{space_url}/predict", json=request(), timeout=60).status_code == 200


def test_a_body_of_50_mb_and_one_that_trickles_hurt_nobody_else(space_url: str) -> None:
    host, port = space_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as trickle:
        trickle.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        huge = requests.post(f"{space_url}/predict", data=b" " * 50_000_000, timeout=60)
        assert huge.status_code == 413
        assert huge.json()["error"]["code"] == "body_too_large"
        data = request(ohlcv=bars(200))
        assert requests.post(f"{space_url}/predict", json=data, timeout=60).status_code == 200
