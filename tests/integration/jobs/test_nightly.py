"""The nightly job as a process: its exit code and its results in the database."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from tests.support import commands
from tests.support.commands import forked_python
from tests.support.hub import TOKEN, Hub
from tests.support.jobs import KRONOSBOT, NANO, Done, job, job_command, of_hub, rows, runs
from tests.support.space_server import launch
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import KronosForecast
from tradingbot.space.hub_calls import ATTEMPTS

SESSIONS = [  # in New York after Thursday 2013-02-21, the as_of of the sample
    datetime(2013, 2, 22), datetime(2013, 2, 25), datetime(2013, 2, 26),
    datetime(2013, 2, 27), datetime(2013, 2, 28),
]  # fmt: skip


def write_csv(folder: Path, symbol: str, closes: list[float], last: str = "2024-03-08") -> None:
    """Write daily candles up to Friday, `last`."""
    folder.mkdir(exist_ok=True)
    start = datetime.fromisoformat(last).replace(year=datetime.fromisoformat(last).year - 2)
    days = [day for day in next_sessions(symbol, start, 740) if f"{day:%Y-%m-%d}" <= last]
    lines = ["date,open,high,low,close,volume"] + [
        f"{day:%Y-%m-%d},{close},{close + 1},{close - 1},{close},1000"
        for day, close in zip(days[-len(closes) :], closes, strict=True)
    ]
    (folder / f"{symbol}.csv").write_text("\n".join(lines) + "\n")


# a local Space ----------------------------------------------------------------------------


def test_the_first_command_of_the_readme_forecasts_stores_and_shows_and_a_second_adds_nothing(
    tmp_path: Path,
) -> None:
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    first = job("--local", "--source", "sample", folder=tmp_path, **offline)
    assert first.code == 0, first.err
    assert "using the small bundled kronos-nano, which is not meant for trading" in first.err
    url = f"sqlite:///{tmp_path / 'kronos.db'}"
    stored = rows(url)
    assert [(row.symbol, row.target_date) for row in stored] == [
        (symbol, day) for symbol in ("AAPL", "GOOG", "IBM", "MSFT") for day in SESSIONS
    ]
    assert {(row.model_name, row.as_of, row.samples) for row in stored} == {
        ("kronos-nano", datetime(2013, 2, 21), 50)
    }
    assert [row.horizon_days for row in stored[:5]] == [1, 2, 3, 4, 5]
    assert all(row.close_p10 <= row.close_p90 for row in stored)  # type: ignore[operator]

    table = [line for line in first.out.splitlines() if line.startswith("AAPL")]
    assert re.match(r"AAPL +2013-02-21 +\d+\.\d\d +Fri 22 Feb +\d+\.\d\d +.*% +\d+\.\d\d", table[0])
    assert (
        "Stored   4 tickers (20 rows) now: kronos_predictions in sqlite:///kronos.db" in first.out
    )
    assert "kronos-nano" in first.out
    # only sentences follow, which must be complete
    shown = first.out.partition("mean close")[0].rpartition("\n")[0]
    assert max(map(len, shown.splitlines())) <= 80

    second = job("run", "--local", "--source", "sample", folder=tmp_path, **offline)
    assert second.code == 0, second.err
    assert "Stored   4 tickers already there" in second.out
    assert [line for line in second.out.splitlines() if line.startswith("AAPL")] == table
    again = rows(url)
    assert [(row.symbol, row.target_date, row.predicted_close, row.prediction_made_at)
            for row in again] == [
        (row.symbol, row.target_date, row.predicted_close, row.prediction_made_at)
        for row in stored
    ]  # fmt: skip
    log_first, log_second = runs(url)
    assert (log_first.status, log_first.exit_code, log_first.counts["rows"]) == ("ok", 0, 20)
    assert (log_second.counts["stored"], log_second.counts["already_there"]) == (0, 4)
    assert set(log_first.durations) == {
        "wake", "fetch", "forecast", "store", "pause", "score"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGHUP, 129, "SIGHUP")],
)
def test_ctrl_c_and_a_closed_terminal_stop_the_local_space(
    tmp_path: Path, number: int, code: int, name: str
) -> None:
    env = {**os.environ, **NANO}
    process = commands.piped(KRONOSBOT, "--local", "--source", "sample", cwd=tmp_path, env=env)
    space = _wait_for_child(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert f"Stopped by {name}" in err
    assert "Traceback" not in err
    assert not space.is_running() or space.status() == psutil.STATUS_ZOMBIE
    [log] = runs(f"sqlite:///{tmp_path / 'kronos.db'}")
    assert (log.status, log.exit_code, log.message) == ("failed", code, name)


def _wait_for_child(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process(pid).children():
            if "kronos_space" in child.cmdline():
                return child
        time.sleep(0.02)
    raise AssertionError("the job started no Space")


def test_a_model_folder_without_weights_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "empty-model").mkdir()
    done = job(
        "--local", "--source", "sample", folder=tmp_path, KRONOS_MODEL=str(tmp_path / "empty-model")
    )
    assert done.code == 2
    assert "Error: the local Space could not start: " in done.err
    assert str(tmp_path / "empty-model") in done.err.splitlines()[-1]


# a running Space --------------------------------------------------------------------------


def test_forecasts_go_to_postgres_for_the_tickers_of_the_bots(
    tmp_path: Path, postgres_url: str, space_url: str
) -> None:
    done = job(
        "--source", "sample", folder=tmp_path, KRONOS_SPACE_URL=space_url, DATABASE_URL=postgres_url
    )
    assert done.code == 0, done.err
    assert {row.target_date for row in rows(postgres_url)} == set(SESSIONS)
    assert len(rows(postgres_url)) == 20
    again = job(
        "--source", "sample", "--force", folder=tmp_path, KRONOS_SPACE_URL=space_url,
        DATABASE_URL=postgres_url,
    )  # fmt: skip
    assert again.code == 0, again.err
    assert "4 tickers (20 rows) now" in again.out
    assert len(rows(postgres_url)) == 20
    with get_db_session(postgres_url) as session:
        assert len(session.scalars(select(KronosForecast)).all()) == 20
    assert not list(tmp_path.iterdir()), "no SQLite file beside it"


def test_bad_tickers_fail_alone_each_with_its_reason(tmp_path: Path, space_url: str) -> None:
    folder = tmp_path / "candles"
    write_csv(folder, "SPY", [500.0 + i % 7 for i in range(80)])
    write_csv(folder, "BTC-USD", [60000.0 + i % 9 for i in range(80)])
    write_csv(folder, "OLD", [10.0 + i % 3 for i in range(80)], last="2024-01-05")
    write_csv(folder, "NEW", [10.0] * 5)
    (folder / "EMPTY.csv").write_text("")
    done = job("--source", f"csv:{folder}", folder=tmp_path, KRONOS_SPACE_URL=space_url,
               KRONOS_MIN_SUCCESS="0.4")  # fmt: skip
    assert done.code == 0, done.err
    url = f"sqlite:///{tmp_path / 'kronos.db'}"
    days = {s: [r.target_date for r in rows(url) if r.symbol == s] for s in ("SPY", "BTC-USD")}
    # a forecast from Friday starts on Monday, except for markets that never close
    assert [f"{day:%a %d}" for day in days["SPY"]] == [
        "Mon 11", "Tue 12", "Wed 13", "Thu 14", "Fri 15",
    ]  # fmt: skip
    assert [f"{day:%a %d}" for day in days["BTC-USD"]] == [
        "Sat 09", "Sun 10", "Mon 11", "Tue 12", "Wed 13",
    ]  # fmt: skip
    failed = done.out[done.out.index("Failed") :]
    assert "EMPTY: " in failed
    assert "NEW: 5 usable 1d bars" in failed
    assert "OLD: its newest bar, of 2024-01-05, is 43 sessions old" in failed
    [log] = runs(url)
    assert log.counts == {
        "active": 5, "stored": 2, "already_there": 0, "failed": 3, "rows": 10,
    }  # fmt: skip
    assert log.details["model"] == "kronos-nano"
    assert log.details["failed_by_kind"]["TooFewBars"] == ["NEW"]

    strict = job("--source", f"csv:{folder}", folder=tmp_path, KRONOS_SPACE_URL=space_url)
    assert strict.code == 1
    why = "2 of 5 tickers have a forecast, KRONOS_MIN_SUCCESS asks for 50%"
    assert why in strict.err
    assert runs(url)[-1].message == why


def test_a_dry_run_shows_and_stores_nothing(tmp_path: Path, space_url: str) -> None:
    done = job(
        "--source", "sample", "--symbols", "msft,ZZZZ", "--horizon", "2", "--dry-run",
        folder=tmp_path, KRONOS_SPACE_URL=space_url,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.count(" Feb ") == 2
    assert "Stored   nothing: a dry run (1 ticker forecast)" in done.out
    assert "Failed   ZZZZ: " in done.out
    assert not list(tmp_path.iterdir())


# the reader of the report is gone ---------------------------------------------------------


def test_a_report_that_cannot_be_printed_does_not_change_the_runs_result(
    tmp_path: Path, space_url: str
) -> None:
    forked, real = str(forked_python()), sys.executable

    def into(redirection: str, python: str = forked, **environ: str) -> Done:
        command = shlex.join([python, *job_command("--source", "sample", "--horizon", "2")])
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} {redirection}"],
            cwd=tmp_path,
            env={**os.environ, "KRONOS_SPACE_URL": space_url, **environ},
            capture_output=True,
            timeout=120,
            check=False,
        )
        err = done.stderr.decode()
        assert "Traceback" not in err, err
        assert "Exception" not in err, err
        return Done(done.returncode, done.stdout.decode("ascii"), err)

    assert into("| true").code == 0
    full = into("> /dev/full")
    assert (full.code, full.err.splitlines()[-1]) == (
        0, "Warning: the report could not be shown: No space left on device",
    )  # fmt: skip
    assert into("2>&1 | true").code == 0
    ascii_only = into("", real, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert ascii_only.code == 0
    assert "10-90 % range" in ascii_only.out
    assert [log.status for log in runs(f"sqlite:///{tmp_path / 'kronos.db'}")] == ["ok"] * 4


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [(signal.SIGINT, 130, "Stopped by Ctrl-C"), (signal.SIGTERM, 143, "Stopped by SIGTERM")],
)
def test_a_signal_during_the_first_imports_is_reported_in_one_line(
    tmp_path: Path, number: int, code: int, says: str
) -> None:
    program = (
        "import os, sys, importlib.abc\n"
        "class Kill(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'typer': os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Kill())\n"
        "from tradingbot.kronosbot import main\n"
        "assert not {'typer', 'rich', 'pandas'} & sys.modules.keys()\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()) == (code, [says])


# bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        (["--local"], {"KRONOS_HORIZON": "abc"}, 2, "KRONOS_HORIZON='abc': expected a whole"),
        (["--local", "--horizon", "0"], {}, 2, "--horizon='0': expected a whole number"),
        (["--local", "--source", "ftp"], {}, 2, "--source='ftp': expected yahoo, sample or csv"),
        (["--local", "--source", "csv:nowhere"], {}, 2, "csv:nowhere: no such folder"),
        ([], {}, 2, "KRONOS_SPACE_URL is not set"),
        (["--local", "--shard", "2/2"], {}, 2, "--shard='2/2': expected I/N, part I (from 0 to N"),
        (["--local"], {"KRONOS_SHARDS": "4"}, 2, "KRONOS_SHARDS=4, but the part is not set"),
        (["--local"], {"KRONOS_SHARDS": "none"}, 2, "KRONOS_SHARDS='none': expected a whole"),
        (["--local", "--symbols", ","], {}, 2, "--symbols=',': expected tickers"),
        (["--local", "--symbols", ""], {}, 2, "--symbols='': expected tickers"),
        (["--local", "--database-url", "mysql://me@db/bots"], {}, 2, "'mysql' are not supported"),
        (["--local", "--source", "sample", "--database-url", "nonsense"], {}, 2, "cannot be read"),
        (["--local", "--dry-run", "--database-url", "nonsense"], {}, 2, "cannot be read"),
        (
            ["--local", "--source", "sample"],
            {"DATABASE_URL": "postgresql://me:secret@127.0.0.1:9/kronos"},
            1,
            "database postgresql+psycopg2://me:***@127.0.0.1:9/kronos",
        ),
        (
            ["--source", "sample", "--database-url", "sqlite:///k.db"],
            {"KRONOS_SPACE_URL": "http://127.0.0.1:9", "KRONOS_WAKE_TIMEOUT": "1"},
            1,
            "http://127.0.0.1:9 was not ready within 1 s",
        ),
    ],
)
def test_bad_input_is_a_one_line_error_that_names_it_and_what_to_do(
    tmp_path: Path, arguments: list[str], environ: dict[str, str], code: int, says: str
) -> None:
    done = job(*arguments, folder=tmp_path, **environ)
    assert done.code == code, done.err
    assert done.out == ""
    last = done.err.splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last
    assert "secret" not in done.err


def test_the_help_names_every_option_and_exit_code(tmp_path: Path) -> None:
    done = job("run", "--help", folder=tmp_path)
    assert done.code == 0
    for word in ("--local", "--source", "--symbols", "--horizon", "--database-url", "--dry-run",
                 "--force", "--shard", "130", "143"):  # fmt: skip
        assert word in done.out


# a Space on the Hub -----------------------------------------------------------------------


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(launch=launch, environ={**os.environ, **NANO}) as hub:
        yield hub


def test_the_space_on_the_hub_is_woken_used_and_paused(
    tmp_path: Path, hub: Hub, postgres_url: str
) -> None:
    done = job("--source", "sample", folder=tmp_path, **of_hub(hub, postgres_url))
    assert done.code == 0, done.err
    assert len(rows(postgres_url)) == 20
    assert (hub.stage, hub.running, hub.starts) == ("PAUSED", False, 1)
    assert hub.tokens == {None}, "the Hub's token is not shown to the Space"
    assert TOKEN not in done.err + done.out


def test_sigterm_pauses_the_space_and_exits_143(tmp_path: Path, hub: Hub, sqlite_url: str) -> None:
    with hub.held("health") as asked:
        env = {**os.environ, **of_hub(hub, sqlite_url)}
        process = commands.piped(KRONOSBOT, "--source", "sample", cwd=tmp_path, env=env)
        assert asked.wait(60)
        assert hub.running
        process.terminate()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "Stopped by SIGTERM" in err
    assert (hub.stage, hub.running) == ("PAUSED", False)


def test_a_refused_token_exits_2_and_an_unpaused_space_1(
    tmp_path: Path, hub: Hub, sqlite_url: str
) -> None:
    settings = of_hub(hub, sqlite_url)
    refused = job("--source", "sample", folder=tmp_path, **{**settings, "HF_TOKEN": "hf_wrong"})
    assert refused.code == 2
    assert "HF_TOKEN is not valid (401)" in refused.err.splitlines()[-1]
    assert hub.starts == 0

    hub.faults["pause"] += [403] * ATTEMPTS
    left = job("--source", "sample", folder=tmp_path, **settings)
    assert left.code == 1
    assert "THE SPACE MAY STILL BE RUNNING" in left.err
    assert len(rows(sqlite_url)) == 20, "what was stored stays"


def test_a_database_out_of_reach_leaves_the_space_asleep(tmp_path: Path, hub: Hub) -> None:
    done = job("--source", "sample", folder=tmp_path,
               **of_hub(hub, "postgresql://me@127.0.0.1:9/kronos"))  # fmt: skip
    assert done.code == 1
    assert set(hub.actions()) <= {"runtime", "other"}, "it was looked whether it runs"
