"""Baseline forecasts: random walks with constant or current volatility.

Each function returns quantiles of close(target) ÷ close(as_of) and uses no bar after `as_of`.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.evaluation.close_outcomes import LEVELS
from tradingbot.typing import Floats

WINDOW = 250  # number of newest one-bar returns in the sample
MIN_RETURNS = 32  # with fewer returns there is no baseline
DECAY = 0.94  # decay per bar of the weights of squared returns; RiskMetrics' value for daily bars
LOOKBACK = 500  # bars up to as_of that the range walk uses; the job also fetches 500 per ticker
RANGE_WINDOW = LOOKBACK - 1  # returns between LOOKBACK bars: the sample of the range walk
_FIRST = 20  # the mean square of this many first returns is the variance before the first return
_LARGEST = 20.0  # limit of a return ÷ volatility: after a halt the volatility is close to 0
_CENTRES = (1, 5, 25, 125)  # centres of mass of the range walk's weighted means, in bars
_CHUNK = 100  # bars per matrix product
_MOST = 200  # origins per batch: arrays of 0.4 MB fit into the processor's cache


def random_walk_quantiles(
    past: pd.Series, as_of: NDArray[np.datetime64], step: NDArray[np.int64]
) -> Floats:
    """Return quantiles of close(target) ÷ close(as_of) at LEVELS for a random walk.

    The sample is the newest WINDOW log returns up to `as_of`, or all returns if there are fewer. A
    constant table combines the returns into WINDOW paths, so the same past always gives the same
    quantiles. Each step of the table uses each return once. One step ahead, the quantiles are
    therefore those of the returns.

    Returns:
        Shape (n, 19). NaN where there are fewer than MIN_RETURNS returns.
    """
    times, returns = _returns(past)

    def windows(ends: NDArray[np.int64], length: int) -> Floats:
        newest: Floats = returns[ends[:, None] + np.arange(-length, 0)]
        return newest

    return np.exp(_log_quantiles(times, windows, as_of, step))


def ewma_walk_quantiles(
    past: pd.Series, as_of: NDArray[np.datetime64], step: NDArray[np.int64]
) -> Floats:
    """Return quantiles as `random_walk_quantiles` does, for current volatility and no drift.

    Each return is divided by the volatility before that return. The squared volatility is an
    exponentially weighted moving average (EWMA) of squared returns. The mean of the newest WINDOW
    ratios is subtracted from each ratio. The table of `random_walk_quantiles` combines the ratios
    into paths, which are multiplied by the volatility at `as_of`.

    Source: filtered historical simulation, Barone-Adesi, Giannopoulos and Vosper (1999), with the
    volatility of RiskMetrics (1996).
    """
    times, returns = _returns(past)
    volatility = _volatility_before(returns)
    filtered = _filtered(returns, volatility[:-1])

    def windows(ends: NDArray[np.int64], length: int) -> Floats:
        return _without_mean(filtered[ends[:, None] + np.arange(-length, 0)])

    quantiles = _log_quantiles(times, windows, as_of, step)
    now = volatility[np.searchsorted(times, as_of, side="right") - 1]
    return np.exp(quantiles * now[:, None])


def _without_mean(windows: Floats) -> Floats:
    centred: Floats = windows - windows.mean(axis=1, keepdims=True)
    return centred


def range_walk_quantiles(
    candles: pd.DataFrame, as_of: NDArray[np.datetime64], step: NDArray[np.int64]
) -> Floats:
    """Return quantiles as `ewma_walk_quantiles` does, with a volatility from the bars' ranges.

    `candles` have the columns open, high, low, close. The variance of a bar comes from its range,
    or from its return if high and low are equal. The variance after a bar is the average of four
    exponentially weighted means of these variances, with centres of mass of 1, 5, 25 and 125 bars.
    The sample is the newest RANGE_WINDOW returns. Only the newest LOOKBACK bars are used, so that a
    forecast can be recomputed later.

    Sources: variance of a bar: Garman and Klass (1980); the four means: Bollerslev, Hood, Huss and
    Pedersen (2018), "Risk everywhere".
    """
    times, returns = _returns(candles["close"])
    inside = _range_variance(candles)

    def windows(ends: NDArray[np.int64], length: int) -> Floats:
        before = ends[:, None] + np.arange(-length, 0)
        moves = returns[before]
        squares = np.column_stack([np.zeros(len(ends)), moves**2])
        variance = inside[np.column_stack([before, ends])]
        volatility = _range_volatility(np.where(np.isnan(variance), squares, variance))
        filtered = _filtered(moves, volatility[:, :-1])
        return _without_mean(filtered) * volatility[:, -1:]

    return np.exp(_log_quantiles(times, windows, as_of, step, window=RANGE_WINDOW))


def _filtered(returns: Floats, volatility: Floats) -> Floats:
    """Return each return ÷ the volatility before that return; 0 where the volatility is 0."""
    zero = np.zeros_like(returns)
    ratio = np.divide(returns, volatility, out=zero, where=volatility > 0)
    return ratio.clip(-_LARGEST, _LARGEST)


def _range_variance(candles: pd.DataFrame) -> Floats:
    """Return the Garman-Klass variance of each bar. NaN where high and low are equal."""
    logs = np.log(candles[["open", "high", "low", "close"]].to_numpy("float64"))
    opens, highs, lows, closes = logs.T
    inside = 0.5 * (highs - lows) ** 2 - (2 * np.log(2) - 1) * (closes - opens) ** 2
    variance: Floats = np.where(highs > lows, inside.clip(min=0), np.nan)
    return variance


def _range_volatility(variance: Floats) -> Floats:
    """Return the volatility after each bar, (origins, bars), from variances of the same shape."""
    means = np.empty_like(variance)
    for start in range(0, variance.shape[1], _CHUNK):  # later bars have zero weight
        stop = min(start + _CHUNK, variance.shape[1])
        # einsum, because BLAS rounds one origin differently in a batch than alone
        weights = _weights()[start:stop, :stop]
        np.einsum("ob,tb->ot", variance[:, :stop], weights, out=means[:, start:stop])
    return np.sqrt(means)


@cache
def _weights() -> Floats:
    """Return the weights of the bars in the variances. Shape (LOOKBACK, LOOKBACK).

    Row t has the weight of each bar in the variance after bar t, averaged over the four centres of
    mass. A matrix replaces pandas' `ewm`, which computes one column at a time and took most of the
    time of learning a combination.
    """
    age = np.subtract.outer(np.arange(LOOKBACK), np.arange(LOOKBACK))
    decays = np.array([centre / (1 + centre) for centre in _CENTRES])[:, None, None]
    weights = np.where(age >= 0, decays ** age.clip(min=0), 0.0)
    mean: Floats = (weights / weights.sum(axis=2, keepdims=True)).mean(axis=0)
    return mean


def _returns(past: pd.Series) -> tuple[NDArray[np.datetime64], Floats]:
    """Return the bars' times and the log returns between the bars. Shapes (bars,), (bars - 1,)."""
    times = past.index.to_numpy().astype("datetime64[s]")
    return times, np.diff(np.log(past.to_numpy(dtype="float64")))


def _volatility_before(returns: Floats) -> Floats:
    """Return the volatility before each return and after the last return. Shape (bars,)."""
    squares = returns**2
    first = squares[:_FIRST].mean() if len(squares) else 0.0
    variance = pd.Series(np.append(first, squares)).ewm(alpha=1 - DECAY, adjust=False).mean()
    volatility: Floats = np.sqrt(variance.to_numpy("float64"))
    return volatility


def _log_quantiles(
    times: NDArray[np.datetime64],
    windows_of: Callable[[NDArray[np.int64], int], Floats],
    as_of: NDArray[np.datetime64],
    step: NDArray[np.int64],
    *,
    window: int = WINDOW,
) -> Floats:
    """Return quantiles of sums of `step` of the newest returns up to `as_of`. Shape (n, 19).

    `windows_of(ends, length)` returns the newest `length` returns up to each of the bars `ends`.
    """
    origins, which = np.unique(as_of, return_inverse=True)
    ends = np.searchsorted(times, origins, side="right") - 1  # returns up to each origin
    lengths = np.minimum(ends, window)  # ascending, because the origins are ascending
    quantiles = np.full((len(as_of), len(LEVELS)), np.nan)
    for length in np.unique(lengths[lengths >= MIN_RETURNS]):
        first, last = np.searchsorted(lengths, [length, length + 1])
        for start in range(first, last, _MOST):
            stop = min(start + _MOST, last)
            windows = windows_of(ends[start:stop], int(length))
            rows = np.flatnonzero((which >= start) & (which < stop))
            quantiles[rows] = _walk(windows, which[rows] - start, step[rows], window)
    return quantiles


def _walk(
    windows: Floats, origin: NDArray[np.int64], step: NDArray[np.int64], paths_each: int
) -> Floats:
    """Return quantiles of walks whose returns come from `windows`. Shape (n, 19).

    Row i uses windows[origin[i]] and looks step[i] bars ahead. `windows` has the shape
    (origins, length).
    """
    quantiles = np.empty((len(step), len(LEVELS)))
    paths = np.zeros((len(windows), paths_each))
    for ahead in range(1, int(step.max()) + 1):
        paths += windows.take(_order(ahead, paths_each) * windows.shape[1] // paths_each, axis=1)
        rows = np.flatnonzero(step == ahead)
        quantiles[rows] = walk_quantiles(paths.take(origin[rows], axis=0))
    return quantiles


@cache
def _order(ahead: int, paths: int) -> NDArray[np.int64]:
    """Return the table's column for this step: the index of the return that each path takes."""
    table = np.random.default_rng(0)
    for _ in range(ahead - 1):
        table.permutation(paths)
    return table.permutation(paths)


def walk_quantiles(values: Floats) -> Floats:
    """Return quantiles (n, 19) of `values` (n, paths). Sort `values` in place.

    The quantiles are median-unbiased, as the Space's are. Computing them takes a fifth of the time
    of `np.quantile`.
    """
    values.sort(axis=1)
    position = np.array(LEVELS) * (values.shape[1] + 1 / 3) - 2 / 3
    below = position.astype("int64")
    share = position - below
    lower, upper = values.take(below, axis=1), values.take(below + 1, axis=1)
    found: Floats = lower + (upper - lower) * share
    return found
