"""The machine-readable output of `kronosbot run`: JSON lines as it runs, then a document."""

import json
import os
import pty
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.support import commands
from tests.support.command_line import kronosbot
from tests.support.hub import REPO, TOKEN, Hub
from tests.support.space_server import launch
from tradingbot.data.service import DataService
from tradingbot.jobs.options import JobOptions
from tradingbot.jobs.steps import requests_for
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import KronosForecast, RunLog
from tradingbot.settings import Settings

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
PASSWORD = "quite-secret"


def objects(text: str) -> list[dict[str, Any]]:
    """Parse one JSON object per line; check the fields that every line has."""
    found = [json.loads(line, parse_constant=_no_json) for line in text.splitlines()]
    for line in found:
        assert list(line)[:5] == ["time", "level", "event", "step", "message"]
        assert datetime.fromisoformat(line["time"]).tzinfo == UTC
    return found


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def document(text: str) -> dict[str, Any]:
    """Parse stdout, which holds one JSON document."""
    [line] = text.splitlines()
    whole: dict[str, Any] = json.loads(line, parse_constant=_no_json)
    return whole


# lines while it runs ----------------------------------------------------------------------


def test_both_streams_are_json_lines_with_steps_and_outcome_in_a_pod(
    tmp_path: Path, space_url: str
) -> None:
    done = kronosbot(
        "--source", "sample", "--symbols", "MSFT,ZZZZ", "--horizon", "2",
        folder=tmp_path, KRONOS_SPACE_URL=space_url, **POD,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = objects(done.stderr)
    started = [(line["step"], line.get("count")) for line in output if line["event"] == "start"]
    assert started == [("wake", None), ("fetch", 2), ("forecast", 1), ("pause", None), ("score", 1)]
    ended = [line for line in output if line["event"] == "end"]
    assert [line["step"] for line in ended] == ["wake", "fetch", "forecast", "pause", "score"]
    assert all(line["seconds"] >= 0 for line in ended)

    report = output[-1]
    assert (report["event"], report["level"], report["exit_code"]) == ("report", "INFO", 0)
    assert report["message"] == "1 of 2 tickers have a forecast"
    [log] = runs(f"sqlite:///{tmp_path / 'kronos.db'}")
    assert report["counts"] == log.counts
    assert report["durations"] == log.durations
    [failure] = report["failures"]
    assert (failure["kind"], failure["symbols"]) == ("UnknownSymbol", ["ZZZZ"])
    assert log.details["source"] == "sample"

    forecast, failed = objects(done.stdout)
    assert (forecast["event"], forecast["symbol"], forecast["status"]) == (
        "forecast", "MSFT", "stored",
    )  # fmt: skip
    assert [bar["target_date"] for bar in forecast["bars"]] == [
        "2013-02-22T00:00:00", "2013-02-25T00:00:00",
    ]  # fmt: skip
    assert (failed["event"], failed["symbol"], failed["level"]) == ("failure", "ZZZZ", "WARNING")


def runs(url: str) -> list[RunLog]:
    with get_db_session(url) as session:
        return list(session.scalars(select(RunLog).order_by(RunLog.id)))


def test_a_terminal_in_a_pod_gets_text_instead_of_json(tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    try:
        command = commands.start(
            "tradingbot.kronosbot",
            cwd=tmp_path, env={**os.environ, **POD}, stdin=end, stdout=end, stderr=end,
        )  # fmt: skip
        assert command.wait(60) == 2
        assert b"Error: KRONOS_SPACE_URL is not set" in os.read(terminal, 10_000)
    finally:
        os.close(end)
        os.close(terminal)


def test_stages_of_the_hub_are_logged_but_no_secrets(tmp_path: Path, postgres_url: str) -> None:
    nano = {"KRONOS_MODEL": "kronos-nano", "KRONOS_THREADS": "1", "KRONOS_API_KEY": PASSWORD}
    with Hub(launch=launch, environ={**os.environ, **nano}) as hub:
        hub.faults["restart"] += [500]
        done = kronosbot(
            "--source", "sample", "--json", "--log-format", "json",
            folder=tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN, HF_SPACE_REPO=REPO,
            KRONOS_SPACE_URL=hub.space_url, KRONOS_API_KEY=PASSWORD, DATABASE_URL=postgres_url,
            PGPASSWORD=PASSWORD,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = objects(done.stderr)
    notes = {line["message"]: line["step"] for line in output if line["event"] == "note"}
    assert notes[f"Space {REPO} (PAUSED): restarting"] == "wake"
    assert notes[f"Space {REPO}: paused"] == "pause"
    for secret in (TOKEN, PASSWORD):
        assert secret not in done.stderr + done.stdout
    assert document(done.stdout)["counts"]["stored"] == 4


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        (["run", "--bogus"], POD, 2, "No such option: --bogus"),
        (["stauts"], POD, 2, "No such command 'stauts'"),
        (["--horizon", "0"], POD, 2, "--horizon='0': expected a whole number"),
        (["--local", "--source", "csv:nowhere"], POD, 2, "csv:nowhere: no such folder"),
        (
            ["--source", "sample", "--log-format=json"],
            {
                "KRONOS_SPACE_URL": "http://127.0.0.1:9",
                "DATABASE_URL": f"postgresql://me:{PASSWORD}@127.0.0.1:9/kronos",
            },
            1,
            "database postgresql+psycopg2://me:***@127.0.0.1:9/kronos",
        ),
    ],
)
def test_a_failure_is_a_line_of_json_too(
    tmp_path: Path, arguments: list[str], environ: dict[str, str], code: int, says: str
) -> None:
    done = kronosbot(*arguments, folder=tmp_path, **environ)
    assert done.returncode == code
    last = objects(done.stderr)[-1]
    assert last["level"] == "ERROR"
    assert says in last["message"]
    assert done.stdout == ""
    assert PASSWORD not in done.stderr


def test_a_signal_before_anything_is_imported_is_a_line_of_json_too(tmp_path: Path) -> None:
    program = (
        "import os, sys, importlib.abc\n"
        "class Kill(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'typer': os.kill(os.getpid(), {int(signal.SIGTERM)})\n"
        "sys.meta_path.insert(0, Kill())\n"
        "from tradingbot.kronosbot import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env={**os.environ, **POD}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    [line] = objects(done.stderr)
    assert (done.returncode, line["message"]) == (143, "Stopped by SIGTERM")


def test_a_bug_is_reported_with_its_traceback_in_one_line_and_in_the_report(
    tmp_path: Path,
) -> None:
    program = (
        "import tradingbot.cli.main as cli\n"
        "import tradingbot.jobs.building as building\n"
        "building.build_job = lambda *arguments, **options: 1 / 0\n"
        "cli.command()\n"
    )
    done = commands.run("-c", program, "--json", cwd=tmp_path, env={**os.environ, **POD})
    assert done.returncode == 1
    mistake, report = objects(done.stderr)
    assert "ZeroDivisionError" in mistake["exception"]
    assert report["error"]["kind"] == "ZeroDivisionError"
    assert document(done.stdout)["exit_code"] == 1


def test_a_run_that_leaves_the_work_to_another_says_so_in_every_format(
    tmp_path: Path, sqlite_url: str
) -> None:
    program = (
        "from tradingbot.cli.main import command\n"
        "from tradingbot.settings import Timeouts, use_timeouts\n"
        "with use_timeouts(Timeouts(run_lock=0.1)):\n"
        "    command()\n"
    )
    settings = {"DATABASE_URL": sqlite_url, "KRONOS_SPACE_URL": "http://127.0.0.1:9"}

    def run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, **settings, **environ}
        return commands.run("-c", program, "--source", "sample", *arguments, cwd=tmp_path, env=env)

    with open_lock(sqlite_url, "run 0/1") as lock:
        assert lock.try_exclusive()
        text, lines = run(), run("--json", **POD)
    assert (text.returncode, lines.returncode) == (0, 0)
    waits, says = "Waiting up to 0 s for another run", "Nothing to do: another run is at work"
    waiting, line = text.stderr.splitlines()
    assert waiting.startswith(f"{waits} to end: kronosbot, process {os.getpid()} on ")
    assert line.startswith(says)
    note, last = objects(lines.stderr)
    assert (note["event"], note["step"]) == ("note", None)
    assert note["message"].startswith(waits)
    assert (last["event"], last["level"], last["error"]) == ("report", "INFO", None)
    assert last["message"].startswith(says)
    assert document(lines.stdout)["message"] == last["message"]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--horizon", "0"], "--horizon='0': expected a whole number from 1 to 256"),
        (["--source", "ftp"], "--source='ftp': expected yahoo, sample or csv:DIR"),
        (["--shard", "2/2"], "--shard='2/2': expected I/N"),
        (["--log-format", "xml"], "--log-format='xml': expected auto, text or json"),
    ],
)
def test_a_wrong_option_is_reported_in_one_line_and_in_the_report(
    tmp_path: Path, option: list[str], says: str
) -> None:
    done = kronosbot(*option, "--json", "--dry-run", folder=tmp_path)
    [line] = done.stderr.splitlines()
    report = document(done.stdout)
    assert (done.returncode, report["exit_code"], report["dry_run"]) == (2, 2, True)
    assert line.startswith(f"Error: {says}")
    assert line == f"Error: {report['error']['message']}"
    assert report["error"]["kind"] == "ConfigError"
    assert report["tickers"] == {}


# the report as one document ---------------------------------------------------------------


def test_the_report_as_json_holds_what_was_stored_and_the_result_of_each_ticker(
    tmp_path: Path, space_url: str, postgres_url: str
) -> None:
    options = ["--source", "sample", "--horizon", "2", "--symbols", "MSFT,AAPL,ZZZZ", "--json"]
    settings = {
        "KRONOS_SPACE_URL": space_url, "DATABASE_URL": postgres_url, "KRONOS_EVENTS": "touch 1%",
    }  # fmt: skip
    first = kronosbot(*options, folder=tmp_path, **settings)
    assert first.returncode == 0, first.stderr
    report = document(first.stdout)
    assert {name: report[name] for name in ("exit_code", "error", "model", "as_of", "source")} == {
        "exit_code": 0,
        "error": None,
        "model": "kronos-nano",
        "as_of": "2013-02-21T00:00:00",
        "source": "sample",
    }
    assert report["counts"] == {
        "active": 3, "stored": 2, "already_there": 0, "failed": 1, "rows": 4,
    }  # fmt: skip
    assert set(report["durations"]) >= {"wake", "fetch", "forecast", "store", "pause"}
    assert report["tickers"]["ZZZZ"]["status"] == "failed"
    assert report["tickers"]["ZZZZ"]["kind"] == "UnknownSymbol"
    with get_db_session(postgres_url) as session:
        ledger = list(
            session.scalars(
                select(KronosForecast)
                .where(KronosForecast.symbol == "AAPL")
                .order_by(KronosForecast.horizon_days)
            )
        )
    apple = report["tickers"]["AAPL"]
    assert (apple["status"], apple["last_close"]) == ("stored", 446.06)
    assert [
        (bar["step"], bar["target_date"], bar["close"], bar["quantiles"], bar["prob_up"])
        for bar in apple["bars"]
    ] == [
        (row.horizon_days, row.target_date.isoformat(), row.predicted_close,
         row.close_quantiles, row.prob_up)
        for row in ledger
    ]  # fmt: skip
    assert apple["bars"][0]["actual"] == 450.81
    [touch] = apple["events"]
    assert (touch["event"], len(touch["probability"])) == ("touch +1%", 2)
    assert 0 <= touch["low"][1] <= touch["probability"][1] <= touch["high"][1] <= 1

    again = document(kronosbot(*options, folder=tmp_path, **settings).stdout)
    assert again["counts"]["already_there"] == 2
    assert again["tickers"]["AAPL"] == {**apple, "status": "already_there"}


def test_the_report_as_json_says_why_a_run_failed_and_what_it_had_done(
    tmp_path: Path, space_url: str
) -> None:
    few = kronosbot(
        "--source", "sample", "--horizon", "1", "--symbols", "MSFT,X1,X2", "--json", "--dry-run",
        folder=tmp_path, KRONOS_SPACE_URL=space_url,
    )  # fmt: skip
    assert few.returncode == 1
    report = document(few.stdout)
    assert report["error"]["kind"] == "TooFewForecasts"
    assert report["error"]["message"].startswith("1 of 3 tickers have a forecast")
    assert report["tickers"]["MSFT"]["status"] == "forecast"
    assert (report["dry_run"], report["counts"]["stored"]) == (True, 0)
    assert few.stderr.splitlines()[-1] == f"Error: {report['error']['message']}"

    wrong = kronosbot("--json", folder=tmp_path, KRONOS_HORIZON="abc")
    assert wrong.returncode == 2
    report = document(wrong.stdout)
    assert report["error"]["kind"] == "ConfigError"
    assert "KRONOS_HORIZON='abc'" in report["error"]["message"]
    assert report["tickers"] == {}


def test_a_run_accepts_sampling_options_and_refuses_another_model(
    tmp_path: Path, space_url: str, sqlite_url: str
) -> None:
    here = {"KRONOS_SPACE_URL": space_url, "DATABASE_URL": sqlite_url}
    drawn = ("--samples", "7", "--temperature", "0.5", "--top-p", "0.8", "--model", "kronos-nano")
    run = ("--source", "sample", "--symbols", "AAPL", "--horizon", "1")
    done = kronosbot(*run, *drawn, folder=tmp_path, **here)
    assert done.returncode == 0, done.stderr
    assert "Next     kronosbot status" in done.stdout
    with get_db_session(sqlite_url) as session:
        [stored] = session.scalars(select(KronosForecast))
        assert stored.samples == 7
    other = kronosbot(*run, "--model", "kronos-base", folder=tmp_path, **here)
    assert other.returncode == 2
    assert "--model='kronos-base': the Space at " in other.stderr
    assert "it serves kronos-nano. --local starts a Space" in other.stderr


def test_requests_to_the_space_have_the_options_of_the_run() -> None:
    history = DataService("sample", horizon=5).history("AAPL", bars=40)
    options = JobOptions(temperature=0.5, top_p=0.8)
    [asked] = requests_for({"AAPL": history}, Settings(samples=7), options)
    body = json.loads(asked.body)
    assert [body[name] for name in ("samples", "temperature", "top_p")] == [7, 0.5, 0.8]
