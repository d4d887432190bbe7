"""The predicted times of the next intraday bars, compared with the exchanges' real minutes."""

import random

import numpy as np
import pandas as pd
import pytest

from tradingbot.markets.calendars import sessions_of
from tradingbot.markets.intraday import next_bars

HOUR = np.timedelta64(3_600_000_000, "us")


def hourly(symbol, first="2015-01-01", last="2027-12-31"):
    known = sessions_of(symbol)
    inside = (known.days >= np.datetime64(first)) & (known.days <= np.datetime64(last))
    begin, end = known.opens[inside], known.closes[inside]
    if known.breaks is not None:
        pause, resumed = (times[inside] for times in known.breaks)
        real = ~np.isnat(pause)
        begin = np.sort(np.concatenate([begin, resumed[real]]))
        end = np.sort(np.concatenate([end, pause[real]]))
    parts = [np.arange(start, stop, HOUR) for start, stop in zip(begin, end, strict=True)]
    return np.concatenate(parts)


@pytest.mark.parametrize("symbol", ["SPY", "7203.T", "SAP.DE", "0700.HK", "ES=F", "BTC-USD"])
def test_targets_after_any_cut_are_the_next_real_bars(symbol):
    bars, chance = hourly(symbol), random.Random(7)
    for cut in (chance.randrange(300, len(bars) - 50) for _ in range(60)):
        ahead = next_bars(symbol, bars[cut - 300 : cut], HOUR, 48)
        assert ahead.tolist() == bars[cut : cut + 48].tolist(), bars[cut - 1]


def test_a_half_day_ends_early_and_bars_on_the_hour_stay_on_the_hour():
    bars = hourly("SPY", "2025-10-01", "2025-11-26") + np.timedelta64(30, "m")
    bars = bars[(bars - bars.astype("datetime64[D]")) < np.timedelta64(21, "h")]
    bars = np.array([at for at in bars.tolist() if _new_york(at).hour < 16], "datetime64[us]")
    ahead = [_new_york(at) for at in next_bars("SPY", bars, HOUR, 4).tolist()]
    assert [f"{at:%d %H:%M}" for at in ahead] == ["28 10:00", "28 11:00", "28 12:00", "01 10:00"]


@pytest.mark.parametrize(("symbol", "first"), [("RELIANCE.NS", 9), ("RELIANCE.NS", 10)])
def test_hourly_bars_with_a_half_hour_utc_offset_match_the_exchange(symbol, first):
    known = sessions_of(symbol)
    days = known.days[(known.days >= np.datetime64("2025-07-01"))][:40]
    bars = np.concatenate([day + HOUR * np.arange(first, 16) for day in days])
    bars -= np.timedelta64(330, "m")  # India's wall, in UTC; the last bar holds 15:00 to 15:30
    cut = 25 * (16 - first) + 3
    ahead = next_bars(symbol, bars[:cut], HOUR, 9)
    assert ahead.tolist() == bars[cut : cut + 9].tolist()


def test_currencies_continue_on_sunday_evening_in_new_york():
    week = pd.date_range("2025-10-26 17:00", "2025-10-31 16:00", freq="h", tz="America/New_York")
    bars = week.tz_convert(None).to_numpy().astype("datetime64[us]")
    ahead = next_bars("EURUSD=X", bars, HOUR, 2)
    assert [f"{_new_york(at):%d %H:%M}" for at in ahead.tolist()] == ["02 17:00", "02 18:00"]


def test_bars_outside_the_sessions_are_not_moved_into_them():
    bars = np.arange(np.datetime64("2025-10-01", "us"), np.datetime64("2025-10-20", "us"), HOUR)
    assert next_bars("SPY", bars, HOUR, 3) is None


def _new_york(at):
    return pd.Timestamp(at, tz="UTC").tz_convert("America/New_York")
