"""Stored forecasts joined with realised closes, on SQLite and on a real Postgres."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from tests.support.market import Market
from tradingbot.data.service import DataService
from tradingbot.errors import DataError, DataUnavailable, UnknownSymbol
from tradingbot.evaluation.close_outcomes import (
    LEVELS,
    ForecastOutcomes,
    Unresolved,
    UnresolvedReason,
    closes_of,
    resolve_outcomes,
)
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import KronosForecast
from tradingbot.runtime.clock import utcnow

MONDAY = datetime(2024, 1, 8)
DAYS = next_sessions("SPY", datetime(2024, 1, 5), 10)  # from Monday the 8th; the 15th is a holiday
CLOSES = [100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0, 107.0, 108.0, 109.0]


def row(step: int, *, as_of: datetime = MONDAY, **changes: Any) -> dict[str, Any]:
    """Return a forecast of SPY from a close of 50, before a split; CLOSES are after it."""
    return {
        "symbol": "SPY",
        "interval": "1d",
        "model_name": "mini",
        "model_revision": "r1",
        "as_of": as_of,
        "target_date": next_sessions("SPY", as_of, step)[-1],
        "prediction_made_at": as_of + timedelta(hours=22),
        "horizon_days": step,
        "last_close": 50.0,
        "predicted_open": 50.0,
        "predicted_high": 52.0,
        "predicted_low": 49.0,
        "predicted_close": 51.0,
        "predicted_volume": 1.0,
        "close_quantiles": {f"{level:g}": 50 + 2 * (level - 0.5) for level in LEVELS},
        "prob_up": 0.7,
        "samples": 20,
        **changes,
    }


def store(url: str, *rows: dict[str, Any]) -> None:
    with get_db_session(url) as session:
        for item in rows:
            session.execute(insert(KronosForecast).values(**item))


def history(values: Sequence[float] = CLOSES, days: Sequence[datetime] = DAYS) -> pd.Series:
    return pd.Series(list(values), index=pd.DatetimeIndex(list(days)))


def read(url: str, past: pd.Series | DataError | None = None, **options: Any) -> list[Any]:
    def closes(symbol: str, interval: str, since: datetime) -> pd.Series:
        if isinstance(past, DataError):
            raise past
        return history() if past is None else past

    return list(resolve_outcomes(partial(get_db_session, url), closes, **options))


def test_forecast_and_outcome_are_relative_to_the_last_close(database: str) -> None:
    store(database, row(1), row(2))
    [found] = read(database)
    assert isinstance(found, ForecastOutcomes)
    assert (found.symbol, found.model_name, found.model_revision) == ("SPY", "mini", "r1")
    assert found.step.tolist() == [1, 2]
    assert found.target.tolist() == DAYS[1:3]
    assert found.as_of.tolist() == [MONDAY, MONDAY]
    assert found.mean == pytest.approx([1.02, 1.02])
    assert found.actual == pytest.approx([1.01, 1.02])
    assert found.prob_up.tolist() == [0.7, 0.7]
    assert found.quantiles.shape == (2, 19)
    assert found.quantiles[0] == pytest.approx([1 + 0.04 * (level - 0.5) for level in LEVELS])


def test_a_split_inside_the_horizon_changes_nothing(database: str) -> None:
    store(database, row(1), row(3))
    [before] = read(database)
    # the source restated all bars
    [after] = read(database, history([close / 4 for close in CLOSES]))
    assert after.actual == pytest.approx(before.actual)
    assert after.mean == pytest.approx(before.mean)


def test_calibrated_quantiles_are_read_together_with_the_raw_ones(database: str) -> None:
    wide = {f"{level:g}": 50 + 8 * (level - 0.5) for level in LEVELS}
    store(database, row(1), row(2, calibration="conformal", calibrated_quantiles=wide))
    [found] = read(database)
    assert found.quantiles[0] == pytest.approx(found.raw_quantiles[0])
    assert found.raw_quantiles[1, 0] == pytest.approx(0.982)
    assert found.quantiles[1, 0] == pytest.approx(0.928)


@pytest.mark.parametrize("seed", range(8))
def test_raw_quantiles_read_alone_are_the_same(database: str, seed: int) -> None:
    """Whatever was served, in one revision or several, with targets that have no bar."""
    random = np.random.default_rng(seed)

    def quantiles() -> dict[str, float] | None:
        width = random.choice([0.0, 2.0, 8.0])
        return {f"{level:g}": 50 + width * (level - 0.5) for level in LEVELS} if width else None

    store(
        database,
        *(
            row(
                step,
                as_of=as_of,
                model_revision=random.choice(["r1", "r2"]),
                close_quantiles=quantiles() or {"0.5": 50.0},
                calibrated_quantiles=quantiles(),
                combined_quantiles=quantiles(),
            )
            for as_of in DAYS[:6]
            for step in (1, 2)
        ),
    )
    past = history().drop(DAYS[int(random.integers(6))])
    whole, raw = read(database, past), read(database, past, raw_only=True)
    assert len(whole) == len(raw) > 1
    post_processed = ("calibrated_quantiles", "combined_quantiles")
    for one, other in zip(whole, raw, strict=True):
        if isinstance(one, Unresolved):
            assert one == other
            continue
        expected = replace(one, quantiles=one.raw_quantiles)
        for name in vars(expected).keys() - post_processed:
            np.testing.assert_array_equal(getattr(other, name), getattr(expected, name), name)
        assert all(np.isnan(getattr(other, name)).all() for name in post_processed)


def test_each_revision_of_a_model_has_a_separate_record(database: str) -> None:
    later = DAYS[1]
    store(database, row(1), row(1, as_of=later, model_revision="r2"))
    store(database, row(1, as_of=DAYS[2], model_revision=None))
    assert [(outcome.model_revision, len(outcome)) for outcome in read(database)] == [
        ("r1", 1),
        ("r2", 1),
        ("", 1),
    ]


def test_forecasts_of_one_session_from_different_days_have_different_steps(database: str) -> None:
    store(database, row(2), row(1, as_of=DAYS[1]))  # both on Wednesday
    [found] = read(database)
    assert found.target.tolist() == [DAYS[2], DAYS[2]]
    assert found.step.tolist() == [2, 1]
    with pytest.raises(IntegrityError):  # a vintage is unique
        store(database, row(2))


def test_a_session_without_a_bar_is_reported(database: str) -> None:
    store(database, row(1), row(2))
    halted = history().drop(DAYS[1])
    found, unscored = read(database, halted)
    assert found.step.tolist() == [2]
    assert unscored == Unresolved("SPY", "mini", UnresolvedReason.NO_TARGET, 1)
    assert unscored.text == "the target session has no bar"


def test_a_forecast_from_a_bar_that_the_history_lacks_is_reported(database: str) -> None:
    store(database, row(1))
    [unscored] = read(database, history().drop(MONDAY))
    assert unscored.text == "the bar that it was made from is not in the history"


def test_future_targets_are_not_scored(database: str) -> None:
    newest = next_sessions("SPY", utcnow() - timedelta(days=12), 1)[0]
    target = utcnow().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=9)
    store(database, row(1, as_of=newest, target_date=target))
    [unscored] = read(database, history([1.0], [newest]))
    assert unscored.reason == UnresolvedReason.NOT_YET


def test_a_delisted_tickers_existing_sessions_are_scored(database: str) -> None:
    store(database, row(1), row(2), row(3))
    found, unscored = read(database, history().iloc[:3])
    assert found.step.tolist() == [1, 2]
    assert unscored.n == 1
    assert unscored.text == "its candles end on 2024-01-10, before the target"


def test_unavailable_candles_affect_only_their_ticker(database: str) -> None:
    store(database, row(1), row(1, symbol="GONE"))
    [unscored] = read(database, UnknownSymbol("no such ticker", symbol="GONE"), symbols=["GONE"])
    assert unscored.text == "its candles are not available: no such ticker"
    [empty] = read(database, history([], []), symbols=["SPY"])
    assert empty.text == "its candles are not available: none from 2022-12-04 on"


def test_a_forecast_stored_without_all_its_quantiles_is_reported(database: str) -> None:
    store(database, row(1), row(2, close_quantiles={"0.1": 49.0, "0.5": 50.0, "0.9": 51.0}))
    found, unscored = read(database)
    assert found.step.tolist() == [1]
    assert unscored.text == "its 19 quantiles are not all stored, or are damaged"


def test_model_tickers_and_a_first_session_can_be_chosen(database: str) -> None:
    store(database, row(1), row(1, symbol="QQQ"), row(1, model_name="small"))
    store(database, row(1, as_of=DAYS[3]))
    assert [outcome.symbol for outcome in read(database, model="mini")] == ["QQQ", "SPY"]
    assert [outcome.model_name for outcome in read(database, symbols=["SPY"])] == ["mini", "small"]
    [found] = read(database, since=DAYS[3])
    assert found.as_of.tolist() == [DAYS[3]]


def test_an_empty_ledger_has_no_outcomes(database: str) -> None:
    assert read(database) == []


def test_sample_and_file_sources_know_all_outcomes(tmp_path: Path) -> None:
    sample = closes_of(DataService("sample", now=utcnow()))("AAPL", "1d", datetime(2013, 1, 1))
    assert sample.index[-1] == datetime(2013, 3, 1)
    assert sample.index[0] == datetime(2013, 1, 2)
    market = Market(tmp_path)
    market.write("AAPL", [1.0, 2.0, 3.0])
    files = closes_of(DataService(market.source, now=utcnow()))
    assert files("AAPL", "1d", datetime(2024, 1, 1)).tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(UnknownSymbol):
        files("SPY", "1d", datetime(2024, 1, 1))


class DelistingSource:
    """A network source that knows a ticker once and then no longer."""

    remote = True
    knows_outcomes = False
    clock_file = None
    gone = False

    def symbols(self) -> list[str]:
        return []

    def clock(self, horizon: int) -> datetime:
        return utcnow()

    def fetch(self, symbol: str, interval: str, start: datetime, end: datetime) -> pd.DataFrame:
        if self.gone:
            raise UnknownSymbol(f"{symbol}: never heard of it")
        prices = {name: np.array(CLOSES) for name in ("open", "high", "low", "close")}
        return pd.DataFrame(prices, index=pd.DatetimeIndex(DAYS))


def test_stored_candles_are_used_for_a_delisted_ticker(database: str) -> None:
    source = DelistingSource()
    closes = closes_of(DataService(source, sessions=lambda: get_db_session(database)))
    assert closes("SPY", "1d", MONDAY).tolist() == CLOSES
    source.gone = True
    assert closes("SPY", "1d", MONDAY).tolist() == CLOSES
    with pytest.raises(DataUnavailable, match="never heard of it"):
        closes("QQQ", "1d", MONDAY)
