"""Backtest windows: which ones exist, and what each may know."""

import json
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from tradingbot.data.service import DataService
from tradingbot.errors import DataError
from tradingbot.evaluation.training_cutoff import in_training
from tradingbot.markets.calendars import next_sessions
from tradingbot.runtime.clock import utcnow
from tradingbot.space.wire import encode
from tradingbot.walk_forward.windows import Plan, request, seen, windows

PLAN = Plan(horizon=5, stride=5, context=100, samples=20, temperature=1.0, top_p=0.9)
SINCE = datetime(1997, 1, 1)


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return DataService("sample", now=utcnow()).bars("AAPL", since=SINCE)


def test_changed_future_prices_change_no_byte_of_a_request(bars: pd.DataFrame) -> None:
    some = windows("AAPL", pd.DatetimeIndex(bars.index), PLAN, 30)
    assert len(some) == 30
    for window in some:
        poisoned = bars.copy()
        poisoned.loc[poisoned.index > window.as_of] = [1e9, 1e12, 1e-9, np.nan, -1.0]
        assert request(window, poisoned, PLAN).body == request(window, bars, PLAN).body
        nothing_later = bars.loc[: window.as_of]
        assert request(window, nothing_later, PLAN).body == request(window, bars, PLAN).body


def test_a_changed_newest_bar_changes_the_request(bars: pd.DataFrame) -> None:
    """This shows that the test above can fail."""
    window = windows("AAPL", pd.DatetimeIndex(bars.index), PLAN, 1)[0]
    changed = bars.copy()
    changed.loc[window.as_of, "close"] *= 1.0001
    assert request(window, changed, PLAN).body != request(window, bars, PLAN).body


def test_a_request_equals_the_jobs_except_for_the_plans_settings(bars: pd.DataFrame) -> None:
    window = windows("AAPL", pd.DatetimeIndex(bars.index), PLAN, 1)[0]
    asked = json.loads(request(window, bars, PLAN).body)
    history = bars.loc[: window.as_of].tail(100)
    job = encode(
        "AAPL", history, horizon=5, interval="1d", targets=window.targets, samples=20, seed=None
    )
    assert asked == json.loads(job.body) | {"top_p": 0.9}
    assert (json.loads(job.body)["temperature"], json.loads(job.body)["top_p"]) == (1.0, 1.0)
    newest = history.iloc[-1].to_dict()
    assert asked["ohlcv"][-1] == {"timestamp": "2013-02-22T00:00:00", **newest}
    assert len(asked["ohlcv"]) == 100


def test_volumes_that_start_later_are_unknown_in_earlier_windows(bars: pd.DataFrame) -> None:
    early = bars.copy()
    early.loc[:"2012-12-31", "volume"] = 0.0
    assert "volume" not in seen(early, datetime(2012, 12, 31), 100)
    assert "volume" in seen(early, datetime(2013, 1, 2), 100)


def test_the_newest_window_has_a_complete_outcome_and_calendar_targets(
    bars: pd.DataFrame,
) -> None:
    days = pd.DatetimeIndex(bars.index)
    some = windows("AAPL", days, PLAN, 3)
    assert [f"{window.as_of:%Y-%m-%d}" for window in some] == [
        "2013-02-07", "2013-02-14", "2013-02-22",
    ]  # fmt: skip
    assert some[-1].targets[-1] == days[-1]
    for window in some:
        assert list(window.targets) == next_sessions("AAPL", window.as_of, 5)
    without_a_bar = days.drop(pd.Timestamp("2013-02-25"))  # the target is still a session
    assert datetime(2013, 2, 25) in windows("AAPL", without_a_bar, PLAN, 1)[0].targets


def test_a_short_history_gives_all_possible_windows(bars: pd.DataFrame) -> None:
    days = pd.DatetimeIndex(bars.index)
    assert len(windows("AAPL", days[:47], PLAN, 100)) == 3  # with 32, 37 and 42 bars before them
    assert len(windows("AAPL", days[:37], PLAN, 100)) == 1
    with pytest.raises(DataError, match="AAPL: 36 bars, a backtest needs at least 37"):
        windows("AAPL", days[:36], PLAN, 100)


@pytest.mark.parametrize(
    ("model", "symbol", "day", "answer"),
    [
        ("NeoQuasar/Kronos-mini", "SPY", datetime(2024, 2, 29), "yes"),
        ("NeoQuasar/Kronos-base", "SPY", datetime(2024, 3, 1), "unknown"),
        ("NeoQuasar/Kronos-small", "SPY", datetime(2024, 6, 3), "no"),
        # trained on the S&P 500 and the NASDAQ until then, and so on these days of all markets
        ("kronos-nano", "AAPL", datetime(2011, 3, 18), "yes"),
        ("kronos-nano", "FB", datetime(2012, 6, 1), "yes"),
        ("kronos-nano", "BTC-USD", datetime(2015, 12, 30, 23), "yes"),
        ("kronos-nano", "AAPL", datetime(2015, 12, 31), "no"),
        ("kronos-nano", "FB", datetime(2016, 1, 4), "no"),
        ("kronos-nano", "GBPUSD=X", datetime(2017, 12, 22), "yes"),  # trained on EURUSD until then
        ("kronos-nano", "EURUSD=X", datetime(2017, 12, 25), "no"),
        ("my-own", "SPY", datetime(2024, 6, 3), "unknown"),
    ],
)
def test_the_training_data_of_the_models_is_known(
    model: str, symbol: str, day: datetime, answer: str
) -> None:
    assert in_training(model, symbol, day) == answer


def test_no_day_of_the_sample_is_unseen_by_kronos_nano() -> None:
    data = DataService("sample", now=utcnow())
    for symbol in data.symbols():
        newest = data.bars(symbol, since=SINCE).index[-1]
        assert in_training("kronos-nano", symbol, newest) == "yes"
