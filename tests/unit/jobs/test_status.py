"""The content of `kronosbot status`: runs, newest forecasts, and stale tickers."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sqlalchemy import text

from tradingbot.cli.status_output import show_status, status_document
from tradingbot.errors import DatabaseError
from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar
from tradingbot.jobs.status import Model, Status, Ticker, read_status
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import get_db_session, get_engine, read_only_session
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.persistence.models import BotRow, KronosPrediction, KronosScore, RunLog
from tradingbot.persistence.runs import LONGEST_RUN, Run
from tradingbot.postprocessing.bands import ALL_CLASSES
from tradingbot.postprocessing.combination import without_record
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.repository import store_combination
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Settings

# Saturday noon: the last complete session is Friday's, for New York and for Bitcoin
NOW = datetime(2024, 3, 9, 12)
THURSDAY, FRIDAY = datetime(2024, 3, 7), datetime(2024, 3, 8)
SPY = Settings(extra_symbols=("SPY",))
NO_RECORD = "no record yet: 0 of the 30 forecasts needed have an outcome"


@pytest.fixture(autouse=True)
def on_a_saturday(monkeypatch: pytest.MonkeyPatch) -> None:
    from tradingbot.data.service import DataService

    monkeypatch.setattr(DataService, "now", lambda self: NOW)


def forecast(symbol: str, as_of: datetime, *, model: str = "mini", horizon: int = 2) -> Forecast:
    bars = tuple(
        ForecastBar(
            step=step,
            target_date=as_of + timedelta(days=step),
            open=10.0,
            high=10.0,
            low=10.0,
            close=10.0,
            volume=1.0,
            close_quantiles=dict.fromkeys(QUANTILE_LEVELS, 10.0),
            prob_up=0.5,
        )
        for step in range(1, horizon + 1)
    )
    return Forecast(symbol, "1d", model, None, as_of, as_of, 10.0, 20, None, bars)


def store(url: str, *forecasts: Forecast) -> None:
    with get_db_session(url) as session:
        store_forecasts(session, forecasts)


def log_run(url: str, started_at: datetime, **columns: Any) -> None:
    """Store a successful run, unless `columns` say otherwise."""
    row = {
        "finished_at": started_at + timedelta(seconds=41),
        "status": "ok",
        "exit_code": 0,
        "counts": {"active": 1, "stored": 1, "already_there": 0, "failed": 0, "rows": 5},
        "details": {"model": "mini", "source": "yahoo"},
    }
    with get_db_session(url) as session:
        session.add(RunLog(name="kronosbot", started_at=started_at, **{**row, **columns}))


def status_of(url: str, settings: Settings = SPY, max_age: int = 1) -> Status:
    return read_status(url, settings, source=None, max_age=max_age)


def shown(status: Status) -> list[str]:
    out = StringIO()
    show_status(status, Console(file=out, width=200))
    return [line.rstrip() for line in out.getvalue().splitlines()]


# stale tickers ----------------------------------------------------------------------------


def test_a_forecast_of_the_latest_complete_session_of_its_exchange_is_fresh(database: str) -> None:
    store(database, forecast("SPY", FRIDAY), forecast("BTC-USD", FRIDAY))
    log_run(database, utcnow())
    status = status_of(database, Settings(extra_symbols=("SPY", "BTC-USD")), max_age=0)
    assert (status.exit_code, status.problems, status.stale) == (0, [], [])
    assert status.models == [Model("mini", "1d", FRIDAY, tickers=2, fresh=2, record=NO_RECORD)]
    assert shown(status)[-1] == "All well  2 of 2 active tickers are fresh; the last run went well"


def test_age_is_counted_in_sessions_of_the_exchange_and_the_oldest_comes_first(
    database: str,
) -> None:
    wednesday = datetime(2024, 3, 6)
    store(
        database,
        forecast("SPY", THURSDAY),
        forecast("GLD", wednesday, model="nano"),
        forecast("GLD", datetime(2024, 3, 5)),
        forecast("BTC-USD", datetime(2024, 3, 2)),
    )
    log_run(database, utcnow())
    active = Settings(extra_symbols=("SPY", "GLD", "BTC-USD", "QQQ"))
    status = status_of(database, active)
    assert status.stale == [
        Ticker("QQQ", None, None, "no forecast"),
        Ticker("BTC-USD", datetime(2024, 3, 2), 6, "6 sessions behind 2024-03-08"),
        Ticker("GLD", wednesday, 2, "2 sessions behind 2024-03-08"),
        Ticker("SPY", THURSDAY, 1, "1 session behind 2024-03-08"),
    ]
    assert status.problems == ["3 of 4 active tickers are stale: QQQ, BTC-USD, GLD"]
    assert [(model.name, model.tickers, model.fresh) for model in status.models] == [
        ("mini", 3, 0), ("nano", 1, 0),
    ]  # fmt: skip


def test_a_forecast_one_session_behind_is_fresh_by_default(
    sqlite_url: str,
) -> None:
    store(sqlite_url, forecast("SPY", THURSDAY))
    log_run(sqlite_url, utcnow())
    waiting = status_of(sqlite_url)
    assert waiting.exit_code == 0
    assert shown(waiting)[-1] == (
        "All well  0 of 1 active tickers are fresh, the rest waits for the next run; "
        "the last run went well"
    )
    strict = status_of(sqlite_url, max_age=0)
    assert strict.problems == ["1 of 1 active tickers are stale: SPY"]


def test_only_tickers_of_bots_are_judged_for_staleness(database: str) -> None:
    store(database, forecast("SPY", FRIDAY), forecast("OLD", datetime(2023, 3, 8)))
    with get_db_session(database) as session:
        session.add(BotRow(name="a", portfolio={"USD": 10_000.0, "NVDA": 0.0}))
    log_run(database, utcnow())
    status = status_of(database)
    assert (status.active, status.inactive) == (2, ["OLD"])
    assert status.problems == ["1 of 2 active tickers are stale: NVDA"]
    assert "Inactive  OLD: not judged" in shown(status)


def test_a_ticker_with_an_unknown_exchange_is_a_separate_problem(sqlite_url: str) -> None:
    store(sqlite_url, forecast("SPY", FRIDAY), forecast("SPY.XX", FRIDAY))
    log_run(sqlite_url, utcnow())
    [ticker] = status_of(sqlite_url, Settings(extra_symbols=("SPY", "SPY.XX"))).stale
    assert ticker.symbol == "SPY.XX"
    assert "no exchange is known for the suffix .XX" in ticker.why


def test_rows_of_the_first_layout_have_an_unknown_age(database: str) -> None:
    with get_db_session(database) as session:
        session.add(
            KronosPrediction(
                symbol="SPY",
                interval="1d",
                target_date=FRIDAY,
                model_name="mini",
                prediction_made_at=THURSDAY,
                horizon_days=1,
                predicted_open=1.0,
                predicted_high=1.0,
                predicted_low=1.0,
                predicted_close=1.0,
            )
        )
    log_run(database, utcnow())
    status = status_of(database)
    assert status.models == [Model("mini", "1d", None, tickers=1, fresh=0, record=NO_RECORD)]
    assert status.stale[0].why == "a forecast of an older version, which kept no as_of"
    assert status.exit_code == 1


# the runs ---------------------------------------------------------------------------------


def test_the_last_runs_are_reported_newest_first_with_their_results(database: str) -> None:
    store(database, forecast("SPY", FRIDAY))
    now = utcnow().replace(microsecond=0)
    log_run(database, now - timedelta(days=3))
    log_run(database, now - timedelta(days=2), finished_at=None, status="running", exit_code=None)
    log_run(database, now - timedelta(days=1), exit_code=1, status="failed", message="Hub is down")
    log_run(database, now - timedelta(minutes=3), finished_at=None, exit_code=None, counts={})
    with open_lock(database, "run 0/1") as lock:
        assert lock.try_exclusive()
        status = status_of(database)
    assert [(run.state, run.exit_code, run.seconds) for run in status.runs] == [
        ("running", None, None), ("failed", 1, 41.0), ("killed", None, None), ("ok", 0, 41.0),
    ]  # fmt: skip
    when = f"{now - timedelta(days=1):%Y-%m-%d %H:%M}"
    assert status.problems == [f"the last run, of {when}, ended with 1: Hub is down"]
    output = "\n".join(shown(status))
    assert "running for 3 min" in output
    assert "never finished: killed?" in output


@pytest.mark.integration
def test_a_run_without_a_process_counts_as_killed_immediately(database: str) -> None:
    store(database, forecast("SPY", FRIDAY))
    take = (
        "from tradingbot.persistence.database_locks import open_lock\n"
        f"lock = open_lock({database!r}, 'run 0/1')"
    )
    subprocess.run([sys.executable, "-c", f"{take}\nassert lock.try_exclusive()"], check=True)
    log_run(database, utcnow(), finished_at=None, status="running", exit_code=None)
    status = status_of(database)
    assert status.runs[0].state == "killed"
    [problem] = status.problems
    assert "never finished: was it killed?" in problem


def test_a_run_on_another_machine_with_a_sqlite_file_counts_as_running_for_hours(
    sqlite_url: str, tmp_path: Path
) -> None:
    store(sqlite_url, forecast("SPY", FRIDAY))
    (tmp_path / "kronos.db.run-0-1.lock").write_text("kronosbot, process 1 on elsewhere, since …")
    unfinished = {"finished_at": None, "status": "running", "exit_code": None}
    log_run(sqlite_url, utcnow() - LONGEST_RUN - timedelta(minutes=1), **unfinished)
    assert status_of(sqlite_url).runs[0].state == "killed"
    log_run(sqlite_url, utcnow(), **unfinished)
    assert status_of(sqlite_url).runs[0].state == "running"


def test_only_the_shards_of_the_last_night_are_judged(
    sqlite_url: str,
) -> None:
    store(sqlite_url, forecast("SPY", FRIDAY))
    now = utcnow().replace(microsecond=0)
    unfinished = {"finished_at": None, "exit_code": None}
    failed = {"exit_code": 1, "message": "Hub is down"}
    log_run(sqlite_url, now - timedelta(days=9), **failed, details={"shard": "3/4"})
    log_run(sqlite_url, now - timedelta(days=1), **unfinished, details={"shard": "0/2"})
    log_run(sqlite_url, now - timedelta(minutes=3), **failed, details={"shard": "1/2"})
    log_run(sqlite_url, now - timedelta(minutes=2), **unfinished, details={"shard": "0/2"})
    with open_lock(sqlite_url, "run 0/2") as lock:
        assert lock.try_exclusive()
        status = status_of(sqlite_url)
    assert [(run.shard, run.state) for run in status.runs] == [
        ("0/2", "running"), ("1/2", "failed"), ("0/2", "killed"), ("3/4", "failed"),
    ]  # fmt: skip
    assert status.problems == [
        f"the last run of shard 1/2, of {now - timedelta(minutes=3):%Y-%m-%d %H:%M}, "
        "ended with 1: Hub is down",
        f"the last run of shard 0/2, of {now - timedelta(days=1):%Y-%m-%d %H:%M}, "
        "never finished: was it killed?",
    ]
    assert any(line.endswith("shard 0/2 running for 2 min") for line in shown(status))


def test_the_source_of_the_last_run_sets_the_clock_unless_another_is_named(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    log_run(sqlite_url, utcnow(), details={"model": "nano", "source": "sample"})
    status = status_of(sqlite_url)
    assert (status.source, status.active) == ("sample", 4)
    assert status.clock is not None
    assert status.clock.year == 2013
    named = read_status(sqlite_url, SPY, source="yahoo", max_age=1)
    assert (named.source, named.active) == ("yahoo", 1)


# empty or foreign databases ---------------------------------------------------------------


def first_layout(url: str) -> None:
    with get_engine(url).begin() as connection:
        connection.execute(text("CREATE TABLE kronos_predictions (id INTEGER PRIMARY KEY)"))


def empty(url: str) -> None:
    with get_engine(url).begin() as connection:
        connection.execute(text("CREATE TABLE something_else (id INTEGER)"))


@pytest.mark.no_tables
@pytest.mark.parametrize(
    ("made_by", "says"),
    [
        (empty, "is empty: `kronosbot run` fills it"),
        (first_layout, "next `kronosbot run` upgrades"),
    ],
)
def test_a_database_without_our_tables_is_reported_and_left_unchanged(
    database: str, made_by: Callable[[str], None], says: str
) -> None:
    made_by(database)
    before = tables(database)
    status = status_of(database)
    assert status.exit_code == 1
    [line] = shown(status)
    assert says in line
    assert tables(database) == before


def tables(url: str) -> set[str]:
    from sqlalchemy import inspect

    return set(inspect(get_engine(url)).get_table_names())


def test_a_missing_sqlite_file_is_not_created(sqlite_url: str, tmp_path: Path) -> None:
    status = status_of(sqlite_url)
    assert status.exit_code == 1
    assert status.problems[0].startswith(f"there is no {sqlite_url} yet: `kronosbot run` fills it")
    assert not list(tmp_path.iterdir())


def test_the_skill_of_each_part_is_shown_below_the_record(database: str) -> None:
    store(database, forecast("SPY", FRIDAY))
    row = {
        "model_name": "mini", "model_revision": "", "interval": "1d", "symbol": "*", "step": 0,
        "last_sessions": 0, "n": 290, "sessions": 59, "first_target": THURSDAY,
        "last_target": FRIDAY, "scored_at": NOW,
    }  # fmt: skip
    skills = {"raw": -0.0684, "calibrated": -0.031, "combined": 0.0213, "served": 0.01}
    with get_db_session(database) as session:
        session.add_all(
            KronosScore(**row, forecast=name, crps_skill=skill) for name, skill in skills.items()
        )
        session.add(KronosScore(**row | {"model_revision": "other"}, crps_skill=0.9))
    status = status_of(database)
    assert status.models[0].skills == skills
    assert status_document(status)["models"][0]["skills"] == skills
    out = StringIO()
    show_status(status, Console(file=out, width=200))
    line = "Skill     mini: raw -6.8 %, calibrated -3.1 %, combined +2.1 %, served +1.0 %"
    assert line in out.getvalue()


def test_scores_of_an_older_version_with_missing_columns_are_ignored(database: str) -> None:
    store(database, forecast("SPY", FRIDAY))
    with get_db_session(database) as session:
        session.execute(text("ALTER TABLE kronos_scores DROP COLUMN ewma_skill"))
    [model] = status_of(database).models
    assert (model.record, model.skills) == (None, {})


def test_a_schema_of_a_newer_version_is_refused(database: str) -> None:
    log_run(database, utcnow())
    with get_db_session(database) as session:
        session.execute(text("UPDATE kronos_schema_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="schema 9999, newer than"):
        status_of(database)


def test_status_uses_a_read_only_session(database: str) -> None:
    log_run(database, utcnow())
    with pytest.raises(DatabaseError, match=r"read-?only"), read_only_session(database) as session:
        session.execute(text("DELETE FROM run_logs"))
    assert len(status_of(database).runs) == 1


@pytest.mark.parametrize(
    ("today", "noted"), [(datetime(2026, 10, 30, 12), False), (datetime(2026, 11, 3, 12), True)]
)
def test_a_calendar_ending_within_60_days_is_a_note_and_not_a_problem(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, today: datetime, noted: bool
) -> None:
    from tradingbot.data.service import DataService

    monkeypatch.setattr(DataService, "now", lambda self: today)
    store(sqlite_url, forecast("600519.SS", datetime(2026, 10, 30)))
    log_run(sqlite_url, utcnow())
    status = status_of(sqlite_url, Settings(extra_symbols=("600519.SS", "SPY")), max_age=9)
    words = "the holidays of XSHG are recorded up to 2026-12-31"
    assert (words in "\n".join(shown(status))) is noted


# the output -------------------------------------------------------------------------------


def test_the_document_lists_all_stale_tickers_and_the_text_the_worst(sqlite_url: str) -> None:
    symbols = tuple(f"T{number:03}" for number in range(50))
    store(sqlite_url, forecast("SPY", FRIDAY))
    log_run(sqlite_url, utcnow())
    status = status_of(sqlite_url, Settings(extra_symbols=symbols))
    content = status_document(status)
    assert [ticker["symbol"] for ticker in content["stale"]] == list(symbols)
    assert content["exit_code"] == 1
    assert content["problems"] == [
        "50 of 50 active tickers are stale: T000, T001, T002, T003, T004 and 45 more"
    ]
    assert content["runs"][0]["started_at"].tzinfo is not None
    assert "and 30 more: --json has them all" in "\n".join(shown(status))


def test_every_status_fits_a_terminal_of_80_columns() -> None:
    names = ("NeoQuasar/Kronos-mini", "kronos-nano", "a-model-of-my-own/" + "fine-tuned-" * 2)
    runs = [
        Run(
            source="yahoo", started_at=FRIDAY,
            state=state, exit_code=130, seconds=5_999.0, shard="0/4",
            counts={"stored": 12345, "already_there": 12345, "failed": 12345},
            model=name, message="the Space at https://owner-space.hf.space is out of reach " * 3,
        )
        for name, state in zip(names, ("failed", "killed", "running"), strict=True)
    ]  # fmt: skip
    models = [
        Model(name, interval, as_of=NOW, tickers=12345, fresh=12345, record=NO_RECORD * 2,
              shares={"kronos": 1.0})
        for name in names for interval in ("1d", "60m")
    ]  # fmt: skip
    out = StringIO()
    show_status(
        Status(
            now=NOW, database="postgresql+psycopg2://me:***@db/bots", source="yahoo", clock=NOW,
            runs=runs, models=models, active=9, inactive=["BTC-USD", "EURUSD=X"] * 9,
            stale=[Ticker("SPY", THURSDAY, 1, "1 session behind 2024-03-08, " * 4)],
            notes=["a calendar ends " * 9], problems=["1 of 9 active tickers are stale: SPY " * 3],
        ),
        Console(file=out),
    )  # fmt: skip
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80
    assert "never finished: killed?" in out.getvalue()


# champion and challengers -----------------------------------------------------------------


def test_the_champion_is_listed_first_and_only_it_can_be_stale(
    database: str,
) -> None:
    store(database, forecast("SPY", THURSDAY, model="mini"))
    with get_db_session(database) as session:
        store_forecasts(session, [forecast("SPY", FRIDAY, model="base")], challenger=True)
    log_run(database, utcnow())
    status = status_of(database, max_age=0)
    assert [(model.name, model.challenger, model.fresh) for model in status.models] == [
        ("mini", False, 0), ("base", True, 1),
    ]  # fmt: skip
    assert [ticker.symbol for ticker in status.stale] == ["SPY"]
    assert "Beside    base: in shadow, no trial yet" in shown(status)


def test_a_challenger_that_has_become_the_champion_is_listed_once(database: str) -> None:
    with get_db_session(database) as session:
        store_forecasts(session, [forecast("SPY", THURSDAY, model="base")], challenger=True)
    store(database, forecast("SPY", FRIDAY, model="base"))
    log_run(database, utcnow())
    [model] = status_of(database).models
    assert (model.name, model.challenger, model.tickers, model.fresh) == ("base", False, 1, 1)


def test_a_challengers_weight_is_shown_next_to_the_champion(database: str) -> None:
    key = ("mini", "", "1d")
    learnt = replace(
        without_record(3), sessions=90, forecasts=400, until=np.datetime64("2024-03-01", "s")
    )
    served = learnt.with_challengers(["base", "tuned"])
    won, base = served.trials[1].state, replace(served.trials[0], sessions=70)
    pools = {
        (ALL_CLASSES, 1): replace(won, trials=(base,)),
        (ALL_CLASSES, 2): replace(served, trials=(base, replace(served.trials[1], sessions=80))),
    }
    store(database, forecast("SPY", FRIDAY))
    with get_db_session(database) as session:
        store_combination(session, Combination(key, pools))
        for model in ("base", "tuned"):
            store_forecasts(session, [forecast("SPY", FRIDAY, model=model)], challenger=True)
    log_run(database, utcnow())
    status = status_of(database)
    assert [(item.name, item.trial) for item in status.models if item.challenger] == [
        ("base", "in shadow, 70 sessions of trial"),
        ("tuned", "a share at 1 of 2 steps ahead, else in shadow, 80 sessions of trial"),
    ]
    [bands] = [line for line in shown(status) if line.startswith("Bands")]
    assert bands.endswith("% tuned")
