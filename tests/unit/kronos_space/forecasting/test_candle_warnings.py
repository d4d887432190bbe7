"""Unusual candles give warnings; ordinary ones give none."""

import time

import numpy as np
import pytest

from kronos_space.forecasting import candle_warnings as module
from kronos_space.forecasting.candles import COLUMNS, History
from kronos_space.forecasting.timestamps import Times

DAY, HOUR, MINUTE = (np.timedelta64(1, unit).astype("timedelta64[us]") for unit in "Dhm")


def weekdays(count: int) -> np.ndarray:
    first = np.datetime64("2025-01-06")
    return np.busday_offset(first, np.arange(count)).astype("datetime64[us]")


def history(
    times: np.ndarray | None = None, *, count: int = 200, move: float = 0.012, seed: int = 0
) -> History:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, move, count)))
    open_ = np.r_[100.0, close[:-1]]
    high = np.maximum(open_, close) * (1 + np.abs(random.normal(0, move / 3, count)))
    low = np.minimum(open_, close) * (1 - np.abs(random.normal(0, move / 3, count)))
    volume = random.lognormal(13.0, 0.3, count)
    values = np.stack([open_, high, low, close, volume, volume * close], axis=1)
    assert values.shape == (count, len(COLUMNS))
    return History(Times(weekdays(count) if times is None else times, None), values)


def every(step: np.timedelta64, count: int = 200) -> np.ndarray:
    return np.datetime64("2025-01-06", "us") + step * np.arange(count)


def oddities(candles: History, *, used: int = 200, **known: object) -> list[str]:
    known = {"now": np.datetime64("2030-01-01"), **known}
    return module.candle_warnings(candles, used=used, **known)


SESSIONS = np.sort(np.concatenate([weekdays(30) + hour * HOUR for hour in range(9, 16)]))[:200]
THIN = np.delete(every(MINUTE, 400), np.arange(0, 400, 3))[:200]
MONTHS = np.arange("2009-01", "2025-09", dtype="datetime64[M]").astype("datetime64[us]")[:200]


@pytest.mark.parametrize(
    ("interval", "times", "targets"),
    [
        ("1d", weekdays(205), 5),
        ("1d", weekdays(201), 1),
        ("1d", every(DAY, 205), 5),
        ("1h", np.sort(np.concatenate([SESSIONS, SESSIONS[-7:] + DAY])), 7),
        ("1m", every(MINUTE, 205), 5),
        ("1m", np.concatenate([THIN, THIN[-1] + MINUTE * np.arange(1, 6)]), 5),
        ("1wk", every(7 * DAY, 205), 5),
        (None, every(7 * DAY, 205), 5),
        ("1mo", MONTHS, 0),
        ("session", every(7 * DAY, 205), 5),
    ],
)
def test_ordinary_candles_have_no_warning(interval, times, targets):
    ahead = Times(times[len(times) - targets :], None) if targets else None
    assert oddities(history(times[:200]), interval=interval, targets=ahead) == []


@pytest.mark.parametrize(
    ("interval", "times", "words"),
    [
        ("1d", every(7 * DAY), "interval 1d, but the bars are 7 days apart"),
        ("1h", every(DAY), "interval 1h, but the bars are 1 day apart"),
        ("15m", every(MINUTE), "interval 15m, but the bars are 1 minute apart"),
        ("1d", SESSIONS, "interval 1d, but the bars are 1 hour apart"),
    ],
)
def test_bars_of_another_interval_are_reported(interval, times, words):
    assert oddities(history(times), interval=interval, targets=None) == [words]


@pytest.mark.parametrize(
    ("times", "targets", "words"),
    [
        (every(7 * DAY), np.datetime64("2028-11-06", "us") + DAY * np.arange(3), "7 days apart"),
        (every(HOUR), every(HOUR)[-1] + DAY * np.arange(1, 4), "1 hour apart"),
        (weekdays(200), weekdays(200)[-1] + HOUR * np.arange(1, 4), "1 day apart"),
        (weekdays(200), weekdays(300)[-5:], "bars between them are missing"),
    ],
)
def test_targets_that_do_not_follow_the_history_are_reported(times, targets, words):
    [warning] = oddities(history(times), interval=None, targets=Times(targets, None))
    assert words in warning


UTC_OFFSET = np.zeros(200, "timedelta64[m]")
HOURS = Times(every(HOUR), UTC_OFFSET)  # the newest bar is from 2025-01-14T07:00 to 08:00


@pytest.mark.parametrize(
    ("times", "now", "words"),
    [
        (HOURS, "2025-01-14T08:00", []),
        (HOURS, "2025-01-14T07:59", ["row 199", "not complete", "2025-01-14T07:59 UTC"]),
        (HOURS, "2025-01-14T06:30", ["row 199 is of the future"]),
        (HOURS, "2025-01-14T04:30", ["3 bars from row 197 on are of the future"]),
        # a time without zone may be Kiribati's, where the day may be over
        (Times(every(HOUR), None), "2025-01-13T17:00", []),
        (Times(every(HOUR), None), "2025-01-13T16:59", ["row 199 is of the future"]),
        (Times(weekdays(200), None), "2025-10-10T00:00", []),
        (Times(weekdays(200), UTC_OFFSET), "2025-10-10T00:00", []),
        (Times(weekdays(200), None), "2025-10-07T20:00", ["2 bars from row 198 on"]),
    ],
)
def test_future_and_unfinished_bars_are_reported(times, now, words):
    candles = History(times, history(count=200).values)
    found = oddities(candles, interval=None, targets=None, now=np.datetime64(now))
    assert len(found) == bool(words)
    for word in words:
        assert word in found[0]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (np.delete(weekdays(260), np.s_[100:160])[:200], "on 200 days, where 260 are weekdays"),
        (np.delete(weekdays(400), np.s_[::2])[:200], None),  # at most another interval
        (np.delete(weekdays(260), np.s_[3:240:4])[:200], "on 200 days, where"),
        (np.delete(weekdays(213), np.s_[40:48])[:200], None),  # a week of holidays
        (np.delete(weekdays(211), np.s_[40:51])[:200], "18 days, before row 40"),
    ],
)
def test_missing_days_beyond_holidays_are_counted(times, words):
    found = oddities(history(times), interval=None, targets=None)
    assert [words in item for item in found] == [True] if words else found == []


@pytest.mark.parametrize("at", [40, 150, 199])
@pytest.mark.parametrize("factor", [2.0, 3.0, 20.0, 1 / 10, 100.0, 1 / 100])
def test_a_break_of_scale_is_reported_with_its_row_and_factor(factor, at):
    odd = history()
    odd.values[at:, :4] /= factor
    odd.values[at:, 4] *= factor
    [warning] = oddities(odd, interval="1d", targets=None)
    assert warning.startswith(f"row {at}: prices change by the factor")


def test_a_break_of_scale_before_the_context_is_not_reported():
    odd = history()
    odd.values[:50, :4] *= 20
    assert oddities(odd, used=150, interval="1d", targets=None) == []
    assert len(oddities(odd, used=151, interval="1d", targets=None)) == 1


@pytest.mark.parametrize("at", [150, 199])
@pytest.mark.parametrize(("factor", "trade", "wide"), [(0.4, 10, 1), (0.4, 1, 1.1), (2.0, 12, 1)])
def test_a_real_crash_or_jump_is_not_reported(factor, trade, wide, at):
    real = history()
    real.values[at:, :4] *= factor
    real.values[at, 4] *= trade
    real.values[at, 1] *= wide
    real.values[at, 2] /= wide
    assert oddities(real, interval="1d", targets=None) == []


@pytest.mark.parametrize("rows", [slice(20, 70), slice(196, 200)])
def test_bars_that_only_repeat_the_price_are_counted(rows):
    filled = history()
    filled.values[rows, :4] = filled.values[rows.start - 1, 3]
    [warning] = oddities(filled, interval="1d", targets=None)
    assert f"the last row {rows.stop - 1}" in warning


def test_checking_two_thousand_bars_takes_a_fraction_of_a_forecasts_time():
    many = history(every(HOUR, 2000), count=2000)
    targets = Times(every(HOUR, 2005)[-5:], None)
    took = []
    for _ in range(5):
        start = time.process_time()
        assert oddities(many, interval="1h", targets=targets) == []
        took.append(time.process_time() - start)
    assert min(took) < 0.02


def zoned(*offsets: int, ahead: int | None = None) -> list[str]:
    """Return the warnings about hourly bars with these alternating UTC offsets."""
    instants = every(HOUR)
    offset = np.resize(offsets, 200) * HOUR
    times = Times(instants + offset, offset.astype("timedelta64[m]"))
    candles = History(times, history().values)
    targets = None
    if ahead is not None:
        wall = instants[-1:] + HOUR + ahead * HOUR
        targets = Times(wall, np.array([ahead * 60], "timedelta64[m]"))
    return oddities(candles, interval="1h", targets=targets)


@pytest.mark.parametrize(
    ("offsets", "ahead", "row"),
    [
        ([0, 1], None, "row 2: 2025-01-06T02:00:00+00:00 after 2025-01-06T02:00:00+01:00"),
        ([0] * 90 + [1] + [0] * 109, None, "row 91: "),
        ([-5] * 50 + [0] * 150, None, "row 50: "),
        ([-5] * 200, 0, "target_timestamps 0: "),
    ],
)
def test_bars_of_several_zones_are_reported(offsets, ahead, row):
    [warning] = zoned(*offsets, ahead=ahead)
    assert warning.startswith(row)
    assert warning.endswith("write all in the exchange's zone")


@pytest.mark.parametrize(
    ("offsets", "ahead"),
    [([-5] * 200, -5), ([-5] * 150 + [-4] * 50, -4), ([1] * 200, 2), ([0] * 200, None)],
)
def test_a_clock_change_is_not_a_change_of_zone(offsets, ahead):
    assert zoned(*offsets, ahead=ahead) == []
