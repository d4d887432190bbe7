"""Timestamps: how they are parsed, and which ones are inferred for the bars ahead."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kronos_space.exceptions import InvalidHistory
from kronos_space.forecasting.timestamps import (
    Times,
    inferred_times,
    next_times,
    parse_times,
    time_features,
)
from tests.support import patterns
from tests.support.candles import sessions


def following(moments: list[datetime], count: int) -> list[str]:
    return next_times(parse_times([m.isoformat() for m in moments]), count).isoformat()


def test_offsets_that_change_with_summer_time_are_one_zone_and_features_use_the_wall() -> None:
    times = parse_times(["2026-03-06T09:30:00-05:00", "2026-03-09T09:30:00-04:00"])
    assert time_features(times.wall).tolist() == [[30, 9, 4, 6, 3], [30, 9, 0, 9, 3]]
    assert times.isoformat() == ["2026-03-06T09:30:00-05:00", "2026-03-09T09:30:00-04:00"]


def test_timestamps_are_ordered_by_instant_not_by_wall_time() -> None:
    parse_times(["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"])
    with pytest.raises(InvalidHistory, match="row 1"):
        parse_times(["2026-10-25T02:30:00+01:00", "2026-10-25T02:45:00+02:00"])


@pytest.mark.parametrize("text", ["2026-03-06 09:30", "2026-03-06T09:30:00.123456+0530"])
def test_the_common_spellings_of_iso_8601_are_understood(text: str) -> None:
    [parsed] = parse_times([text]).isoformat()
    assert datetime.fromisoformat(parsed) == datetime.fromisoformat(text)


def test_the_day_after_friday_is_monday_for_a_stock_and_saturday_for_crypto() -> None:
    stock = sessions(40, ["00:00"])
    assert stock[-1].weekday() == 4
    assert following(stock, 2) == ["2026-04-27T00:00:00", "2026-04-28T00:00:00"]
    coin = sessions(40, ["00:00"], every_day=True)
    assert following(coin, 1) == [(coin[-1] + timedelta(days=1)).isoformat()]


def test_a_history_of_sundays_to_thursdays_has_no_friday_ahead() -> None:
    riyadh = [day - timedelta(days=1) for day in sessions(40, ["00:00"])]
    assert [datetime.fromisoformat(day).weekday() for day in following(riyadh, 6)] == [
        6, 0, 1, 2, 3, 6,
    ]  # fmt: skip


def test_hourly_bars_continue_in_the_next_session() -> None:
    moments = sessions(10, ["09:30", "10:30", "11:30", "12:30", "13:30", "14:30", "15:30"])
    assert following(moments, 3) == [
        "2026-03-16T09:30:00",
        "2026-03-16T10:30:00",
        "2026-03-16T11:30:00",
    ]
    assert following(moments[:-2], 3)[0] == "2026-03-13T14:30:00"


def test_a_lunch_break_of_an_odd_length_is_kept() -> None:
    hong_kong = sessions(10, ["09:30", "10:30", "11:30", "13:00", "14:00", "15:00"])
    ahead = following(hong_kong, 6)
    assert [text[11:16] for text in ahead] == ["09:30", "10:30", "11:30", "13:00", "14:00", "15:00"]


def test_a_bar_at_an_odd_time_is_not_repeated() -> None:
    moments = sessions(10, ["09:30", "12:30"])
    moments[-1] = moments[-1].replace(minute=47)
    assert [text[11:16] for text in following(moments, 3)] == ["09:30", "12:30", "09:30"]


def test_minute_bars_of_one_morning_continue_without_a_gap() -> None:
    start = datetime(2026, 3, 4, 9, 30)
    moments = [start + timedelta(minutes=n) for n in range(32)]
    assert following(moments, 2) == ["2026-03-04T10:02:00", "2026-03-04T10:03:00"]


def test_hourly_crypto_bars_continue_through_the_weekend() -> None:
    start = datetime(2026, 3, 4, 0)
    moments = [start + timedelta(hours=n) for n in range(72)]  # up to Friday, 23:00
    assert following(moments, 1) == ["2026-03-07T00:00:00"]


def test_two_sessions_of_a_stock_are_enough_to_skip_the_weekend() -> None:
    moments = [m + timedelta(days=3) for m in sessions(2, ["09:30", "10:30", "11:30", "12:30"])]
    assert moments[-1].weekday() == 4
    assert following(moments, 1) == ["2026-03-09T09:30:00"]


def test_weekly_bars_keep_their_weekday_and_monthly_ones_their_day() -> None:
    weekly = [datetime(2026, 1, 5) + timedelta(weeks=n) for n in range(40)]
    assert following(weekly, 2) == ["2026-10-12T00:00:00", "2026-10-19T00:00:00"]
    starts = [datetime(2020 + n // 12, n % 12 + 1, 1) for n in range(40)]
    assert following(starts, 3) == [
        "2023-05-01T00:00:00",
        "2023-06-01T00:00:00",
        "2023-07-01T00:00:00",
    ]
    ends = [start - timedelta(days=1) for start in starts]
    assert following(ends, 2) == ["2023-04-30T00:00:00", "2023-05-31T00:00:00"]


def test_inferred_times_have_the_zone_of_the_newest_bar() -> None:
    times = parse_times([f"{m.isoformat()}-04:00" for m in sessions(35, ["16:00"])])
    assert next_times(times, 1).isoformat() == ["2026-04-20T16:00:00-04:00"]


def test_weekly_bars_return_to_their_weekday_after_a_holiday() -> None:
    weekly = [datetime(2026, 1, 5) + timedelta(weeks=n) for n in range(40)]
    weekly[-1] += timedelta(days=1)
    assert following(weekly, 2) == ["2026-10-12T00:00:00", "2026-10-19T00:00:00"]


@pytest.mark.parametrize(
    ("roll", "ahead"),
    [("backward", ["2023-04-28", "2023-05-31"]), ("forward", ["2023-05-01", "2023-06-01"])],
)
def test_bars_on_the_first_or_last_working_day_of_a_month_keep_that_rule(
    roll: Literal["backward", "forward"], ahead: list[str]
) -> None:
    months = np.arange("2020-01", "2023-05", dtype="datetime64[M]")
    edge = months.astype("datetime64[D]")
    if roll == "backward":
        edge = (months[:-1] + 1).astype("datetime64[D]") - 1
        edge = edge[edge < np.datetime64("2023-04-01")]
    days = np.busday_offset(edge, 0, roll=roll)
    days[5] += 1 if roll == "forward" else -1  # a holiday
    assert [text[:10] for text in following(days.astype(datetime).tolist(), 2)] == ahead


NEW_YORK = ["09:30", "10:30", "11:30", "12:30", "13:30", "14:30", "15:30"]


@pytest.mark.parametrize("bar", ["2026-03-14T10:30", "2026-03-15T17:30", "2026-03-13T18:15"])
def test_a_single_unusual_bar_does_not_change_the_inferred_times(bar: str) -> None:
    moments = [*sessions(30, NEW_YORK), datetime.fromisoformat(bar)]
    usual = following(sorted(moments[:-1]), 40)
    moments = sorted(moments)
    cut = moments.index(datetime.fromisoformat(bar)) + 1
    assert set(following(moments, 40)) == set(usual)
    just_after = following(moments[:cut], 7)
    assert [text[11:16] for text in just_after] == NEW_YORK
    assert just_after[0] == "2026-03-16T09:30:00"


def test_a_clock_change_is_followed_after_three_days() -> None:
    winter = [moment + timedelta(hours=5) for moment in sessions(30, NEW_YORK)]
    summer = [m + timedelta(days=42, hours=4) for m in sessions(3, NEW_YORK)]
    ahead = following(winter + summer, 7)
    assert [text[11:16] for text in ahead] == [f"{9 + 4 + n}:30" for n in range(7)]


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        ("Australia/Sydney", range(10, 16)),
        ("Pacific/Auckland", range(10, 17)),
        ("America/New_York", range(4, 20)),  # including trading before and after the session
        ("America/Chicago", [*range(9, 13), *range(17, 24)]),
    ],
)
def test_hourly_utc_bars_keep_their_weekdays_after_a_clock_change(
    zone: str, hours: Sequence[int]
) -> None:
    """In UTC, Sydney's session is within one day in winter, and begins a day earlier in summer."""
    local = [
        datetime(2024, 1, 1, hour, tzinfo=ZoneInfo(zone)) + timedelta(days=day)
        for day in range(350)
        if day % 7 < 5
        for hour in hours
    ]
    bars = [moment.astimezone(UTC) for moment in local]
    for at in range(40 * len(hours), len(bars), len(hours) - 1):
        known = [moment.isoformat() for moment in bars[at - 35 * len(hours) : at + 1]]
        for text in next_times(parse_times(known), 3 * len(hours)).isoformat():
            near = [datetime.fromisoformat(text) + timedelta(hours=n) for n in (-1, 0, 1)]
            clocks = [moment.astimezone(ZoneInfo(zone)) for moment in near]
            assert any(c.weekday() < 5 and c.hour in hours for c in clocks), (bars[at], text)


def test_a_change_of_the_markets_week_is_followed_after_two_weeks() -> None:
    monday = datetime(2026, 1, 5)
    old = [monday + timedelta(days=n) for n in range(-70, 0) if n % 7 in (6, 0, 1, 2, 3)]
    new = [monday + timedelta(days=n) for n in range(12) if n % 7 < 5]
    weekdays = [datetime.fromisoformat(day).weekday() for day in following(old + new, 5)]
    assert weekdays == [0, 1, 2, 3, 4]


def test_a_week_from_sunday_evening_to_friday_is_inferred() -> None:
    opens = datetime(2026, 3, 1, 22)
    moments = [opens + timedelta(weeks=w, hours=h) for w in range(4) for h in range(5 * 24)]
    ahead = [datetime.fromisoformat(text) for text in following(moments[:-3], 6)]
    weekend = opens + timedelta(weeks=4)
    assert ahead == [*moments[-3:], weekend, *(weekend + timedelta(hours=h) for h in (1, 2))]


def test_drifting_hourly_bars_get_plain_spacing_and_a_warning() -> None:
    moments = [datetime(2026, 3, 2) + n * timedelta(hours=1, seconds=7) for n in range(200)]
    times = parse_times([moment.isoformat() for moment in moments])
    ahead, warning = inferred_times(times, 2)
    assert ahead.isoformat()[0] == (moments[-1] + timedelta(hours=1, seconds=7)).isoformat()
    assert warning is not None
    assert "no pattern" in warning
    assert "1:00:07" in warning


@given(
    gaps=st.lists(st.integers(1, 2**36), min_size=1, max_size=80),
    repeat=st.integers(1, 8),
    start=st.integers(-(2**45), 2**50),
    zones=st.lists(st.integers(-14 * 60, 14 * 60), min_size=0, max_size=3),
    count=st.integers(1, 40),
)
def test_any_increasing_times_have_next_times_or_a_clear_error(
    gaps: list[int], repeat: int, start: int, zones: list[int], count: int
) -> None:
    steps = np.cumsum(np.array([0, *gaps * repeat], dtype=np.int64))
    instant = (start + steps).astype("datetime64[us]")
    offset = np.resize(zones, len(instant)).astype("timedelta64[m]") if zones else None
    history = Times(instant if offset is None else instant + offset, offset)
    ahead = next_times(history, count)
    assert len(ahead.wall) == count
    assert (np.diff(ahead.instant) > np.timedelta64(0)).all()
    assert ahead.instant[0] > history.instant[-1]


@pytest.mark.parametrize("code", ["XNYS", "XHKG", "XSAU", "XIDX", "24/7"])
def test_inferred_times_are_times_at_which_the_market_trades(code: str) -> None:
    """These are some calendars; `python -m tests.support.patterns` tests all of them."""
    bars = patterns.market(code, last="2023-12-31" if code == "XSAU" else "2017-12-31")
    for times, enough in ((bars.daily, 0.995), (bars.hourly, 0.99), (bars.hourly_utc, 0.98)):
        right, all_ = patterns.count_right(times, cuts=25, horizon=8, seed=1, history=(64, 300))
        assert right / all_ >= enough


def test_bars_millennia_apart_have_no_next_time() -> None:
    with pytest.raises(InvalidHistory, match="too far apart"):
        following([datetime(1000, 1, 1), datetime(2000, 1, 1), datetime(2999, 1, 1)], 200)
