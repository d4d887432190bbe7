"""Candles in, arrays out."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest

from kronos_space.exceptions import InvalidHistory
from kronos_space.frames import (
    history_from_rows,
    next_times,
    normalise,
    parse_times,
    repair,
    time_features,
)
from tests.support.candles import at, bars


def following(moments: list[datetime], count: int) -> list[str]:
    return next_times(parse_times([m.isoformat() for m in moments]), count).isoformat()


def sessions(days: int, times: list[str], *, every_day: bool = False) -> list[datetime]:
    """These times on as many days from Monday, 2026-03-02, weekends left out."""
    start, found, day = date(2026, 3, 2), [], 0
    while len(found) < days * len(times):
        today = start + timedelta(days=day)
        day += 1
        if every_day or today.weekday() < 5:
            found += [datetime.fromisoformat(f"{today}T{time}") for time in times]
    return found


def test_rows_become_columns_in_the_models_order_and_amount_is_volume_times_mean_price() -> None:
    history = history_from_rows(
        [
            {"timestamp": "2026-01-05", "open": 1, "high": 4, "low": 1, "close": 2, "volume": 10},
            {"timestamp": "2026-01-06", "open": 2, "high": 3, "low": 2, "close": 3, "volume": 0},
        ]
    )
    assert history.values.tolist() == [[1, 4, 1, 2, 10, 20], [2, 3, 2, 3, 0, 0]]


def test_without_volume_volume_and_amount_are_zero() -> None:
    assert not history_from_rows(bars(40, volume=False)).values[:, 4:].any()


def test_an_amount_that_is_given_is_used() -> None:
    rows = [{**row, "amount": 5.0} for row in bars(40)]
    assert set(history_from_rows(rows).values[:, 5]) == {5.0}


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (17, {"high": 9.1, "low": 9.3}, "row 17: high 9.1 is below low 9.3"),
        (3, {"close": 500.0}, "is below close 500.0"),
        (3, {"open": 0.5}, "is above open 0.5"),
        (5, {"timestamp": "2026-02-30"}, "row 5: timestamp 2026-02-30 is no date"),
        (5, {"timestamp": "2026-01-12T24:30"}, "row 5: timestamp 2026-01-12T24:30 is no date"),
        (5, {"timestamp": "2026-01-09"}, "row 5: timestamp 2026-01-09 is not after 2026-01-09"),
        (5, {"timestamp": "2026-01-12T00:00Z"}, "row 5: timestamp 2026-01-12T00:00Z has a zone"),
        (0, {"amount": 1.0}, "row 1: has no amount, unlike row 0"),
    ],
)
def test_a_row_that_cannot_be_is_named_with_the_reason(
    row: int, change: dict, message: str
) -> None:
    rows = bars(40)
    rows[row] = rows[row] | change
    with pytest.raises(InvalidHistory) as error:
        history_from_rows(rows)
    assert message in str(error.value)


def test_a_volume_missing_in_one_row_is_named() -> None:
    rows = bars(40)
    del rows[9]["volume"]
    with pytest.raises(InvalidHistory, match="row 9: has no volume, unlike row 0"):
        history_from_rows(rows)


def test_an_amount_without_volume_is_refused() -> None:
    rows = [{**row, "amount": 5.0} for row in bars(40, volume=False)]
    with pytest.raises(InvalidHistory, match="amount is given without volume"):
        history_from_rows(rows)


def test_the_rounding_of_adjusted_prices_is_no_impossible_candle() -> None:
    rows = bars(40)
    rows[3]["high"] = max(rows[3]["open"], rows[3]["close"]) * (1 - 1e-9)
    history_from_rows(rows)


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


def test_normalised_columns_have_mean_0_and_deviation_1_and_are_clipped_at_5() -> None:
    values = np.tile(np.arange(100.0)[:, None], 6)
    values[50, 4] = 1e6
    normal, scale = normalise(values)
    assert normal.dtype == np.float32
    assert abs(normal[:, 0].mean()) < 1e-6
    assert abs(normal[:, 0].std() - 1) < 1e-4
    assert normal[50, 4] == 5.0
    np.testing.assert_allclose(scale.restore(normal)[:, 0], values[:, 0], rtol=1e-6, atol=1e-5)


def test_numbers_too_large_for_float32_are_normalised_all_the_same() -> None:
    values = np.tile(np.arange(1.0, 101.0)[:, None], 6)
    small, _ = normalise(values)

    large, scale = normalise(values * 1e28)

    np.testing.assert_allclose(large, small, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scale.restore(large)[:, 0], values[:, 0] * 1e28, rtol=1e-5)


def test_a_flat_history_normalises_to_zero() -> None:
    normal, _ = normalise(history_from_rows(at(sessions(40, ["00:00"]))).values)
    assert not normal.any()


def test_a_repaired_bar_is_a_possible_candle_and_a_possible_one_stays() -> None:
    bars = np.array([[5.0, 4.0, 6.0, 7.0, -1.0], [-3.0, 2.0, -5.0, 1.0, 9.0], [2, 4, 1, 3, 5]])
    assert repair(bars, floor=0.5).tolist() == [
        [5.0, 7.0, 5.0, 7.0, 0.0],
        [0.5, 2.0, 0.5, 1.0, 9.0],
        [2, 4, 1, 3, 5],
    ]


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
