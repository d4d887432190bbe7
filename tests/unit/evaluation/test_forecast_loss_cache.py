"""Incremental scores equal those of the whole ledger, whatever happened in the nights."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, func, insert, select, text, update
from sqlalchemy.orm import Session

from tests.support.records import Past
from tradingbot.errors import DataUnavailable
from tradingbot.evaluation import forecast_loss_cache
from tradingbot.evaluation.forecast_losses import MaturedForecasts
from tradingbot.evaluation.scoring import Scoring, score
from tradingbot.persistence.engine import dispose_engines, get_db_session, get_engine
from tradingbot.persistence.forecast_losses import forget_older
from tradingbot.persistence.models import KronosForecast, KronosMatured, KronosMaturedPart
from tradingbot.persistence.scores import read_scores

SYMBOLS = ["AAPL", "IBM", "MSFT", "GOOG", "QQQ", "SPY"]
PAST = Past(SYMBOLS, sessions=60, horizon=2, calibrated=1.1, bars=40)
DAYS = PAST.days()[PAST.bars :]  # the days of forecasts
CANDLES = {symbol: PAST.candles(symbol) for symbol in SYMBOLS}
ROWS = {symbol: PAST.forecasts(symbol) for symbol in SYMBOLS}


@dataclass
class Market:
    """The source's candles of one night: up to `newest`, possibly delayed, restated or wrong."""

    newest: datetime
    late: dict[str, int] = field(default_factory=dict)  # number of sessions by which a ticker lags
    scale: dict[str, float] = field(default_factory=dict)  # price factor after a split
    corrected: dict[tuple[str, datetime], float] = field(default_factory=dict)
    missing: set[tuple[str, datetime]] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    asked: list[tuple[str, datetime]] = field(default_factory=list)

    def closes(self, symbol: str, interval: str, since: datetime) -> pd.Series:
        self.asked.append((symbol, since))
        if symbol in self.silent:
            raise DataUnavailable("the source is out of reach", symbol=symbol)
        bars = {
            bar["timestamp"]: bar["close"]
            * self.scale.get(symbol, 1.0)
            * self.corrected.get((symbol, bar["timestamp"]), 1.0)
            for bar in CANDLES[symbol]
            if since <= bar["timestamp"] <= self.newest
            and (symbol, bar["timestamp"]) not in self.missing
        }
        found = pd.Series(bars, dtype="float64").sort_index()
        return found.iloc[: len(found) - self.late.get(symbol, 0)]


def keep(url: str, *days: datetime, symbols: Any = SYMBOLS, **columns: Any) -> None:
    """Store the forecasts made on these days."""
    made = [row | columns for symbol in symbols for row in ROWS[symbol] if row["as_of"] in days]
    for row in made:  # tickers need different forecasts for the correlations
        row["predicted_close"] = row["last_close"] * (
            1 + 0.001 * (sum(map(ord, row["symbol"])) % 7)
        )
    if made:
        with get_db_session(url) as session:
            session.execute(insert(KronosForecast), made)


@pytest.mark.parametrize("in_memory", [True, False])
def test_only_a_database_with_several_connections_is_read_ahead_in_another_thread(
    sqlite_url: str, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_loss_cache, "_TICKERS", 2)
    url = "sqlite://" if in_memory else sqlite_url
    threads = set()

    @contextmanager
    def sessions() -> Iterator[Session]:
        threads.add(threading.current_thread())
        with get_db_session(url) as session:
            yield session

    market = Market(DAYS[30])
    try:
        keep(url, *DAYS[:20])
        first, again = (score(sessions, market.closes, resume=True) for _ in range(2))
    finally:
        if in_memory:
            dispose_engines()
    assert first.scored == again.scored > 0
    assert (threads == {threading.current_thread()}) == in_memory


def go_on(url: str, market: Market) -> Scoring:
    return score(partial(get_db_session, url), market.closes, resume=True)


def score_whole(url: str, market: Market) -> Scoring:
    return score(partial(get_db_session, url), market.closes)


def scores(url: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    with get_db_session(url) as session:
        found = [row._asdict() for row in read_scores(session)]
    names = ("model_name", "model_revision", "interval", "symbol", "step", "last_sessions")
    return {
        tuple(row[name] for name in (*names, "forecast")): row | {"scored_at": None}
        for row in found
    }


def check_same_as_whole(url: str, market: Market, gone_on: Scoring) -> None:
    """Check that stored scores and their messages equal those of the whole ledger."""
    found = scores(url)
    whole = score_whole(url, market)
    expected = scores(url)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        numbers = {name: value for name, value in row.items() if isinstance(value, float)}
        assert {name: found[key][name] for name in numbers} == pytest.approx(numbers, rel=1e-9), key
        assert found[key] == row | {name: found[key][name] for name in numbers}, key
    assert (gone_on.scored, gone_on.waiting) == (whole.scored, whole.waiting)
    assert (gone_on.records, gone_on.tickers) == (whole.records, whole.tickers)
    assert sorted(gone_on.remarks()) == sorted(whole.remarks())


def ledger_reads(url: str) -> list[str]:
    """Record the statements that read quantiles from now on."""
    seen: list[str] = []

    def listen(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "close_quantiles" in statement and statement.lstrip().startswith("SELECT"):
            seen.append(statement)

    event.listen(get_engine(url), "before_cursor_execute", listen)
    return seen


def nights(url: str, until: int, first: int = 0) -> Market:
    """Run this many nights, each scored at its end."""
    for day in DAYS[first:until]:
        keep(url, day)
        go_on(url, Market(day))
    return Market(DAYS[until - 1])


def test_nightly_scores_equal_those_of_the_whole_ledger(database: str) -> None:
    keep(database, *DAYS[:40])
    go_on(database, Market(DAYS[39]))
    market = nights(database, until=44, first=40)
    check_same_as_whole(database, market, go_on(database, market))


def test_a_night_reads_only_unsettled_forecasts(sqlite_url: str) -> None:
    keep(sqlite_url, *DAYS)
    market = Market(DAYS[-1])
    go_on(sqlite_url, market)
    with get_db_session(sqlite_url) as session:
        [until] = set(session.scalars(select(KronosMaturedPart.until)))
        # settled forecasts cannot be read any more: their JSON is invalid
        session.execute(
            update(KronosForecast)
            .where(KronosForecast.as_of < until)
            .values(close_quantiles={}, calibrated_quantiles=None)
        )
    assert DAYS[-12] < until < DAYS[-5]  # a week plus the horizon
    before = scores(sqlite_url)
    found = go_on(sqlite_url, market)
    assert found.scored == len(SYMBOLS) * (2 * len(DAYS) - 3)
    assert scores(sqlite_url) == before
    assert score_whole(sqlite_url, market).scored < found.scored  # reads the whole ledger


def test_candles_are_requested_as_far_back_as_the_job_stores_them(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_loss_cache, "LOOKBACK", timedelta(days=90))
    monkeypatch.setattr(forecast_loss_cache, "_BARS", 50)
    keep(sqlite_url, *DAYS)
    market = Market(DAYS[-1])
    go_on(sqlite_url, market)
    first = min(since for _, since in market.asked)
    market.asked.clear()
    go_on(sqlite_url, market)
    assert len(market.asked) == len(SYMBOLS)
    assert all(since > first + timedelta(days=300) for _, since in market.asked)


@pytest.mark.parametrize("change", ["a correction", "a bar taken back", "a bar that comes late"])
def test_a_changed_outcome_is_scored_again(database: str, change: str) -> None:
    keep(database, *DAYS[:45])
    market = Market(DAYS[44])
    bar = ("IBM", DAYS[20])
    if change == "a bar that comes late":
        market.missing.add(bar)
    go_on(database, market)
    if change == "a correction":
        market.corrected[bar] = 1.02
    elif change == "a bar taken back":
        market.missing.add(bar)
    else:
        market.missing.clear()
    check_same_as_whole(database, market, go_on(database, market))


def test_a_split_does_not_cause_another_reading(sqlite_url: str) -> None:
    keep(sqlite_url, *DAYS[:45])
    market = Market(DAYS[44])
    go_on(sqlite_url, market)
    market.scale["IBM"] = 1 / 7
    seen = ledger_reads(sqlite_url)
    found = go_on(sqlite_url, market)
    assert len(seen) == 1  # the unsettled forecasts of all tickers
    check_same_as_whole(sqlite_url, market, found)


def test_forecasts_stored_or_deleted_by_others_are_noticed(database: str) -> None:
    keep(database, *DAYS[1:10], *DAYS[11:45])
    market = Market(DAYS[44])
    go_on(database, market)
    with get_db_session(database) as session:
        made: Any = SimpleNamespace(symbol="IBM", interval="1d", model_name="mini", as_of=DAYS[10])
        forget_older(session, [made])
    keep(database, DAYS[10], symbols=["IBM"])
    check_same_as_whole(database, market, go_on(database, market))
    go_on(database, market)
    with get_db_session(database) as session:  # as a retention job does
        session.execute(delete(KronosForecast).where(KronosForecast.as_of < DAYS[8]))
        session.execute(delete(KronosForecast).where(KronosForecast.symbol == "QQQ"))
    check_same_as_whole(database, market, go_on(database, market))
    with get_db_session(database) as session:
        assert "QQQ" not in set(session.scalars(select(KronosMatured.symbol)))


def test_a_ticker_without_candles_keeps_its_record_and_is_scored_again_later(database: str) -> None:
    keep(database, *DAYS[:45])
    market = Market(DAYS[44])
    go_on(database, market)
    market.silent = {"IBM"}
    check_same_as_whole(database, market, go_on(database, market))
    go_on(database, market)
    market.silent = set()
    check_same_as_whole(database, market, go_on(database, market))


@pytest.mark.parametrize(
    "damage", ["another version", "cut", "empty", "closes", "a quarter missing"]
)
def test_damaged_or_outdated_intermediate_results_are_computed_again(
    database: str, damage: str
) -> None:
    keep(database, *DAYS[:45])
    market = Market(DAYS[44])
    go_on(database, market)
    before = scores(database)
    values: dict[str, tuple[Any, dict[str, Any]]] = {
        "another version": (KronosMaturedPart, {"version": forecast_loss_cache.VERSION + 1}),
        "cut": (KronosMatured, {"forecasts": b"\x01\x02"}),
        "empty": (KronosMatured, {"forecasts": b""}),
        "closes": (KronosMaturedPart, {"closes": b"\x00" * 24}),
    }
    with get_db_session(database) as session:
        if damage == "a quarter missing":
            first = select(func.min(KronosMatured.quarter).filter(KronosMatured.symbol != "*"))
            session.execute(
                delete(KronosMatured).where(KronosMatured.quarter == session.scalar(first))
            )
        else:
            table, changed = values[damage]
            session.execute(update(table).values(**changed))
    go_on(database, market)
    assert scores(database) == before


# random nights ----------------------------------------------------------------------------

night = st.fixed_dictionaries(
    {
        "sessions": st.integers(1, 4),  # since the last night
        "forecast": st.sets(st.sampled_from(SYMBOLS), min_size=3),  # the other tickers were missed
        "again": st.booleans(),  # scored twice
        "late": st.dictionaries(st.sampled_from(SYMBOLS), st.integers(1, 9), max_size=2),
        "silent": st.sets(st.sampled_from(SYMBOLS), max_size=1),
        "split": st.sampled_from([None, None, *SYMBOLS]),
        "corrected": st.sampled_from([None, None, *SYMBOLS]),
        "vintage": st.booleans(),  # corrected candles, so every ticker is forecast again
        "revision": st.sampled_from(["r1", "r1", "r1", "r2"]),
        "other_model": st.booleans(),
    }
)


@pytest.mark.slow
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=st.integers(20, 35), every=st.lists(night, min_size=2, max_size=5))
def test_after_any_sequence_of_nights_scores_equal_those_of_the_whole_ledger(
    sqlite_url: str, first: int, every: list[dict[str, Any]]
) -> None:
    with get_db_session(sqlite_url) as session:
        for table in (KronosForecast, KronosMatured, KronosMaturedPart):
            session.execute(delete(table))
        session.execute(text("DELETE FROM kronos_scores"))
    keep(sqlite_url, *DAYS[:first])
    market, at = Market(DAYS[first - 1]), first - 1
    go_on(sqlite_url, market)
    for number, tonight in enumerate(every):
        at = min(at + tonight["sessions"], len(DAYS) - 1)
        market = replace(market, newest=DAYS[at], late=tonight["late"], silent=tonight["silent"])
        if tonight["split"]:
            market.scale[tonight["split"]] = 0.5
        if tonight["corrected"]:
            market.corrected[tonight["corrected"], DAYS[at - 15]] = 1.01
        made = {"model_revision": tonight["revision"], "bars_hash": f"{number}"}
        keep(sqlite_url, DAYS[at], symbols=sorted(tonight["forecast"]), **made)
        if tonight["vintage"]:
            again = made | {
                "bars_hash": f"{number} again",
                "prediction_made_at": DAYS[at] + timedelta(days=9),
            }
            keep(sqlite_url, DAYS[at], symbols=SYMBOLS, **again)
        if tonight["other_model"]:
            keep(sqlite_url, DAYS[at], model_name="other", bars_hash=f"{number}")
        for _ in range(1 + tonight["again"]):
            found = go_on(sqlite_url, market)
    check_same_as_whole(sqlite_url, market, found)


# serialised losses --------------------------------------------------------------------------


def test_losses_survive_as_bytes_and_are_stored_once() -> None:
    empty = MaturedForecasts.none()
    assert len(MaturedForecasts.unpacked(empty.packed())) == 0
    some = MaturedForecasts(
        np.zeros(3, empty.forecasts.dtype),
        {kind: np.ones(3, empty.losses["raw"].dtype) for kind in ("served", "raw", "combined")},
    )
    packed = some.packed()
    assert len(packed) == 8 + 3 * (some.forecasts.itemsize + 33)
    found = MaturedForecasts.unpacked(packed)
    assert found.losses.keys() == some.losses.keys()
    assert (found.losses["combined"] == some.losses["combined"]).all()
    with pytest.raises(ValueError, match="are not 3 forecasts"):
        MaturedForecasts.unpacked(packed[:-1])
