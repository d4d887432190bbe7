"""`forecasts_as_of` joins candles with the forecasts known at each bar, and no later ones."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd
import pytest

from tests.support.market import flat_forecast
from tradingbot import forecasts_as_of
from tradingbot.bots.forecast_columns import COLUMNS
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import store_forecasts

DAYS = next_sessions("AAPL", datetime(2024, 5, 3), 10)  # 6 to 17 May
EVENING = timedelta(hours=22)


def forecast_of(
    day: datetime, close: float, made_at: datetime | None = None, **options: Any
) -> Any:
    return flat_forecast(
        "AAPL", day, last_close=100.0, close=close, low=close - 5, high=close + 5, prob_up=0.6,
        made_at=made_at or day + EVENING, **options,
    )  # fmt: skip


def read(url: str, index: Any = DAYS, **options: Any) -> pd.DataFrame:
    return forecasts_as_of("aapl", index, sessions=partial(get_db_session, url), **options)


def store(url: str, *forecasts: Any) -> None:
    with get_db_session(url) as session:
        store_forecasts(session, forecasts)


def test_each_bar_has_the_forecast_that_was_valid_at_its_close(database: str) -> None:
    store(
        database,
        forecast_of(DAYS[1], 101.0),
        forecast_of(DAYS[2], 102.0),
        forecast_of(DAYS[6], 106.0, model="new"),
    )
    found = read(database)
    assert list(found.columns) == COLUMNS
    assert list(found.index) == DAYS
    assert found["close"].fillna(0).tolist() == [0, 101, 102, 102, 102, 102, 106, 106, 106, 106]
    assert found["as_of"].iloc[3] == DAYS[2]
    assert found["expected_return"].iloc[1] == pytest.approx(0.01)
    assert found["target_date"].iloc[1] == DAYS[6]
    assert (found["close_p10"].iloc[1], found["close_p90"].iloc[1]) == (96.0, 106.0)
    assert found["model"].iloc[-1] == "new"
    assert read(database, model="some-model")["close"].tolist()[3:7] == [102, 102, 102, 102]


def test_a_forecast_is_dropped_after_its_target_date(sqlite_url: str) -> None:
    store(sqlite_url, forecast_of(DAYS[0], 101.0))
    assert read(sqlite_url)["close"].notna().tolist() == [True] * 5 + [False] * 5
    assert read(sqlite_url, horizon=2)["close"].notna().sum() == 2


def test_a_forecast_made_before_the_next_open_has_priority_over_later_ones(
    sqlite_url: str,
) -> None:
    late = datetime(2024, 6, 1)
    store(
        sqlite_url,
        forecast_of(DAYS[1], 101.0, model="early"),
        forecast_of(DAYS[1], 90.0, made_at=late, model="late"),
        forecast_of(DAYS[3], 80.0, made_at=late, model="late"),
    )
    found = read(sqlite_url)
    assert found["model"].tolist()[1:4] == ["early", "early", "late"]
    assert found["made_at"].iloc[3] == late


@pytest.mark.parametrize(
    "index",
    [
        pd.DatetimeIndex(DAYS, tz="America/New_York"), pd.DatetimeIndex(DAYS, tz="UTC"),
        pd.DatetimeIndex(DAYS).as_unit("s"), [f"{day:%Y-%m-%d}" for day in DAYS],
        pd.DatetimeIndex(DAYS[::-1]),
    ],
)  # fmt: skip
def test_any_daily_index_is_accepted_and_kept(sqlite_url: str, index: Any) -> None:
    store(sqlite_url, forecast_of(DAYS[1], 101.0))
    found = read(sqlite_url, index)
    assert found.index.equals(pd.DatetimeIndex(index))
    assert found.index is index or isinstance(index, list), "frames of it broadcast together"
    days = found.index[found["close"].notna()].strftime("%d").tolist()
    assert sorted(days) == ["07", "08", "09", "10", "13"]


def test_intraday_bars_get_a_daily_forecast_after_its_close(sqlite_url: str) -> None:
    store(sqlite_url, forecast_of(DAYS[1], 101.0))
    times = pd.to_datetime(["2024-05-07 19:00", "2024-05-07 20:00", "2024-05-08 14:00"])
    assert read(sqlite_url, times)["close"].notna().tolist() == [False, True, True]


def test_forecast_prices_are_in_the_scale_of_the_given_candles(sqlite_url: str) -> None:
    store(sqlite_url, forecast_of(DAYS[1], 101.0))
    closes = pd.Series(10.0, index=pd.DatetimeIndex(DAYS, tz="America/New_York"))  # ten for one
    found = read(sqlite_url, closes=closes)
    assert found["close"].iloc[1] == pytest.approx(10.1)
    assert found["close_p90"].iloc[1] == pytest.approx(10.6)
    assert found["expected_return"].iloc[1] == pytest.approx(0.01)


def test_without_forecasts_all_columns_are_empty(sqlite_url: str) -> None:
    for index in (DAYS, []):
        found = read(sqlite_url, index)
        assert found.shape == (len(index), len(COLUMNS))
        assert found.isna().all(axis=None)


def test_later_stored_forecasts_change_no_earlier_row(sqlite_url: str) -> None:
    for number, day in enumerate(DAYS):
        before = read(sqlite_url)
        store(sqlite_url, forecast_of(day, 100.0 + number, model="ab"[number % 2]))
        pd.testing.assert_frame_equal(read(sqlite_url).iloc[:number], before.iloc[:number])
