"""The steps of the job with one part replaced: what survives a failure in the middle."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, select, text, update
from sqlalchemy.orm import Session

from tests.support.postgres import Postgres
from tradingbot.bots.universe import active_tickers
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError, DatabaseError, DatabaseUnavailable, RunOvertaken
from tradingbot.evaluation.close_outcomes import ForecastOutcomes, closes_of, resolve_outcomes
from tradingbot.jobs import postprocessing
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.nightly import JobOptions, NightlyJob
from tradingbot.jobs.run_lock import await_lock
from tradingbot.jobs.summary import Ending, RunSummary
from tradingbot.markets.calendars import session_close
from tradingbot.path_events.grammar import parse_events
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import get_db_session, get_engine
from tradingbot.persistence.models import (
    KronosEvent,
    KronosForecast,
    KronosPrediction,
    KronosScore,
    RunLog,
)
from tradingbot.persistence.transactions import retried
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.settings import Settings, Timeouts
from tradingbot.space import client as space_client
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient

SAMPLE = ["AAPL", "GOOG", "IBM", "MSFT"]


@pytest.fixture(scope="module")
def data() -> DataService:
    return DataService("sample")


@pytest.fixture
def space(space_url: str) -> Callable[[], Any]:
    """Provide a client, and check that the job leaves the context."""

    @contextmanager
    def space() -> Iterator[SpaceClient]:
        with SpaceClient(SpaceAddress(space_url, timeouts=Timeouts(space_backoff=0.01))) as client:
            yield client

    return space


def stored(url: str) -> list[tuple[str, int]]:
    with get_db_session(url) as session:
        return sorted(
            (row.symbol, row.horizon_days) for row in session.scalars(select(KronosPrediction))
        )


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every ticker a separate batch."""
    monkeypatch.setattr(space_client, "BATCH_SERIES", 1)


class Job(NightlyJob):
    """The job on the sample, two bars ahead, in a Space of the test."""

    def __init__(
        self,
        space: Any,
        data: DataService,
        database: str | JobDatabase,
        timeouts: Timeouts | None = None,
        events: str = "",
    ) -> None:
        if isinstance(database, str):
            database = JobDatabase(database)
        options = JobOptions(symbols=tuple(SAMPLE))
        settings = Settings(
            data_source="sample",
            horizon=2,
            samples=4,
            timeouts=timeouts or Timeouts(),
            events=parse_events(events),
        )
        opener = lambda lock, wake_log: space()  # noqa: E731
        super().__init__(settings, options, database, data, opener, ProgressReporter())

    @property
    def done(self) -> RunSummary:
        """Return the results so far."""
        return self.summary(Ending())


def test_configured_events_are_answered_and_stored_with_the_forecasts(
    space: Any, data: DataService, database: str
) -> None:
    job = Job(space, data, database, events="touch +1%, close above 0%, drawdown above 1%")
    assert job.run().exit_code == 0
    with get_db_session(database) as session:
        chances = session.scalars(select(KronosEvent)).all()
        ledger = {
            (row.symbol, row.as_of, row.target_date, row.bars_hash): row
            for row in session.scalars(select(KronosForecast))
        }
        assert len(chances) == 4 * 3 * 2  # tickers, events, bars
        for chance in chances:
            row = ledger[chance.symbol, chance.as_of, chance.target_date, chance.bars_hash]
            assert (chance.model_name, chance.model_revision) == (
                row.model_name,
                row.model_revision,
            )
            assert (chance.horizon_days, chance.last_close) == (row.horizon_days, row.last_close)
            assert 0 <= chance.low <= chance.probability <= chance.high <= 1
            assert (chance.mean is None) == (chance.event != "drawdown above 1%")
            if chance.event == "close above 0%":  # uncalibrated, since there is no record yet
                assert chance.probability == row.prob_up
    assert all(forecast.paths is None for forecast in job.done.forecasts.values())


def test_unanswerable_events_do_not_affect_forecasts(
    space: Any, data: DataService, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ArithmeticError("a bug")

    monkeypatch.setattr(postprocessing, "with_events", broken)
    assert Job(space, data, sqlite_url, events="touch +1%").run().exit_code == 0
    assert stored(sqlite_url) == [(symbol, step) for symbol in SAMPLE for step in (1, 2)]


@pytest.mark.usefixtures("one_by_one")
def test_after_an_interruption_stored_forecasts_stay_and_the_next_run_adds_the_rest(
    space: Any, data: DataService, database: str
) -> None:
    class Interrupted(SpaceClient):
        def forecast_batches(self, *args: Any, **kwargs: Any) -> Any:
            batches = super().forecast_batches(*args, **kwargs)
            yield next(batches)
            raise Stopped(signal.SIGTERM)

    @contextmanager
    def interrupted() -> Iterator[SpaceClient]:
        with space() as client:
            client.__class__ = Interrupted
            yield client

    job = Job(interrupted, data, database)
    with pytest.raises(Stopped):
        job.run()
    assert job.done.made == ["AAPL"]
    assert stored(database) == [("AAPL", 1), ("AAPL", 2)]

    job = Job(space, data, database)
    assert job.run() == Ending()
    assert (job.done.already_stored, job.done.made) == (["AAPL"], ["GOOG", "IBM", "MSFT"])
    assert stored(database) == [(symbol, step) for symbol in SAMPLE for step in (1, 2)]
    assert job.done.counts() == {
        "active": 4, "stored": 3, "already_there": 1, "failed": 0, "rows": 6,
    }  # fmt: skip
    with get_db_session(database) as session:
        logs = session.scalars(select(RunLog).order_by(RunLog.id)).all()
    assert [(log.exit_code, log.message) for log in logs] == [(143, "SIGTERM"), (0, None)]
    assert logs[1].counts == job.done.counts()
    assert {"wake", "fetch", "store", "forecast", "pause"} <= set(logs[1].durations)


def test_a_run_with_a_corrected_newest_bar_forecasts_again_and_the_ledger_keeps_both(
    space: Any, sqlite_url: str, tmp_path: Path
) -> None:
    bars = DataService("sample").history("AAPL", bars=60)

    def night() -> tuple[list[str], list[str]]:
        bars.rename_axis("Date").to_csv(tmp_path / "AAPL.csv")
        job = Job(space, DataService(f"csv:{tmp_path}"), sqlite_url)
        job.options = replace(job.options, symbols=("AAPL",))
        assert job.run() == Ending()
        return job.done.made, job.done.already_stored

    assert night() == (["AAPL"], [])
    assert night() == ([], ["AAPL"])
    bars.iloc[-1, bars.columns.get_loc("high")] *= 1.04
    bars.iloc[-1, bars.columns.get_loc("close")] *= 1.03
    assert night() == (["AAPL"], [])
    with get_db_session(sqlite_url) as session:
        kept = session.scalars(select(KronosForecast)).all()
        latest = session.scalars(select(KronosPrediction)).all()
        assert len(kept) == 4
        assert len({row.bars_hash for row in kept}) == 2
        assert [row.last_close for row in latest] == pytest.approx([bars["close"].iloc[-1]] * 2)


@pytest.mark.parametrize("during_the_session", [False, True])
def test_the_first_vintage_from_complete_bars_is_scored_with_current_candles(
    during_the_session: bool, space: Any, sqlite_url: str, tmp_path: Path
) -> None:
    """Between the two nights the source applies a split and corrects the newest bar."""
    bars = DataService("sample").history("AAPL", bars=62)

    def night(count: int) -> list[str]:
        bars.iloc[:count].rename_axis("Date").to_csv(tmp_path / "AAPL.csv")
        job = Job(space, DataService(f"csv:{tmp_path}"), sqlite_url)
        job.options = replace(job.options, symbols=("AAPL",))
        assert job.run() == Ending()
        return job.done.made

    assert night(60) == ["AAPL"]
    as_of = bars.index[59].to_pydatetime()
    if during_the_session:
        with get_db_session(sqlite_url) as session:
            early = session_close("AAPL", as_of) - timedelta(hours=1)
            session.execute(update(KronosForecast).values(prediction_made_at=early))
    bars[["open", "high", "low", "close"]] /= 2
    bars["volume"] *= 2
    for name, change in (("high", 1.06), ("close", 1.05)):
        bars.iloc[59, bars.columns.get_loc(name)] *= change
    assert night(60) == ["AAPL"]
    assert night(62) == ["AAPL"]

    with get_db_session(sqlite_url) as session:
        vintages = session.scalars(
            select(KronosForecast)
            .where(KronosForecast.as_of == as_of)
            .order_by(KronosForecast.horizon_days, KronosForecast.prediction_made_at)
        ).all()
        scores = session.scalars(
            select(KronosScore).where(
                KronosScore.symbol == "AAPL", KronosScore.step > 0, KronosScore.last_sessions == 0
            )
        ).all()
        assert [(row.step, row.n) for row in scores] == [(1, 1), (2, 1)]
    closes = closes_of(DataService(f"csv:{tmp_path}"))
    known = [
        item
        for item in resolve_outcomes(partial(get_db_session, sqlite_url), closes)
        if isinstance(item, ForecastOutcomes)
    ]
    [outcomes] = known
    later = bars["close"].iloc[60:62] / bars["close"].iloc[59]
    assert outcomes.actual == pytest.approx(later.to_numpy())
    of_first, of_second = (
        [row.predicted_close / row.last_close for row in vintages[which::2]] for which in (0, 1)
    )
    assert of_first != pytest.approx(of_second, rel=1e-5)
    assert outcomes.mean == pytest.approx(of_second if during_the_session else of_first)


@pytest.mark.usefixtures("one_by_one")
def test_a_signal_between_a_commit_and_its_count_waits_for_the_count(
    space: Any, data: DataService, sqlite_url: str
) -> None:
    class Signalling(JobDatabase):
        @contextmanager
        def sessions(self) -> Iterator[Session]:
            with super().sessions() as session:
                yield session
                written = session.query(KronosPrediction).count()
            if written:
                signal.raise_signal(signal.SIGTERM)

    job = Job(space, data, Signalling(sqlite_url))
    with pytest.raises(Stopped), stop_on_signals():
        job.run()
    assert (job.done.made, job.done.rows) == (["AAPL"], 2)
    assert stored(sqlite_url) == [("AAPL", 1), ("AAPL", 2)]


def test_a_refused_key_is_reported_before_candles_are_fetched(
    space: Any, data: DataService, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(client: SpaceClient) -> None:
        raise ConfigError("KRONOS_API_KEY is not the Space's key")

    monkeypatch.setattr(SpaceClient, "check_key", refuse)
    job = Job(space, data, sqlite_url)
    with pytest.raises(ConfigError, match="KRONOS_API_KEY"):
        job.run()
    assert "fetch" not in job.done.durations


def test_a_space_that_dies_half_way_fails_only_the_remaining_tickers(
    space: Any, data: DataService, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space_client, "BATCH_SERIES", 2)

    dead = threading.Event()

    @contextmanager
    def dying() -> Iterator[SpaceClient]:
        with space() as client:
            ask = client._ask

            def ask_and_die(batch: Any, stopped: threading.Event) -> Any:
                if batch[0].symbol != "AAPL":
                    assert dead.wait(20)
                    return ask(batch, stopped)
                answers = ask(batch, stopped)
                client._http.url = "http://127.0.0.1:9"
                dead.set()
                return answers

            monkeypatch.setattr(client, "_ask", ask_and_die)
            yield client

    job = Job(dying, data, sqlite_url)
    assert job.run().exit_code == 0
    assert job.done.made == ["AAPL", "GOOG"]
    assert list(job.done.failed) == ["IBM", "MSFT"]
    assert "out of reach" in job.done.failed["MSFT"].reason
    assert job.done.verdict(0.5) == Ending()
    assert job.done.verdict(0.51) == Ending(
        1,
        "TooFewForecasts",
        "2 of 4 tickers have a forecast, KRONOS_MIN_SUCCESS asks for 51%",
    )


def test_losing_the_database_ends_the_run_and_its_use_of_the_space(
    space: Any, data: DataService, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    there = True
    left = []

    class Losing(JobDatabase):
        def sessions(self) -> Any:
            lost = JobDatabase("postgresql://me@127.0.0.1:9/kronos")
            return super().sessions() if there else lost.sessions()

    @contextmanager
    def watched() -> Iterator[SpaceClient]:
        nonlocal there
        try:
            with space() as client:
                there = False
                yield client
        finally:
            left.append(True)

    job = Job(
        watched, data, Losing(sqlite_url), Timeouts(database_retry=0.3, database_retry_briefly=0.1)
    )
    with pytest.raises(DatabaseUnavailable, match="127"):
        job.run()
    assert left == [True]
    waits = [line for line in caplog.messages if "trying again for up to" in line]
    assert waits
    assert all(line.endswith("trying again for up to 0 s") for line in waits)


def test_a_stopped_scoring_logs_its_duration(
    space: Any, data: DataService, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*args: Any, **options: Any) -> None:
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr("tradingbot.evaluation.scoring.score", stopped)
    with pytest.raises(Stopped):
        Job(space, data, sqlite_url).run()
    with get_db_session(sqlite_url) as session:
        [log] = session.scalars(select(RunLog))
    assert "score" in log.durations


def end_sessions(url: str, like: str = "%") -> None:
    with get_engine(url).connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND application_name LIKE :like"
            ),
            {"like": like},
        )


def after_the_first_ticker(
    space: Any, act: Callable[[], None], at_last: Callable[[], None] = lambda: None
) -> Any:
    """Provide a Space that calls a function between its answers and after the last one."""

    class Acting(SpaceClient):
        def forecast_batches(self, *args: Any, **kwargs: Any) -> Any:
            batches = super().forecast_batches(*args, **kwargs)
            yield next(batches)
            act()
            yield from batches
            at_last()

    @contextmanager
    def acting() -> Iterator[SpaceClient]:
        with space() as client:
            client.__class__ = Acting
            yield client

    return acting


@pytest.mark.usefixtures("one_by_one")
def test_a_database_outage_of_some_seconds_loses_nothing(
    space: Any, data: DataService, postgres_server: Postgres, postgres_url: str
) -> None:
    name = make_url(postgres_url).database
    refused: list[bool] = []

    def outage() -> None:
        postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgres_server.end_sessions(str(name))

    class Watched(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            refused.append("not currently accepting connections" in record.getMessage())
            postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    def has_its_lock() -> None:
        with open_lock(postgres_url, "run 0/1") as other:
            assert not other.try_exclusive(), "the run has its lock again"

    job = Job(after_the_first_ticker(space, outage, has_its_lock), data, postgres_url)
    handler = Watched()
    logging.getLogger("tradingbot.persistence.transactions").addHandler(handler)
    try:
        assert job.run().exit_code == 0
    finally:
        logging.getLogger("tradingbot.persistence.transactions").removeHandler(handler)
    assert refused == [True]
    assert job.done.made == SAMPLE
    assert (job.done.rows, len(stored(postgres_url))) == (8, 8)


@pytest.mark.usefixtures("one_by_one")
def test_a_run_replaced_during_a_database_outage_ends(
    space: Any, data: DataService, postgres_url: str
) -> None:
    with open_lock(postgres_url, "run 0/1") as other:

        def take_over() -> None:
            end_sessions(postgres_url, like="kronosbot%")
            assert other.try_exclusive()

        job = Job(after_the_first_ticker(space, take_over), data, postgres_url)
        with pytest.raises(RunOvertaken, match=r"another run is at work now, kronosbot, process"):
            job.run()
    assert job.done.made == ["AAPL"]
    assert RunOvertaken.exit_code == 1


class CallingReporter(ProgressReporter):
    """Call a function when the run reports that it waits."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._then = then

    def say(self, line: str) -> None:
        self.lines.append(line)
        self._then()


def test_a_lock_is_acquired_when_another_run_releases_it(database: str) -> None:
    with open_lock(database, "run 0/1") as dead, open_lock(database, "run 0/1") as lock:
        assert dead.try_exclusive()
        reporter = CallingReporter(then=dead.release)
        assert await_lock(lock, reporter, Timeouts()) is None
        assert not dead.try_exclusive()
    [line] = reporter.lines
    assert line.startswith("Waiting up to 30 s for another run to end: kronosbot, process")


def test_a_run_that_does_not_get_the_lock_in_time_ends(database: str) -> None:
    with open_lock(database, "run 0/1") as other, open_lock(database, "run 0/1") as lock:
        assert other.try_exclusive()
        holder = await_lock(lock, ProgressReporter(), Timeouts(run_lock=0.05))
        assert f"process {os.getpid()} on" in str(holder)
        assert not lock.try_exclusive()


def test_a_signal_ends_the_wait_for_a_lock(database: str) -> None:
    with open_lock(database, "run 0/1") as other, open_lock(database, "run 0/1") as lock:
        assert other.try_exclusive()
        reporter = CallingReporter(then=lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped), stop_on_signals():
            await_lock(lock, reporter, Timeouts())


@pytest.mark.parametrize("who_and_where", ["nobody@/postgres", "postgres@/nowhere"])
def test_permanent_errors_are_not_waited_for(postgres_server: Postgres, who_and_where: str) -> None:
    socket = postgres_server.url().partition("?host=")[2]

    def work() -> None:
        with get_db_session(f"postgresql://{who_and_where}?host={socket}"):
            raise AssertionError("there is no such database")

    began = time.monotonic()
    with pytest.raises(DatabaseError, match="does not exist") as caught:
        retried(work)
    assert not isinstance(caught.value, DatabaseUnavailable)
    assert time.monotonic() - began < 5


def test_active_tickers_are_those_of_bots_and_extra_symbols(
    data: DataService, sqlite_url: str
) -> None:
    from tradingbot.persistence.models import BotRow

    sessions = partial(get_db_session, sqlite_url)
    with sessions() as session:
        session.add(BotRow(name="a", portfolio={"USD": 10_000.0, "NVDA": 0.0}))
        session.add(BotRow(name="b", portfolio={"SPY": 3.0}))
    settings, yahoo = Settings(extra_symbols=("SPY", "GLD")), DataService("yahoo")
    assert active_tickers(settings, yahoo, sessions) == ["GLD", "NVDA", "SPY"]
    assert active_tickers(settings, yahoo, None) == ["GLD", "SPY"]
    assert active_tickers(settings, data, sessions) == SAMPLE
