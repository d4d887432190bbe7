"""`kronosbot status` as monitoring runs it: a process, its exit code, its output."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.command_line import kronosbot
from tests.support.pgbouncer import pooled
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import RunLog
from tradingbot.runtime.clock import utcnow


def test_status_succeeds_after_a_run_and_fails_if_a_day_is_missing(
    tmp_path: Path, space_url: str, database: str
) -> None:
    settings = {"DATABASE_URL": database, "KRONOS_SPACE_URL": space_url}
    run = kronosbot("--source", "sample", "--horizon", "2", folder=tmp_path, **settings)
    assert run.returncode == 0, run.stderr

    well = kronosbot("status", "--max-age", "0", folder=tmp_path, **settings)
    assert well.returncode == 0, well.stdout + well.stderr
    lines = well.stdout.splitlines()
    assert lines[1] == "Clock     2013-02-21 21:00 UTC, by the source sample"
    assert lines[-1] == "All well  4 of 4 active tickers are fresh; the last run went well"
    [model] = [line.split() for line in lines if line.startswith("kronos-nano (")]
    assert model[-4:] == ["1d", "2013-02-21", "4", "4"]
    assert well.stderr == ""

    yahoo = kronosbot("status", "--json", folder=tmp_path, KRONOS_DATA_SOURCE="yahoo", **settings)
    assert yahoo.returncode == 1
    [line] = yahoo.stdout.splitlines()
    status = json.loads(line)
    assert status["problems"] == ["3 of 3 active tickers are stale: GLD, QQQ, SPY"]
    assert status["inactive"] == ["AAPL", "GOOG", "IBM", "MSFT"]
    [run_log] = status["runs"]
    assert (run_log["state"], run_log["counts"]["stored"]) == ("ok", 4)
    assert datetime.fromisoformat(run_log["started_at"]).utcoffset() == timedelta(0)
    assert (status["exit_code"], status["error"]) == (1, None)


@pytest.mark.parametrize("command", ["status", "score", "calibrate", "report"])
def test_a_pooler_without_transactions_is_named_by_every_command_that_reads(
    command: str, tmp_path: Path, postgres_url: str
) -> None:
    """The pooler also ends the connection, which could be mistaken for a server that is down."""
    with pooled(postgres_url, mode="statement") as url:
        done = kronosbot(command, folder=tmp_path, DATABASE_URL=url)
    assert done.returncode == 2, done.stderr
    assert "pool_mode=session" in done.stderr.splitlines()[-1]


def test_without_a_database_status_explains_it_and_creates_none(
    tmp_path: Path,
) -> None:
    done = kronosbot("status", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    [line] = done.stdout.splitlines()
    assert "there is no sqlite:///kronos.db yet: `kronosbot run` fills it" in line
    assert not list(tmp_path.iterdir())


def test_a_read_only_role_suffices_for_100_000_rows(tmp_path: Path, postgres_url: str) -> None:
    with get_db_session(postgres_url) as session:
        session.execute(text(_HUNDRED_TICKERS_OF_200_SESSIONS))
        session.add(
            RunLog(
                name="kronosbot", started_at=utcnow(), finished_at=utcnow(), status="ok",
                exit_code=0, counts={}, details={"source": "yahoo"},
            )
        )  # fmt: skip
        session.execute(text("DROP ROLE IF EXISTS watcher"))
        session.execute(text("CREATE ROLE watcher LOGIN"))
        session.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO watcher"))
    try:
        done = kronosbot(
            "status", "--json", folder=tmp_path,
            DATABASE_URL=postgres_url.replace("postgres:@", "watcher:@"),
            KRONOS_EXTRA_SYMBOLS="T001",
        )  # fmt: skip
        status = json.loads(done.stdout)
        assert status["models"] == [
            {"name": "mini", "interval": "1d", "as_of": "2024-03-08T00:00:00",
             "tickers": 100, "fresh": 0,
             "record": "no record yet: 0 of the 30 forecasts needed have an outcome",
             "shares": None, "challenger": False, "trial": None, "skills": {}},
        ]  # fmt: skip
    finally:
        with get_db_session(postgres_url) as session:
            session.execute(text("DROP OWNED BY watcher"))
            session.execute(text("DROP ROLE watcher"))


_HUNDRED_TICKERS_OF_200_SESSIONS = """
INSERT INTO kronos_forecasts
SELECT 'T' || lpad(s::text, 3, '0'), '1d', 'mini',
       timestamp '2024-03-08' - d * interval '1 day',
       timestamp '2024-03-08' + (h - d) * interval '1 day',
       'r', now(), h, 1, 1, 1, 1, 1, 1, '{"0.1": 1, "0.5": 1, "0.9": 1}', 0.5, 20
FROM generate_series(1, 100) s, generate_series(0, 199) d, generate_series(1, 5) h
"""


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        (
            [],
            {"DATABASE_URL": "postgresql://me:quite-secret@127.0.0.1:9/kronos"},
            1,
            "database postgresql+psycopg2://me:***@127.0.0.1:9/kronos",
        ),
        (["--max-age", "x"], {}, 2, "--max-age='x': expected a whole number"),
        (["--source", "ftp"], {}, 2, "--source='ftp': expected yahoo"),
        ([], {"DATABASE_URL": "mysql://me@db/bots"}, 2, "'mysql' are not supported"),
    ],
)
def test_a_failure_is_reported_in_one_line_and_in_one_document(
    tmp_path: Path, arguments: list[str], environ: dict[str, str], code: int, says: str
) -> None:
    done = kronosbot("status", "--json", *arguments, folder=tmp_path, **environ)
    assert done.returncode == code
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert says in line
    failure = json.loads(done.stdout)
    assert failure["exit_code"] == code
    assert says in failure["error"]["message"]
    assert "quite-secret" not in done.stdout + done.stderr
