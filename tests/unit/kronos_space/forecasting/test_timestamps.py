"""When the candles are: texts in, times out, and which come next."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from kronos_space.exceptions import InvalidHistory
from kronos_space.forecasting.timestamps import next_times, parse_times, time_features
from tests.support.candles import sessions


def following(moments: list[datetime], count: int) -> list[str]:
    return next_times(parse_times([m.isoformat() for m in moments]), count).isoformat()


def test_offsets_that_change_with_summer_time_are_one_zone_and_features_use_the_wall() -> None:
    times = parse_times(["2026-03-06T09:30:00-05:00", "2026-03-09T09:30:00-04:00"])
    assert time_features(times.wall).tolist() == [[30, 9, 4, 6, 3], [30, 9, 0, 9, 3]]
    assert times.isoformat() == ["2026-03-06T09:30:00-05:00", "2026-03-09T09:30:00-04:00"]


def test_order_is_that_of_the_instants_not_of_the_walls() -> None:
    parse_times(["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"])
    with pytest.raises(InvalidHistory, match="row 1"):
        parse_times(["2026-10-25T02:30:00+01:00", "2026-10-25T02:45:00+02:00"])


@pytest.mark.parametrize("text", ["2026-03-06 09:30", "2026-03-06T09:30:00.123456+0530"])
def test_the_common_spellings_of_iso_8601_are_understood(text: str) -> None:
    [parsed] = parse_times([text]).isoformat()
    assert datetime.fromisoformat(parsed) == datetime.fromisoformat(text)


def test_after_friday_comes_monday_for_a_stock_and_saturday_for_a_coin() -> None:
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


def test_hourly_bars_go_on_with_the_next_session() -> None:
    moments = sessions(10, ["09:30", "10:30", "11:30", "12:30", "13:30", "14:30", "15:30"])
    assert following(moments, 3) == [
        "2026-03-16T09:30:00",
        "2026-03-16T10:30:00",
        "2026-03-16T11:30:00",
    ]
    assert following(moments[:-2], 3)[0] == "2026-03-13T14:30:00"


def test_a_lunch_break_off_the_grid_of_the_spacing_is_kept() -> None:
    hong_kong = sessions(10, ["09:30", "10:30", "11:30", "13:00", "14:00", "15:00"])
    ahead = following(hong_kong, 6)
    assert [text[11:16] for text in ahead] == ["09:30", "10:30", "11:30", "13:00", "14:00", "15:00"]


def test_a_bar_at_an_odd_time_is_not_repeated() -> None:
    moments = sessions(10, ["09:30", "12:30"])
    moments[-1] = moments[-1].replace(minute=47)
    assert [text[11:16] for text in following(moments, 3)] == ["09:30", "12:30", "09:30"]


def test_minutes_of_one_morning_simply_go_on() -> None:
    start = datetime(2026, 3, 4, 9, 30)
    moments = [start + timedelta(minutes=n) for n in range(32)]
    assert following(moments, 2) == ["2026-03-04T10:02:00", "2026-03-04T10:03:00"]


def test_hours_of_a_coin_go_on_through_the_weekend() -> None:
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


def test_irregular_times_still_give_times_ahead() -> None:
    random = np.random.default_rng(3)
    steps = np.cumsum(random.integers(1, 40_000, 50))
    moments = [datetime(2026, 3, 2) + timedelta(seconds=int(step)) for step in steps]
    ahead = [datetime.fromisoformat(text) for text in following(moments, 5)]
    assert ahead == sorted(set(ahead))
    assert ahead[0] > moments[-1]


def test_bars_millennia_apart_have_no_next_time() -> None:
    with pytest.raises(InvalidHistory, match="too far apart"):
        following([datetime(1000, 1, 1), datetime(2000, 1, 1), datetime(2999, 1, 1)], 200)
