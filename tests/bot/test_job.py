"""The job's steps with one part replaced: what survives when something breaks half-way."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tradingbot.utils import kronos_client
from tradingbot.utils.data_service import DataService
from tradingbot.utils.db import KronosPrediction, get_db_session
from tradingbot.utils.errors import ConfigError, DatabaseError
from tradingbot.utils.job import run_job
from tradingbot.utils.kronos_client import KronosClient
from tradingbot.utils.narrator import Narrator
from tradingbot.utils.report import Report
from tradingbot.utils.settings import Settings
from tradingbot.utils.signals import Stopped, stop_on_signals
from tradingbot.utils.steps import active_tickers

SAMPLE = ["AAPL", "GOOG", "IBM", "MSFT"]


@pytest.fixture(scope="module")
def data() -> DataService:
    return DataService("sample")


@pytest.fixture
def space(space_url: str) -> Callable[[], Any]:
    """Hands over a client, and is checked to be left again."""

    @contextmanager
    def space() -> Iterator[KronosClient]:
        with KronosClient(space_url, settings=Settings(samples=4)) as client:
            yield client

    return space


def stored(url: str) -> list[tuple[str, int]]:
    with get_db_session(url) as session:
        return sorted(
            (row.symbol, row.horizon_days) for row in session.scalars(select(KronosPrediction))
        )


def run(report: Report, space: Any, data: DataService, url: str, **options: Any) -> None:
    options = {"sessions": partial(get_db_session, url), "narrator": Narrator(), **options}
    run_job(Settings(horizon=2), report, space=space, data=data, **options)


def test_what_was_stored_before_an_interruption_stays_and_the_next_run_does_the_rest(
    space: Any, data: DataService, database: str
) -> None:
    class Interrupted(KronosClient):
        def forecast_many(self, *args: Any, **kwargs: Any) -> Any:
            answers = super().forecast_many(*args, **kwargs)
            yield next(answers)
            raise Stopped(signal.SIGTERM)

    @contextmanager
    def interrupted() -> Iterator[KronosClient]:
        with space() as client:
            client.__class__ = Interrupted
            yield client

    report = Report(symbols=SAMPLE)
    with pytest.raises(Stopped):
        run(report, interrupted, data, database)
    assert report.made == {"AAPL"}
    assert stored(database) == [("AAPL", 1), ("AAPL", 2)]

    report = Report(symbols=SAMPLE)
    run(report, space, data, database)
    assert (report.there, report.made) == ({"AAPL"}, {"GOOG", "IBM", "MSFT"})
    assert stored(database) == [(symbol, step) for symbol in SAMPLE for step in (1, 2)]
    assert report.counts() == {
        "active": 4, "stored": 3, "already_there": 1, "failed": 0, "rows": 6,
    }  # fmt: skip


def test_a_signal_between_a_commit_and_its_count_waits_for_the_count(
    space: Any, data: DataService, sqlite_url: str
) -> None:
    @contextmanager
    def sessions() -> Iterator[Session]:
        with get_db_session(sqlite_url) as session:
            yield session
        signal.raise_signal(signal.SIGTERM)

    report = Report(symbols=SAMPLE)
    with pytest.raises(Stopped), stop_on_signals():
        run(report, space, data, sqlite_url, sessions=sessions, force=True)
    assert (report.made, report.rows) == ({"AAPL"}, 2)
    assert stored(sqlite_url) == [("AAPL", 1), ("AAPL", 2)]


def test_a_refused_key_is_told_before_candles_are_fetched(
    space: Any, data: DataService, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(client: KronosClient) -> None:
        raise ConfigError("KRONOS_API_KEY is not the Space's key")

    monkeypatch.setattr(KronosClient, "check_key", refuse)
    report = Report(symbols=SAMPLE)
    with pytest.raises(ConfigError, match="KRONOS_API_KEY"):
        run(report, space, data, sqlite_url)
    assert "fetch" not in report.seconds


def test_a_space_that_dies_half_way_fails_the_other_tickers_and_keeps_the_first(
    space: Any, data: DataService, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kronos_client, "BATCH_SERIES", 2)

    @contextmanager
    def dying() -> Iterator[KronosClient]:
        with space() as client:
            ask = client._ask

            def ask_and_die(http: Any, batch: Any) -> Any:
                answers = ask(http, batch)
                http.url = "http://127.0.0.1:9"
                return answers

            monkeypatch.setattr(client, "_ask", ask_and_die)
            yield client

    report = Report(symbols=SAMPLE)
    run(report, dying, data, sqlite_url)
    assert report.made == {"AAPL", "GOOG"}
    assert list(report.failed) == ["IBM", "MSFT"]
    assert "out of reach" in report.failed["MSFT"]
    assert report.succeeded(0.5) and not report.succeeded(0.51)


def test_a_database_that_is_lost_ends_the_run_and_the_space_is_left(
    space: Any, data: DataService
) -> None:
    left = []

    @contextmanager
    def watched() -> Iterator[KronosClient]:
        try:
            with space() as client:
                yield client
        finally:
            left.append(True)

    with pytest.raises(DatabaseError, match="127"):
        run(Report(symbols=SAMPLE), watched, data, "postgresql://me@127.0.0.1:9/kronos")
    assert left == [True]


def test_active_tickers_are_those_of_the_bots_and_the_extra_ones(
    data: DataService, sqlite_url: str
) -> None:
    from tradingbot.utils.db import BotRow

    sessions = partial(get_db_session, sqlite_url)
    with sessions() as session:
        session.add(BotRow(name="a", portfolio={"USD": 10_000.0, "NVDA": 0.0}))
        session.add(BotRow(name="b", portfolio={"SPY": 3.0}))
    yahoo = Settings(extra_symbols=("SPY", "GLD"))
    assert active_tickers(yahoo, data, sessions) == ["GLD", "NVDA", "SPY"]
    assert active_tickers(yahoo, data, None) == ["GLD", "SPY"]
    assert active_tickers(Settings(data_source="sample"), data, sessions) == SAMPLE
