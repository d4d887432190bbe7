"""Confidence intervals from resampled sessions."""

import numpy as np
import pytest

from tradingbot.evaluation.significance import DRAWS, MIN_SESSIONS_TO_RESAMPLE, interval, resampled


def share_interval(
    sessions: np.ndarray, hits: np.ndarray, *, block: int = 1
) -> tuple[float, float]:
    values = np.column_stack([hits, np.ones(len(hits))])
    _, drawn = resampled(sessions, values, block=block)
    ends = interval(drawn[:, :1] / drawn[:, 1:])
    assert ends is not None
    return float(ends[0][0]), float(ends[1][0])


def test_session_sums_equal_the_sums_of_all_forecasts() -> None:
    sums, drawn = resampled(np.array([3, 1, 3]), np.array([[1.0], [2.0], [4.0]]), block=1)
    assert sums.tolist() == [7.0]
    assert drawn.shape == (0, 1)  # two sessions are too few
    assert interval(drawn) is None


def test_every_resample_has_the_original_number_of_sessions() -> None:
    sessions = np.arange(50)
    _, drawn = resampled(sessions, np.ones((50, 1)), block=7)
    assert drawn.shape == (DRAWS, 1)
    assert set(drawn[:, 0]) == {50.0}


def test_independent_sessions_have_a_binomial_interval() -> None:
    hits = (np.random.default_rng(1).random(400) < 0.8).astype(float)
    low, high = share_interval(np.arange(400), hits)
    assert high - low == pytest.approx(2 * 1.96 * (0.8 * 0.2 / 400) ** 0.5, rel=0.15)


def test_perfectly_correlated_tickers_count_as_one() -> None:
    hits = (np.random.default_rng(1).random(100) < 0.8).astype(float)
    alone = share_interval(np.arange(100), hits)
    assert share_interval(np.repeat(np.arange(100), 9), np.repeat(hits, 9)) == alone


def test_overlapping_forecasts_have_a_wider_interval() -> None:
    hits = np.repeat((np.random.default_rng(2).random(80) < 0.5).astype(float), 5)
    low, high = share_interval(np.arange(400), hits, block=10)
    assert high - low > 1.6 * 2 * 1.96 * (0.25 / 400) ** 0.5


def test_resampling_is_deterministic() -> None:
    values = np.arange(2.0 * MIN_SESSIONS_TO_RESAMPLE).reshape(MIN_SESSIONS_TO_RESAMPLE, 2)
    first, again = (
        resampled(np.arange(MIN_SESSIONS_TO_RESAMPLE), values, block=3) for _ in range(2)
    )
    assert np.array_equal(first[1], again[1])
