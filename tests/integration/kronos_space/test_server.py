"""The service as a process: start, stop, and many simultaneous callers."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.support.candles import request
from tests.support.space_server import metric, serving, spawn, until

INTERPRETED = ("-m", "kronos_space")  # with a new interpreter


def failed(log: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """Return exit status and output of a server that cannot start."""
    status = spawn(log, *arguments, command=INTERPRETED, **environ).wait(timeout=120)
    return status, log.read_text()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def long_request(samples: int = 100) -> dict[str, object]:
    """Return a request that takes the bundled model about half a second."""
    return request(horizon=100, samples=samples)


def test_a_ready_service_prints_model_and_address_and_stops_cleanly_on_ctrl_c(
    log: Path,
) -> None:
    with serving(log, command=INTERPRETED) as server:
        health = requests.get(f"{server.url}/health", timeout=10).json()
        status, output = server.stop(signal.SIGINT)
    assert f"ready: {health['model']} at revision {health['model_revision']}" in output
    assert f"open {server.url} in a browser; Ctrl-C ends it\n" in output
    assert status == 0
    assert "Traceback" not in output


def test_ctrl_c_twice_ends_the_service_at_once_without_a_traceback(log: Path) -> None:
    with serving(log) as server, ThreadPoolExecutor() as pool:
        work = {"requests": [long_request()] * 20}
        answer = pool.submit(requests.post, f"{server.url}/predict/batch", json=work, timeout=60)
        until(lambda: metric(server.url, "kronos_queue_series") > 0)
        server.process.send_signal(signal.SIGINT)
        until(lambda: refuses(server.url))
        status, output = server.stop(signal.SIGINT)
        assert isinstance(answer.exception(), requests.ConnectionError)
    assert status == 130
    assert "Traceback" not in output


def test_the_printed_ipv6_address_can_be_opened(log: Path) -> None:
    with serving(log, "--host", "::1") as server:
        assert server.url.startswith("http://[::1]:")
        assert requests.get(f"{server.url}/health", timeout=10).status_code == 200


def refuses(url: str) -> bool:
    try:
        requests.get(f"{url}/health", timeout=10)
    except requests.ConnectionError:
        return True
    return False


def test_sigterm_lets_running_and_waiting_requests_finish_and_the_status_is_0(log: Path) -> None:
    # the time is enough for a busy machine, where two seconds of work may take half a minute
    with serving(log, KRONOS_SHUTDOWN_TIMEOUT="100") as server, ThreadPoolExecutor() as pool:
        work = {"requests": [long_request(30)] * 4}
        answer = pool.submit(requests.post, f"{server.url}/predict/batch", json=work, timeout=120)
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
            {"KRONOS_MODEL": "kronos-small", "HF_HUB_OFFLINE": "1", "HF_HOME": "/-"},
            1,
            "NeoQuasar/Kronos-small@901c26c1 is not available from the Hub",
        ),
        ([], {"KRONOS_MAX_BATCH": "abc"}, 2, "KRONOS_MAX_BATCH='abc': expected a whole number"),
        (["--port", "99999"], {}, 1, "cannot listen on 127.0.0.1:99999: a port is a number"),
        (["--port", "abc"], {}, 2, "argument --port: 'abc': expected a number from 0 to 65535"),
        (["--bogus"], {}, 2, "unrecognized arguments: --bogus; `python -m kronos_space --help`"),
        (["--host", "no.such.host.invalid"], {}, 1, "cannot listen on no.such.host.invalid"),
    ],
)
def test_a_reason_not_to_start_is_reported_in_one_line(
    log: Path, arguments: list[str], environ: dict[str, str], status: int, line: str
) -> None:
    ended, output = failed(log, "--port", "0", *arguments, **environ)
    assert ended == status
    assert output.startswith(f"kronos_space: {line}")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("environ", "status", "message"),
    [
        ({"KRONOS_MAX_BATCH": "abc"}, 2, "KRONOS_MAX_BATCH='abc': expected a whole number"),
        ({"KRONOS_MODEL": "/no/such/folder"}, 2, "KRONOS_MODEL='/no/such/folder': neither"),
    ],
)
def test_a_failed_start_is_one_line_of_a_json_log(
    log: Path, environ: dict[str, str], status: int, message: str
) -> None:
    ended, output = failed(log, "--port", "0", KRONOS_LOG_FORMAT="json", **environ)
    assert ended == status
    line = json.loads(output)
    assert line["level"] == "CRITICAL"
    assert line["message"].startswith(message)


def test_a_port_in_use_is_reported_in_one_line(log: Path, space_url: str) -> None:
    port = int(space_url.rsplit(":", 1)[1])
    for level, remedy in (("", f"--port {port + 1}"), ("1", f"make serve PORT={port + 1}")):
        assert failed(log, "--port", str(port), MAKELEVEL=level) == (
            1,
            f"kronos_space: cannot listen on 127.0.0.1:{port}: Address already in use; "
            f"stop what listens there, or take another port: {remedy}\n",
        )


def test_health_answers_at_once_while_the_engine_is_busy(space_url: str) -> None:
    took: list[float] = []
    with ThreadPoolExecutor() as pool:
        done = metric(space_url, "kronos_engine_seconds_count")
        work = pool.submit(requests.post, f"{space_url}/predict", json=long_request(), timeout=60)
        with requests.Session() as session:
            session.get(f"{space_url}/health", timeout=10)
            while not work.done():
                started = time.monotonic()
                session.get(f"{space_url}/health", timeout=10)
                took.append(time.monotonic() - started)
        assert work.result().status_code == 200
        assert metric(space_url, "kronos_engine_seconds_count") == done + 1
    assert len(took) > 3, "one that is held up is answered once, at the end"
    # for most, not all: a busy machine may delay one
    assert sorted(took)[len(took) * 3 // 4] < 0.25


@contextmanager
def busy(url: str) -> Iterator[None]:
    """Keep the engine busy within this context, so that other requests must wait."""
    with ThreadPoolExecutor() as pool:
        work = pool.submit(requests.post, f"{url}/predict", json=long_request(256), timeout=60)
        until(lambda: metric(url, "kronos_running_series") == 1)
        yield
        assert work.result().status_code == 200


def test_small_requests_are_answered_while_another_caller_fills_its_share_of_the_queue(
    log: Path,
) -> None:
    long = {"requests": [request(horizon=200, samples=256)] * 16}
    with serving(log, KRONOS_SHUTDOWN_TIMEOUT="1") as server, ThreadPoolExecutor() as pool:
        others = [
            pool.submit(requests.post, f"{server.url}/predict/batch", json=long, timeout=300)
            for _ in range(2)
        ]
        until(lambda: metric(server.url, "kronos_running_series") >= 1)
        for _ in range(3):
            answer = requests.post(f"{server.url}/predict", json=request(), timeout=60)
            assert answer.status_code == 200
        assert not any(other.done() and other.result().status_code == 200 for other in others)
        status, output = server.stop()  # running work is interrupted after a second
        assert (status, "Traceback" in output) == (0, False)
        statuses = {other.result().status_code for other in others}
    assert statuses <= {429, 503}


def test_sixteen_simultaneous_callers_share_a_few_engine_calls(
    space_url: str,
) -> None:
    before = metric(space_url, "kronos_engine_series_count")
    with busy(space_url), ThreadPoolExecutor(16) as pool:
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


def test_a_full_queue_answers_429_with_a_retry_time(log: Path) -> None:
    with (
        serving(log, KRONOS_MAX_QUEUE="2") as server,
        busy(server.url),
        ThreadPoolExecutor(24) as pool,
    ):
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
