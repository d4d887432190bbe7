"""Candles of requests become arrays."""

import numpy as np
import pytest

from kronos_space.exceptions import InvalidHistory
from kronos_space.forecasting.candles import history_from_rows, normalise, repair
from tests.support.candles import at, bars, sessions


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


def test_a_given_amount_is_used() -> None:
    rows = [{**row, "amount": 5.0} for row in bars(40)]
    assert set(history_from_rows(rows).values[:, 5]) == {5.0}


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (17, {"high": 9.1, "low": 9.3}, "row 17: high 9.1 is below low 9.3"),
        (3, {"close": 500.0}, "is below close 500.0"),
        (3, {"open": 0.5}, "is above open 0.5"),
        (5, {"timestamp": "2026-02-30"}, "row 5: timestamp 2026-02-30 does not exist"),
        (5, {"timestamp": "2026-01-12T24:30"}, "row 5: timestamp 2026-01-12T24:30 does not exist"),
        (5, {"timestamp": "2026-01-09"}, "row 5: timestamp 2026-01-09 is not after 2026-01-09"),
        (5, {"timestamp": "2026-01-12T00:00Z"}, "row 5: timestamp 2026-01-12T00:00Z has a zone"),
        (0, {"amount": 1.0}, "row 1: has no amount, unlike row 0"),
    ],
)
def test_an_impossible_row_is_named_with_the_reason(row: int, change: dict, message: str) -> None:
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


def test_rounding_of_adjusted_prices_is_not_an_impossible_candle() -> None:
    rows = bars(40)
    rows[3]["high"] = max(rows[3]["open"], rows[3]["close"]) * (1 - 1e-9)
    history_from_rows(rows)


def test_normalised_columns_have_mean_0_and_deviation_1_and_are_clipped_at_5() -> None:
    values = np.tile(np.arange(100.0)[:, None], 6)
    values[50, 4] = 1e6
    normal, scale = normalise(values)
    assert normal.dtype == np.float32
    assert abs(normal[:, 0].mean()) < 1e-6
    assert abs(normal[:, 0].std() - 1) < 1e-4
    assert normal[50, 4] == 5.0
    np.testing.assert_allclose(scale.restore(normal)[:, 0], values[:, 0], rtol=1e-6, atol=1e-5)


def test_numbers_too_large_for_float32_are_normalised_too() -> None:
    values = np.tile(np.arange(1.0, 101.0)[:, None], 6)
    small, _ = normalise(values)

    large, scale = normalise(values * 1e28)

    np.testing.assert_allclose(large, small, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scale.restore(large)[:, 0], values[:, 0] * 1e28, rtol=1e-5)


def test_a_flat_history_normalises_to_zero() -> None:
    normal, _ = normalise(history_from_rows(at(sessions(40, ["00:00"]))).values)
    assert not normal.any()


def test_repair_makes_impossible_bars_possible_and_keeps_the_others() -> None:
    bars = np.array([[5.0, 4.0, 6.0, 7.0, -1.0], [-3.0, 2.0, -5.0, 1.0, 9.0], [2, 4, 1, 3, 5]])
    assert repair(bars, floor=0.5).tolist() == [
        [5.0, 7.0, 5.0, 7.0, 0.0],
        [0.5, 2.0, 0.5, 1.0, 9.0],
        [2, 4, 1, 3, 5],
    ]
