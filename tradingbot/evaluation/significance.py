"""Significance tests and bootstrap intervals for forecasts that are not independent.

Forecasts of the same session, and forecasts whose steps overlap, are correlated. These functions
allow for that. The project's tests compare them with scipy.
"""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.typing import Flags, Floats

MIN_SESSIONS_TO_TEST = 30  # with fewer, no test of a difference
MIN_SESSIONS_TO_RESAMPLE = 20  # with fewer, no bootstrap interval
DRAWS = 1000
_Z = NormalDist().inv_cdf(0.975)


def diebold_mariano(worse: Floats, overlap: int) -> tuple[float | None, float | None]:
    """Return the Diebold-Mariano statistic and its two-sided p-value; (None, None): too few data.

    Without overlap this is the t-test. With overlap the variance of the mean is estimated from B
    cosines of the lowest frequencies, and Student's t has B degrees of freedom. B is the smaller of
    0.4 n^(2/3) and n ÷ (3 overlap). Of the procedures compared in docs/concepts/scores.md, the
    size of this test is closest to 5 %.

    Args:
        worse: (sessions,) in order of time: the loss of one forecast less that of the other, as
            the mean over the forecasts of that session.
        overlap: Number of consecutive sessions, the session itself included, with correlated
            errors: h for forecasts made every session h steps ahead, 1 for separate windows.

    Source: Diebold and Mariano (1995); Lazarus, Lewis, Stock and Watson (2018) for the equally
    weighted cosines (EWC) and their number.
    """
    [statistic], [p_value] = (
        found.tolist() for found in diebold_mariano_each(worse[None], overlap)
    )
    return (None, None) if math.isnan(statistic) else (statistic, p_value)


def diebold_mariano_each(worse: Floats, overlap: int) -> tuple[Floats, Floats]:
    """Return `diebold_mariano` of each row of (series, sessions); NaN: too few data."""
    series, n = worse.shape
    statistics, p_values = np.full(series, np.nan), np.full(series, np.nan)
    if n < max(MIN_SESSIONS_TO_TEST, 3 * overlap):
        return statistics, p_values
    if overlap == 1:
        degrees, variance = n - 1, worse.var(axis=1, ddof=1)
    else:
        degrees = max(1, min(int(0.4 * n ** (2 / 3)), n // (3 * overlap)))
        variance = np.mean((worse @ _slowest_cosines(n, degrees).T) ** 2, axis=1) * 2 / n
    usable = ~nearly_constant(worse) & (variance > 0)
    statistics[usable] = worse[usable].mean(axis=1) / np.sqrt(variance[usable] / n)
    p_values[usable] = _student_p_values(statistics[usable], degrees)
    return statistics, p_values


@lru_cache(maxsize=32)  # tickers share their sessions, and so the lengths
def _slowest_cosines(n: int, count: int) -> Floats:
    """Return the `count` lowest non-constant waves of a type-II cosine transform, (count, n)."""
    angles = math.pi * np.outer(np.arange(1, count + 1), (np.arange(n) + 0.5) / n)
    cosines: Floats = np.cos(angles)
    return cosines


def nearly_constant(values: Floats, scale: Floats | float = 0.0) -> Flags:
    """Return whether the values of a series differ only by rounding.

    The difference is compared with the largest absolute value, or with `scale` if that is larger.

    Args:
        values: (series, n).
        scale: (series,), or one number for all.
    """
    greatest = np.maximum(scale, np.abs(values).max(axis=1))
    constant: Flags = np.ptp(values, axis=1) <= 1e-9 * greatest
    return constant


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Return p-values adjusted for multiple tests.

    Of the results with an adjusted p-value below 0.05, at most 5 % are expected to be false.

    Source: Benjamini and Hochberg (1995); it also holds for the positive dependence of tickers
    that move together, Benjamini and Yekutieli (2001).
    """
    order = np.argsort(p_values)[::-1]
    ranks = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum.accumulate(np.minimum(1.0, p_values[order] * len(ranks) / ranks))
    return adjusted


def share_interval(
    hits: NDArray[np.float64], moves: NDArray[np.float64], overlap: int
) -> tuple[float, float]:
    """Return the 95 % interval of sum(hits) / sum(moves).

    It is Wilson's interval for the effective sample size, because moves of the same session and of
    sessions less than `overlap` apart are correlated. The effective sample size is at most
    sum(moves) ÷ overlap.

    Args:
        hits: (sessions,) in order of time.
        moves: (sessions,).
        overlap: Number of steps ahead of the forecasts.

    Source: Newey and West (1987) for the variance; the effective sample size is Kish's (1965).
    """
    [low], [high] = (found.tolist() for found in share_intervals(hits[None], moves[None], overlap))
    return low, high


def share_intervals(hits: Floats, moves: Floats, overlap: int) -> tuple[Floats, Floats]:
    """Return `share_interval` of each row of (series, sessions): lower and upper ends."""
    total = moves.sum(axis=1)
    share = hits.sum(axis=1) / total
    deviation = hits - share[:, None] * moves
    sessions = moves.shape[1]
    variance = _newey_west(deviation, overlap) * sessions**2 / (sessions - 1) / total**2
    varies = (variance > 0) & (share > 0) & (share < 1)
    spread = share * (1 - share) / np.where(varies, variance, 1)
    independent = np.where(varies, np.minimum(total / overlap, spread), total / overlap)
    return _wilson_intervals(share, np.maximum(1.0, independent))


def wilson_interval(share: float, n: float) -> tuple[float, float]:
    """Return the 95 % interval of a share in `n` independent cases; Wilson (1927)."""
    [low], [high] = (
        found.tolist() for found in _wilson_intervals(np.array([share]), np.array([n]))
    )
    return low, high


def _wilson_intervals(share: Floats, n: Floats) -> tuple[Floats, Floats]:
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)


def student_p_value(statistic: float, degrees: int) -> float:
    """Return P(|T| > |statistic|) of Student's t, by the trapezoidal rule."""
    return float(_student_p_values(np.array([statistic]), degrees)[0])


def _student_p_values(statistics: Floats, degrees: int) -> Floats:
    if degrees > 1000:
        return np.array(
            [2 * NormalDist().cdf(-abs(statistic)) for statistic in statistics.tolist()]
        )
    # t = sqrt(degrees) tan(angle) has a density of cos(angle) ^ (degrees - 1)
    angle = np.arctan(np.abs(statistics) / math.sqrt(degrees))
    tail = np.cos(np.linspace(angle, math.pi / 2, 1001)) ** (degrees - 1)
    norm = math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2)) * math.sqrt(math.pi)
    areas = np.trapezoid(tail, axis=0) * (math.pi / 2 - angle) / 1000
    p_values: Floats = np.minimum(1.0, areas * 2 / norm)
    return p_values


def resampled(sessions: NDArray[Any], values: Floats, *, block: int) -> tuple[Floats, Floats]:
    """Return sums over all forecasts, and over DRAWS bootstrap samples of the sessions.

    Args:
        sessions: (n,), the session of each forecast.
        values: (n, k).
        block: Minimum number of consecutive sessions drawn together, such as the horizon.

    Returns:
        (k,) and (DRAWS, k), the latter (0, k) for fewer than MIN_SESSIONS_TO_RESAMPLE sessions.
        The same input gives the same samples.

    Source: the circular block bootstrap, Politis and Romano (1992).
    """
    distinct, number = np.unique(sessions, return_inverse=True)
    count = len(distinct)
    by_session = np.zeros((count, values.shape[1]))
    np.add.at(by_session, number, values)
    draws = DRAWS if count >= MIN_SESSIONS_TO_RESAMPLE else 0
    return by_session.sum(axis=0), _times_drawn(count, block, draws) @ by_session


def interval(drawn: Floats) -> tuple[Floats, Floats] | None:
    """Return the middle 95 % of figures of each sample, (DRAWS, k); None without samples."""
    if not len(drawn):
        return None
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return low, high


def _newey_west(deviation: Floats, overlap: int) -> Floats:
    """Return the Newey-West variance of the mean of overlapping errors, times their number."""
    weighted: Floats = sum(
        ((1 - lag / overlap) * _autocovariance(deviation, lag) for lag in range(1, overlap)),
        start=np.zeros(len(deviation)),
    )
    return _autocovariance(deviation, 0) + 2 * weighted


def _autocovariance(deviation: Floats, lag: int) -> Floats:
    n = deviation.shape[1]
    found: Floats = np.einsum("bi,bi->b", deviation[:, lag:], deviation[:, : n - lag]) / n
    return found


def _times_drawn(count: int, block: int, draws: int) -> Floats:
    """Return (draws, count): how often each session is in each sample."""
    block = min(count, max(block, math.ceil(count ** (1 / 3))))
    blocks = math.ceil(count / block)
    starts = np.random.default_rng(0).integers(count, size=(draws, blocks, 1))
    drawn = ((starts + np.arange(block)) % count).reshape(draws, blocks * block)[:, :count]
    cells = drawn + count * np.arange(draws)[:, None]
    times = np.bincount(cells.ravel(), minlength=draws * count)
    return times.reshape(draws, count).astype("float64")
