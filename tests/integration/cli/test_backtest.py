"""`kronosbot backtest` as a process, with a real Space and a growing file."""

import csv
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.support import commands
from tests.support.command_line import kronosbot
from tradingbot.markets.calendars import next_sessions
from tradingbot.walk_forward.results import outcomes_of, read_rows
from tradingbot.walk_forward.schema import COLUMNS

QUICK = ("--source", "sample", "--context", "64", "--samples", "8", "--horizon", "2")


def forecasts(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return [row for row in csv.DictReader(lines) if row["step"] != "0"]


def whole(file: Path) -> bool:
    """Return whether the last line is complete."""
    return file.read_bytes().endswith(b"\n")


def test_backtest_forecasts_are_scored_and_written_only_to_the_file(
    tmp_path: Path, space_url: str
) -> None:
    done = kronosbot(
        "backtest", *QUICK, "--symbols", "AAPL,ZZZZ,IBM", "--windows", "10",
        folder=tmp_path, KRONOS_SPACE_URL=space_url,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # because of ZZZZ
    assert {path.name for path in tmp_path.iterdir()} == {"backtest.csv", "backtest.closes.csv"}
    lines = done.stdout.splitlines()
    assert lines[2].startswith("1           20  too few: 20 of 30 that a figure needs")
    all_steps = lines[4].split()
    assert all_steps[:2] == ["all", "40"]
    assert 0.5 < float(all_steps[2]) < 3
    assert "Failed    ZZZZ: the sample has AAPL, GOOG, IBM, MSFT only" in done.stdout
    assert "of 40 forecasts with an outcome: in training 40" in done.stdout
    assert lines[-1] == "File      backtest.csv; nothing went into the database"
    assert "Forecasting with kronos-nano: 20" in done.stderr

    rows = forecasts(tmp_path / "backtest.csv")
    assert list(rows[0]) == COLUMNS
    assert len(rows) == 40
    newest = rows[-1]
    assert (newest["symbol"], newest["as_of"], newest["target"], newest["step"]) == (
        "IBM", "2013-02-27", "2013-03-01", "2",
    )  # fmt: skip
    assert newest["revision"].startswith("sha256:")
    assert newest["revision"].endswith("+anchored")
    assert newest["in_training"] == "yes"  # the days are in the training span of the indices
    assert float(newest["q05"]) <= float(newest["q50"]) <= float(newest["q95"])
    assert sum(len(outcome) for outcome in outcomes_of(read_rows(tmp_path / "backtest.csv"))) == 40


def test_repeating_the_command_adds_missing_and_new_windows(tmp_path: Path, space_url: str) -> None:
    run = ["backtest", *QUICK, "--symbols", "GOOG", "--json"]
    environ = {"KRONOS_SPACE_URL": space_url}
    first = kronosbot(*run, "--windows", "16", folder=tmp_path, **environ)
    assert first.returncode == 0, first.stderr
    before = (tmp_path / "backtest.csv").read_bytes()

    nobody = {"KRONOS_SPACE_URL": "http://127.0.0.1:9"}  # no server is called either
    again = kronosbot(*run, "--windows", "16", folder=tmp_path, **nobody)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "backtest.csv").read_bytes() == before
    measured = [json.loads(done.stdout)["measures"] for done in (first, again)]
    assert measured[0] == measured[1]

    more = kronosbot(*run, "--windows", "20", folder=tmp_path, **environ)
    output = json.loads(more.stdout)
    assert (more.returncode, output["made"], output["windows"], output["missing"]) == (0, 4, 20, 0)
    assert output["measures"]["all"]["n"] == 40
    assert output["settings"]["model"] == "kronos-nano"
    days = [row["as_of"] for row in forecasts(tmp_path / "backtest.csv")]
    assert len(set(days)) == 20


def test_windows_in_the_training_data_are_distinguished(tmp_path: Path, space_url: str) -> None:
    days = next_sessions("MSFT", datetime(2014, 10, 1), 350)  # up to February 2016
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, len(days))))
    rows = [f"{day:%Y-%m-%d},{c},{c},{c},{c},1" for day, c in zip(days, closes, strict=True)]
    (tmp_path / "MSFT.csv").write_text("\n".join(["date,open,high,low,close,volume", *rows]))
    done = kronosbot(
        "backtest", "--source", "csv:.", "--horizon", "2", "--samples", "2",
        "--symbols", "MSFT", "--windows", "40",
        "--stride", "2", "--json", folder=tmp_path, KRONOS_SPACE_URL=space_url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)
    counts = output["in_training"]
    assert counts["yes"] + counts["no"] == output["measures"]["all"]["n"] == 80
    assert output["measures"]["unseen"]["n"] == counts["no"] >= 30
    assert output["measures"]["unseen"]["relative_mae"] != output["measures"]["all"]["relative_mae"]


def test_each_reason_to_doubt_the_figures_is_reported_in_one_line(
    tmp_path: Path, space_url: str
) -> None:
    days = next_sessions("AAPL", datetime(2022, 1, 3), 301)
    del days[-2]  # a session without a bar
    closes = [(10 if day < days[290] else 1) + number % 3 / 10 for number, day in enumerate(days)]
    rows = [
        f"{day:%Y-%m-%d},{close},{close},{close},{close},1"
        for day, close in zip(days, closes, strict=True)
    ]
    lines = ["date,open,high,low,close,volume", *rows, rows[-1]]
    (tmp_path / "AAPL.csv").write_text("\n".join(lines))
    done = kronosbot(
        "backtest", "--source", "csv:.", "--windows", "4", "--stride", "3", "--horizon", "2",
        "--samples", "2", "--symbols", "aapl,AAPL",
        folder=tmp_path, KRONOS_SPACE_URL=space_url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "AAPL: repeated bars dropped, the last of each kept: 1" in done.stderr
    [remark] = [line for line in done.stderr.splitlines() if "only the newest" in line]
    assert remark.endswith(" (this, or the same with other numbers, in 4 windows)")
    assert "No bar    1 of 8 forecasts: no candle of their session" in done.stdout
    assert f"Jump      AAPL: its close was 0.119 times on {days[290]:%Y-%m-%d}. A" in done.stdout


# interrupted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_backtest_keeps_its_results_and_continues(
    tmp_path: Path, space_url: str, number: signal.Signals, code: int
) -> None:
    run = ["backtest", *QUICK, "--symbols", "AAPL,MSFT", "--windows", "20"]
    with relay(space_url, batches=2) as (url, held):
        env = {**os.environ, "KRONOS_SPACE_URL": url}
        process = commands.piped("tradingbot.kronosbot", *run, cwd=tmp_path, env=env)
        assert held.wait(60)  # the third and last batch has no answer yet
        two = tmp_path / "backtest.csv"
        deadline = time.monotonic() + 60
        while not two.exists() or not whole(two) or len(forecasts(two)) < 64:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert len(forecasts(two)) == 64
    if code > 0:
        assert "backtest.csv has 32 of 40 forecasts, the same command resumes it" in err
    rest = kronosbot(*run, "--json", folder=tmp_path, KRONOS_SPACE_URL=space_url)
    assert rest.returncode == 0, rest.stderr
    assert json.loads(rest.stdout)["made"] == 8
    keys = [
        (row["symbol"], row["as_of"], row["step"]) for row in forecasts(tmp_path / "backtest.csv")
    ]
    assert len(set(keys)) == len(keys) == 80


def test_after_losing_the_space_a_backtest_resumes_from_its_file(
    tmp_path: Path, space_url: str
) -> None:
    with relay(space_url, batches=1, then="gone") as (url, _):
        done = kronosbot(
            "backtest", *QUICK, "--symbols", "AAPL", "--windows", "40",
            folder=tmp_path, KRONOS_SPACE_URL=url,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Missing   24 of 40 windows: " in done.stdout
    assert "the same command again requests only these" in done.stdout
    assert len(forecasts(tmp_path / "backtest.csv")) == 32


@contextmanager
def relay(
    space_url: str, *, batches: int, then: str = "hold"
) -> Iterator[tuple[str, threading.Event]]:
    """Run a proxy to the Space that answers a limited number of batches, then holds or closes
    others.

    The event is set when another batch was requested.
    """
    port = urlsplit(space_url).port
    held, go = threading.Event(), threading.Event()
    asked = 0
    counting = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.forward(b"")

        def do_POST(self) -> None:
            nonlocal asked
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with counting:
                asked += 1
                too_many = asked > batches
            if too_many:
                held.set()
                if then == "hold":
                    go.wait()
                return
            self.forward(body)

        def forward(self, body: bytes) -> None:
            if held.is_set():
                return
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request(self.command, self.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore the error of the killed caller."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", held
    finally:
        go.set()
        server.shutdown()
        server.server_close()


# refused ----------------------------------------------------------------------------------


def test_a_file_of_other_settings_is_refused_before_any_request(
    tmp_path: Path, space_url: str
) -> None:
    run = ["backtest", *QUICK, "--symbols", "AAPL", "--windows", "15"]
    first = kronosbot(*run, folder=tmp_path, KRONOS_SPACE_URL=space_url)
    assert first.returncode == 0, first.stderr
    before = (tmp_path / "backtest.csv").read_bytes()
    other = kronosbot(
        *run, "--samples", "9", "--until", "2013-01-31",
        folder=tmp_path, KRONOS_SPACE_URL="http://127.0.0.1:9",
    )  # fmt: skip
    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr == (
        "Error: backtest.csv was made with other settings (samples 8, now 9; until 2013-03-01, now "
        "2013-01-31): give the same settings, or another --out\n"
    )
    assert (tmp_path / "backtest.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "KRONOS_SPACE_URL is not set"),
        (["--windows", "0"], 2, "--windows='0': expected a whole number from 1"),
        (["--top-p", "0"], 2, "--top-p='0': expected a number from 0.001 to 1"),
        (["--temperature", "nan"], 2, "--temperature='nan': expected a number"),
        (["--until", "yesterday"], 2, "--until='yesterday': expected a day, such as 2024-01-31"),
        (["--local", "--out", "missing/a.csv"], 2, "there is no folder missing"),
        (["--local", "--symbols", "ZZZZ"], 1, "ZZZZ: the sample has"),
        (["--local", "--until", "2000-03-31", "--symbols", "IBM"], 1, "IBM: 23 bars, a backtest"),
        (["--local", "--until", "1999-12-31"], 1, "AAPL: 0 bars, a backtest needs at least 37"),
    ],
)
def test_impossible_options_are_refused_in_one_line(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = kronosbot("backtest", "--source", "sample", "--json", *arguments, folder=tmp_path)
    assert done.returncode == code
    *_, line = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert says in line
    assert says in json.loads(done.stdout)["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_options_that_the_space_refuses_are_not_retried(tmp_path: Path, space_url: str) -> None:
    done = kronosbot(
        "backtest", *QUICK, "--symbols", "AAPL", "--windows", "1", "--horizon", "250",
        folder=tmp_path, KRONOS_SPACE_URL=space_url,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Missing   1 of 1 windows: AAPL: the Space refuses it: horizon 250" in done.stdout
    assert "the same command again" not in done.stdout


def test_a_space_with_another_model_than_requested_is_refused(
    tmp_path: Path, space_url: str
) -> None:
    done = kronosbot(
        "backtest", *QUICK, "--model", "NeoQuasar/Kronos-mini",
        folder=tmp_path, KRONOS_SPACE_URL=space_url,
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        "it serves kronos-nano. --local starts a Space with the model that you want" in done.stderr
    )
