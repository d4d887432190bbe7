"""The volatility-scaled random walk, compared with a plain implementation of its definition."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradingbot.evaluation.baselines import (
    DECAY,
    LOOKBACK,
    MIN_RETURNS,
    WINDOW,
    _range_volatility,
    ewma_walk_quantiles,
    random_walk_quantiles,
    range_walk_quantiles,
)
from tradingbot.evaluation.close_outcomes import LEVELS


def candles(returns: np.ndarray) -> pd.Series:
    closes = 100 * np.exp(np.concatenate([[0], np.cumsum(returns)]))
    return pd.Series(closes, index=pd.date_range("2020-01-01", periods=len(closes)))


def origins(past: pd.Series, *bars: int) -> np.ndarray:
    return past.index[list(bars)].to_numpy().astype("datetime64[s]")


def plain(returns: np.ndarray, steps: int) -> np.ndarray:
    """Compute the walk bar by bar, one path at a time."""
    variance = [float(np.mean(returns[:20] ** 2))]
    for value in returns:
        variance.append(DECAY * variance[-1] + (1 - DECAY) * value**2)
    filtered = (returns / np.sqrt(variance[:-1]))[-WINDOW:]
    filtered = filtered - filtered.mean()
    table, paths = np.random.default_rng(0), np.zeros(WINDOW)
    for _ in range(steps):
        paths += filtered[table.permutation(WINDOW) * len(filtered) // WINDOW]
    return np.exp(np.quantile(paths, LEVELS, method="median_unbiased") * np.sqrt(variance[-1]))


@pytest.mark.parametrize("length", [MIN_RETURNS, 100, 600])
@pytest.mark.parametrize("step", [1, 5])
def test_returns_are_rescaled_from_past_to_current_volatility(length: int, step: int) -> None:
    returns = np.random.default_rng(length).standard_t(4, length + 50) * 0.01
    past = candles(returns)
    [found] = ewma_walk_quantiles(past, origins(past, length), np.array([step]))
    assert found == pytest.approx(plain(returns[:length], step), rel=1e-9)


def test_many_origins_in_any_order_give_the_same_walks_as_single_ones() -> None:
    past = candles(np.random.default_rng(1).normal(0, 0.01, 900))
    bars = np.random.default_rng(2).integers(40, 900, 500)
    steps = np.random.default_rng(3).integers(1, 6, 500)
    together = ewma_walk_quantiles(past, origins(past, *bars), steps)
    for i in (0, 17, 499):
        [alone] = ewma_walk_quantiles(past, origins(past, bars[i]), steps[i : i + 1])
        assert np.array_equal(together[i], alone)


def test_the_ewma_walk_widens_with_volatility_immediately_and_has_no_drift() -> None:
    calm, wild = np.random.default_rng(1).normal(0.002, 1, (2, 300)) * [[0.005], [0.02]]
    past = candles(np.concatenate([calm, wild[:30]]))
    before, after = origins(past, 300), origins(past, 330)

    def width(quantiles: np.ndarray) -> float:
        return float(np.log(quantiles[0, -1] / quantiles[0, 0]))

    one_step = np.array([1])
    assert width(ewma_walk_quantiles(past, after, one_step)) > 2.5 * width(
        ewma_walk_quantiles(past, before, one_step)
    )
    assert width(random_walk_quantiles(past, after, one_step)) < 2.5 * width(
        random_walk_quantiles(past, before, one_step)
    )
    rising = candles(np.resize([0.01, 0.02, 0.03], 300))
    [found] = ewma_walk_quantiles(rising, origins(rising, 300), one_step)
    assert found[0] < 1 < found[-1]


def test_the_ewma_walk_uses_only_the_past_and_needs_enough_of_it() -> None:
    past = candles(np.random.default_rng(1).normal(0, 0.01, 300))
    at = origins(past, MIN_RETURNS - 1, MIN_RETURNS, 200)
    steps = np.array([1, 2, 5])
    found = ewma_walk_quantiles(past, at, steps)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()
    poisoned = past.where(past.index <= past.index[200], np.nan)
    assert np.array_equal(ewma_walk_quantiles(poisoned, at, steps)[1:], found[1:])


def test_constant_closes_give_a_constant_walk() -> None:
    past = candles(np.zeros(100))
    found = ewma_walk_quantiles(past, origins(past, 90), np.array([3]))
    assert np.array_equal(found, np.ones((1, 19)))


@pytest.mark.parametrize("walk", [ewma_walk_quantiles, range_walk_quantiles])
def test_a_year_after_a_halt_bands_still_match_the_volatility(walk: Any) -> None:
    """The first return after the halt was thousands of times the volatility before it."""
    moves = 0.01 * np.random.default_rng(3).standard_normal(200)
    past = candles(np.concatenate([moves, np.zeros(300), moves]))
    frame = with_ranges(past, 0.0) if walk is range_walk_quantiles else past
    [found] = np.log(walk(frame, origins(past, 650), np.array([5])))
    z = 0.01 * 5**0.5
    assert abs(found[9]) < 0.4 * z
    assert 0.5 * 1.28 * z < found[17] < 2 * 1.28 * z


def with_ranges(closes: pd.Series, width: float = 0.01) -> pd.DataFrame:
    """Return bars that open at the previous close and reach `width` beyond both prices."""
    opens = closes.shift(1, fill_value=closes.iloc[0])
    both = pd.concat([opens, closes], axis=1)
    high, low = both.max(axis=1) * (1 + width), both.min(axis=1) * (1 - width)
    return pd.DataFrame({"open": opens, "high": high, "low": low, "close": closes})


def test_the_range_walk_widens_when_ranges_widen_even_if_closes_do_not() -> None:
    past = candles(np.random.default_rng(0).standard_normal(300) * 0.01)
    bars = with_ranges(past)
    wide = with_ranges(past.iloc[-20:], width=0.05)
    as_of = origins(past, 300)
    [calm], [stormy] = (
        range_walk_quantiles(item, as_of, np.array([1]))
        for item in (bars, pd.concat([bars.iloc[:-20], wide]))
    )
    assert stormy[-1] - stormy[0] > 2 * (calm[-1] - calm[0])


def test_the_range_walk_uses_only_bars_before_its_origin() -> None:
    past = candles(np.random.default_rng(1).standard_normal(120) * 0.01)
    bars = with_ranges(past)
    poisoned = bars.copy()
    poisoned.iloc[81:] *= 10
    as_of, steps = origins(past, 80, 80), np.array([1, 5])
    honest, other = (range_walk_quantiles(item, as_of, steps) for item in (bars, poisoned))
    assert (honest == other).all()
    assert np.isnan(range_walk_quantiles(bars, origins(past, 20), np.array([1]))).all()


def test_the_range_walk_does_not_depend_on_bars_before_its_window() -> None:
    """A forecast made from LOOKBACK bars can therefore be recomputed from longer candles."""
    random = np.random.default_rng(4)
    past = candles(random.standard_normal(LOOKBACK + 300) * np.repeat([0.1, 0.01], 400))
    bars, steps = with_ranges(past), np.array([1, 5])
    as_of = origins(past, LOOKBACK + 100, LOOKBACK + 299)
    together = range_walk_quantiles(bars, as_of, steps)
    for row, end in enumerate(as_of):
        seen = bars[bars.index <= end].tail(LOOKBACK)
        [alone] = range_walk_quantiles(seen, as_of[[row]], steps[[row]])
        assert np.array_equal(together[row], alone)


@pytest.mark.parametrize("bars", [1, MIN_RETURNS, 100, 101, LOOKBACK])
def test_the_range_volatility_is_the_mean_of_four_pandas_ewm_means(bars: int) -> None:
    variance = np.random.default_rng(bars).random((3, bars)) ** 4
    frame = pd.DataFrame(variance.T)
    means = [frame.ewm(com=centre).mean().to_numpy().T for centre in (1, 5, 25, 125)]
    expected = np.sqrt(np.mean(means, axis=0))
    assert _range_volatility(variance) == pytest.approx(expected, rel=1e-12)


def test_bars_without_a_range_use_their_returns() -> None:
    past = candles(np.random.default_rng(2).standard_normal(200) * 0.02)
    flat = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), past))
    [found] = range_walk_quantiles(flat, origins(past, 200), np.array([1]))
    # half of the middle 70 % of a normal distribution with 2 %
    assert 0.02 < (found[16] - found[2]) / 2 < 0.03
