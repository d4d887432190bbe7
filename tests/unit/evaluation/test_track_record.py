"""Client, tool, status and bot give the record with the forecast; every night updates it."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from sqlalchemy import insert, select
from sqlalchemy.exc import InvalidRequestError, OperationalError

from tests.support.market import Market, flat_forecast
from tradingbot.ai.forecast_document import forecast_document
from tradingbot.ai.forecast_text import forecast_text
from tradingbot.ai.forecast_tool import kronos_forecast
from tradingbot.bots.kronos_trader import KronosTraderBot
from tradingbot.cli.status_output import show_status, status_document
from tradingbot.client import KronosClient
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError, DatabaseError
from tradingbot.evaluation import track_record
from tradingbot.evaluation.track_record import NO_DATABASE, OUT_OF_REACH, describe_track_record
from tradingbot.forecast import QUANTILE_LEVELS, Forecast
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.status import read_status
from tradingbot.jobs.steps import score_forecasts
from tradingbot.jobs.summary import PhaseTimer
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import get_db_session, init_db
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.persistence.models import ALL_SYMBOLS, KronosScore
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.lookahead import LookAhead
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped
from tradingbot.settings import Settings

if TYPE_CHECKING:
    from tradingbot.bots.bot import Bot

FRIDAY = datetime(2024, 5, 17)
RISING = {"last_close": 100.0, "close": 103.0, "low": 99.0, "high": 107.0, "prob_up": 0.8}
SENTENCE = (
    "all tickers, last 60 sessions: error 1.03 × tomorrow-equals-today, "  # noqa: RUF001
    "80 % band held 78 %, direction right 51 % (45–57)"  # noqa: RUF001
)


def give_record(url: str, made: Forecast, *, symbol: str = ALL_SYMBOLS, **changes: Any) -> None:
    row = {
        "model_name": made.model_name,
        "model_revision": made.model_revision or "",
        "interval": made.interval,
        "symbol": symbol,
        "step": 0,
        "last_sessions": 60,
        "n": 300,
        "sessions": 60,
        "first_target": FRIDAY - timedelta(days=90),
        "last_target": FRIDAY,
        "mae": 0.01,
        "relative_mae": 1.03,
        "coverage_80": 0.78,
        "crps_skill": 0.02,
        "hit_rate": 0.51,
        "hit_low": 0.45,
        "hit_high": 0.57,
        "scored_at": utcnow(),
        **changes,
    }
    with get_db_session(url) as session:
        session.execute(insert(KronosScore).values(**row))


@pytest.fixture
def made() -> Forecast:
    forecast = flat_forecast("AAPL", FRIDAY, **RISING)
    assert isinstance(forecast, Forecast)
    return forecast


# client and tool --------------------------------------------------------------------------


@pytest.mark.no_tables
def test_frames_of_the_client_include_the_record(
    space_url: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    with KronosClient(space_url, data=DataService("sample"), timeout=20) as client:
        first = client.predict("AAPL", horizon=1)
        assert first is not None
        # the client created no tables
        assert first.attrs["track_record"] in (NO_DATABASE, OUT_OF_REACH)
        [(_, answer)] = client.forecast_many(["AAPL"], horizon=1)
        assert isinstance(answer, Forecast)
        give_record(database, answer)
        assert client.forecast("AAPL", horizon=1).attrs["track_record"] == SENTENCE


def test_a_ticker_with_enough_forecasts_gets_its_own_record(
    sqlite_url: str, made: Forecast
) -> None:
    give_record(sqlite_url, made)
    give_record(sqlite_url, made, symbol="AAPL", relative_mae=0.97)
    message = describe_track_record(made, lambda: get_db_session(sqlite_url))
    assert message.startswith("AAPL, last 60 sessions: error 0.97 ")


def test_an_unreachable_database_is_not_queried_for_every_forecast(
    made: Forecast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setattr(track_record, "_again_at", {})
    assert describe_track_record(made) == OUT_OF_REACH
    monkeypatch.setattr(track_record, "get_db_session", None)  # a query would fail
    assert describe_track_record(made) == OUT_OF_REACH


def test_the_tools_answer_contains_the_record(
    sqlite_url: str, made: Forecast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = Market(tmp_path / "candles", today=FRIDAY)
    market.write("AAPL", [98.0, 99.0, 101.0, 100.0])
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("KRONOS_DATA_SOURCE", market.source)
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, [made])
    give_record(sqlite_url, made)
    answer = kronos_forecast.invoke({"symbol": "AAPL", "horizon": 5})
    assert f"Its record: {SENTENCE}." in answer
    assert "record" not in forecast_text(forecast_document(made, FRIDAY, "space"))


# status -----------------------------------------------------------------------------------


def test_status_shows_each_models_record(database: str, made: Forecast) -> None:
    with get_db_session(database) as session:
        store_forecasts(session, [made])
    settings = Settings(extra_symbols=("AAPL",))
    before = read_status(database, settings, source="yahoo", max_age=1)
    assert before.models[0].record == (
        "no record yet: 0 of the 30 forecasts needed have an outcome"
    )
    give_record(database, made)
    status = read_status(database, settings, source="yahoo", max_age=1)
    assert status_document(status)["models"][0]["record"] == SENTENCE
    out = StringIO()
    show_status(status, Console(file=out, width=100))
    output = " ".join(out.getvalue().split())  # its lines are wrapped
    assert f"Record {made.model_name}: {SENTENCE}" in output


# bot --------------------------------------------------------------------------------------


@pytest.fixture
def market(tmp_path: Path) -> Market:
    market = Market(tmp_path / "candles", today=FRIDAY)
    market.write("AAPL", [98.0, 99.0, 101.0, 100.0])
    return market


def decide(market: Market, url: str, **options: Any) -> tuple[int, str]:
    bot = market.bot(KronosTraderBot, url, tickers=["AAPL"], **options)
    [decision] = bot.run().decisions
    return decision.answer, decision.reason


def test_the_bot_trades_only_with_sufficient_skill(
    market: Market, database: str, made: Forecast
) -> None:
    with get_db_session(database) as session:
        store_forecasts(session, [made])
    held, why = decide(market, database, min_skill=0.0)
    assert held == 0
    assert why.endswith("; holding: no skill score yet (run `kronosbot score`)")
    give_record(database, made, crps_skill=0.02)
    held, why = decide(market, database, min_skill=0.05)
    assert held == 0
    assert why.endswith("; holding: the model's skill is +0.02 (all tickers, last 60 sessions)")
    held, why = decide(market, database, min_skill=0.02)
    assert held == 0
    assert "; holding: too few sessions for a certain skill (run `kronosbot score`)" in why
    whole = {"last_sessions": 0, "sessions": 310, "skill_low": 0.01, "skill_high": 0.05}
    give_record(database, made, **whole)
    held, why = decide(market, database, min_skill=0.02)
    assert held == 0
    assert why.endswith("but only +0.01 is certain (all tickers, 310 sessions so far)")
    assert decide(market, database, min_skill=0.01)[0] == 1
    give_record(database, made, symbol="AAPL", crps_skill=-0.1)
    held, why = decide(market, database, min_skill=0.0)
    assert (held, why[-44:]) == (0, "the model's skill is -0.10 (AAPL, last 60 sessions)"[-44:])
    assert decide(market, database)[0] == 1  # no record is needed


def test_a_backtest_does_not_use_todays_record(market: Market, sqlite_url: str) -> None:
    bot: Bot = market.bot(KronosTraderBot, sqlite_url, tickers=["AAPL"], min_skill=0.0)
    with pytest.raises(LookAhead, match="min_skill knows the present, and a backtest must not"):
        bot.backtest(market.data().history("AAPL"))
    with pytest.raises(ConfigError, match=r"^min_skill='good': expected a number"):
        KronosTraderBot("b", "AAPL", min_skill="good")


# every night ------------------------------------------------------------------------------


class RecordingReporter(ProgressReporter):
    """Record the messages."""

    def __init__(self) -> None:
        super().__init__(Console(file=StringIO()))
        self.steps: list[str] = []
        self.warnings: list[str] = []
        self.timer = PhaseTimer()

    def step(self, name: str, what: str, *, total: int | None = None) -> None:
        self.steps.append(f"{what}: {total}")

    def warn(self, line: str, **fields: Any) -> None:
        self.warnings.append(line)


@pytest.fixture
def ledger(database: str) -> Iterator[str]:
    """A forecast from Wednesday whose first two sessions have closed."""
    made = flat_forecast("AAPL", FRIDAY - timedelta(days=2), **RISING)
    quantiles = {level: 99 + 8 * level for level in QUANTILE_LEVELS}
    bars = tuple(replace(bar, close_quantiles=quantiles) for bar in made.bars)
    wednesday = replace(made, bars=bars)
    with get_db_session(database) as session:
        store_forecasts(session, [wednesday])
    return database


BEGUN = utcnow() - timedelta(minutes=1)  # the start of the night


def night(market: Market, url: str, since: datetime | None = BEGUN) -> RecordingReporter:
    reporter = RecordingReporter()
    if since is not None:
        reporter.timer.created_at = since
    score_forecasts(
        market.data(),
        JobDatabase(url),
        reporter=reporter,
        timer=reporter.timer,
    )
    return reporter


def scored_at(url: str) -> list[datetime]:
    query = select(KronosScore.scored_at).where(
        KronosScore.symbol == ALL_SYMBOLS, KronosScore.step == 0, KronosScore.last_sessions == 0
    )
    with get_db_session(url) as session:
        return list(session.scalars(query))


def test_every_night_scores_the_matured_forecasts(market: Market, ledger: str) -> None:
    reporter = night(market, ledger)
    assert (reporter.steps, reporter.warnings) == (["Scoring: 1"], [])
    with get_db_session(ledger) as session:
        ns = session.scalars(select(KronosScore.n).where(KronosScore.step == 0)).all()
    assert set(ns) == {2}
    assert list(reporter.timer.durations) == ["score"]


def test_only_one_of_several_shards_scores(market: Market, ledger: str) -> None:
    night(market, ledger)  # all shards of a night start before the first of them ends
    [first] = scored_at(ledger)
    second = night(market, ledger)
    assert (second.steps, second.timer.durations) == ([], {})
    assert scored_at(ledger) == [first]
    assert night(market, ledger, since=utcnow()).steps == ["Scoring: 1"]
    assert scored_at(ledger) > [first]


def test_a_run_starting_in_the_second_of_an_earlier_scoring_scores_too(
    market: Market, ledger: str
) -> None:
    night(market, ledger)
    assert night(market, ledger, since=None).steps == ["Scoring: 1"]


def test_scoring_is_skipped_while_another_run_scores(market: Market, ledger: str) -> None:
    with open_lock(ledger, "scores") as lock:
        assert lock.try_exclusive()
        reporter = night(market, ledger)
    assert (reporter.steps, reporter.warnings, scored_at(ledger)) == ([], [], [])
    assert reporter.timer.durations == {}


def raising(error: BaseException) -> Any:
    def fails(*args: Any, **options: Any) -> None:
        raise error

    return fails


def test_a_failed_scoring_is_a_warning(
    market: Market, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = DatabaseError("it is\ngone")
    monkeypatch.setattr("tradingbot.evaluation.scoring.score", raising(gone))
    init_db(sqlite_url)
    assert night(market, sqlite_url).warnings == [
        "past forecasts could not be scored: DatabaseError: it is gone"
    ]


def test_losing_the_database_while_reading_outcomes_is_a_one_line_warning(
    market: Market, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = OperationalError("SELECT", {}, Exception("disk I/O\nerror"))
    monkeypatch.setattr("tradingbot.evaluation.scoring.ledger_keys", raising(lost))
    init_db(sqlite_url)
    reporter = night(market, sqlite_url)
    [warning] = reporter.warnings
    assert warning.startswith("past forecasts could not be scored: DatabaseError: database sqlite:")
    assert "disk I/O error" in warning
    assert list(reporter.timer.durations) == ["score"]


@pytest.mark.parametrize("mistake", [ZeroDivisionError("oops"), InvalidRequestError("oops")])
def test_a_bug_in_the_scoring_is_logged_with_its_traceback(
    mistake: Exception,
    market: Market,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("tradingbot.evaluation.scoring.score", raising(mistake))
    init_db(sqlite_url)
    reporter = night(market, sqlite_url)
    assert reporter.warnings == []
    assert list(reporter.timer.durations) == ["score"]
    [record] = caplog.records
    assert record.getMessage() == "past forecasts could not be scored"
    assert record.exc_info is not None
    assert record.exc_info[1] is mistake


def test_a_signal_to_stop_ends_the_scoring_and_the_run(
    market: Market, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = raising(Stopped(signal.SIGTERM))
    monkeypatch.setattr("tradingbot.evaluation.scoring.score", stopped)
    init_db(sqlite_url)
    with pytest.raises(Stopped):
        night(market, sqlite_url)


def test_candles_that_the_run_has_fetched_are_not_fetched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = DataService("sample", now=datetime(2013, 2, 20))
    data.history("AAPL", bars=500)
    fetch = data._source.fetch
    monkeypatch.setattr(data._source, "fetch", None)  # a request would fail
    closes = data.closes("AAPL", since=datetime(2012, 1, 3))
    assert (closes.index[0], closes.index[-1]) == (datetime(2012, 1, 3), datetime(2013, 2, 19))
    monkeypatch.setattr(data._source, "fetch", fetch)
    assert data.closes("AAPL", since=datetime(2001, 1, 1)).index[0] == datetime(2001, 1, 2)
