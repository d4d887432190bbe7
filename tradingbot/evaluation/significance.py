"""Significance tests and bootstrap intervals for forecasts that are not independent.

Forecasts of the same session are correlated, and so are forecasts whose periods overlap. The
functions of this module allow for these correlations. The project's tests compare the functions
with scipy.
"""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.typing import Flags, Floats

MIN_SESSIONS_TO_TEST = 30  # with fewer sessions there is no test of a difference
MIN_SESSIONS_TO_RESAMPLE = 20  # with fewer sessions there is no bootstrap interval
DRAWS = 1000
_Z = NormalDist().inv_cdf(0.975)


def diebold_mariano(worse: Floats, overlap: int) -> tuple[float | None, float | None]:
    """Return the Diebold-Mariano statistic and its two-sided p-value.

    Return (None, None) for too few data. Without overlap this is the t-test. With overlap the
    variance of the mean is estimated from the B cosine terms of the lowest frequencies (EWC,
    equal-weighted cosine), and Student's t has B degrees of freedom. B is the smaller of
    0.4 n^(2/3) and n ÷ (3 overlap). Of the procedures compared in docs/concepts/scores.md, this
    test has the size closest to 5 %.

    Args:
        worse: (sessions,) in order of time: the loss of one forecast minus the loss of the other,
            averaged over the forecasts of that session.
        overlap: Number of consecutive sessions, the session itself included, with correlated
            errors: h for forecasts made every session h steps ahead, 1 for separate windows.

    Sources: Diebold and Mariano (1995); for EWC and the choice of B Lazarus, Lewis, Stock and
    Watson (2018).
    """
    [statistic], [p_value] = (
        found.tolist() for found in diebold_mariano_each(worse[None], overlap)
    )
    return (None, None) if math.isnan(statistic) else (statistic, p_value)


def diebold_mariano_each(worse: Floats, overlap: int) -> tuple[Floats, Floats]:
    """Return `diebold_mariano` of each row of `worse` (series, sessions). NaN for too few data."""
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


@lru_cache(maxsize=32)  # most tickers have the same sessions, and so the same n
def _slowest_cosines(n: int, count: int) -> Floats:
    """Return the `count` lowest-frequency cosine terms, without the constant. Shape (count, n).

    The terms are those of a type-II discrete cosine transform.
    """
    angles = math.pi * np.outer(np.arange(1, count + 1), (np.arange(n) + 0.5) / n)
    cosines: Floats = np.cos(angles)
    return cosines


def nearly_constant(values: Floats, scale: Floats | float = 0.0) -> Flags:
    """Return whether the values of a series differ only by rounding.

    The difference is compared with the largest absolute value, or with `scale` if that is larger.

    Args:
        values: (series, n).
        scale: One number per series, or one number for all series.
    """
    greatest = np.maximum(scale, np.abs(values).max(axis=1))
    constant: Flags = np.ptp(values, axis=1) <= 1e-9 * greatest
    return constant


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Return p-values adjusted for multiple tests.

    Of the results with an adjusted p-value below 0.05, at most 5 % are expected to be false.

    Source: Benjamini and Hochberg (1995). The method also holds for positively dependent tests, as
    for tickers that move together: Benjamini and Yekutieli (2001).
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

    Moves of the same session and of sessions less than `overlap` apart are correlated. The result
    is therefore Wilson's interval for an effective sample size, which is at most
    sum(moves) ÷ overlap.

    Args:
        hits: (sessions,) in order of time: the number of hits of each session.
        moves: (sessions,) the number of moves of each session.
        overlap: Number of steps ahead of the forecasts.

    Sources: Newey and West (1987) for the variance; Kish (1965) for the effective sample size.
    """
    [low], [high] = (found.tolist() for found in share_intervals(hits[None], moves[None], overlap))
    return low, high


def share_intervals(hits: Floats, moves: Floats, overlap: int) -> tuple[Floats, Floats]:
    """Return the lower and upper ends of `share_interval` of each row of (series, sessions)."""
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
    """Return Wilson's 95 % interval (1927) of a share of `n` independent cases."""
    [low], [high] = (
        found.tolist() for found in _wilson_intervals(np.array([share]), np.array([n]))
    )
    return low, high


def _wilson_intervals(share: Floats, n: Floats) -> tuple[Floats, Floats]:
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)


def student_p_value(statistic: float, degrees: int) -> float:
    """Return P(|T| > |statistic|) of Student's t, computed with the trapezoidal rule."""
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
    """Return the sums of `values` over all forecasts, and over DRAWS bootstrap samples of sessions.

    Args:
        sessions: (n,) the session of each forecast.
        values: (n, k).
        block: Minimum number of consecutive sessions drawn together, such as the horizon.

    Returns:
        Shapes (k,) and (DRAWS, k). With fewer than MIN_SESSIONS_TO_RESAMPLE sessions there are no
        samples, and the second shape is (0, k). The same input gives the same samples.

    Source: the circular block bootstrap, Politis and Romano (1992).
    """
    distinct, number = np.unique(sessions, return_inverse=True)
    count = len(distinct)
    by_session = np.zeros((count, values.shape[1]))
    np.add.at(by_session, number, values)
    draws = DRAWS if count >= MIN_SESSIONS_TO_RESAMPLE else 0
    return by_session.sum(axis=0), _times_drawn(count, block, draws) @ by_session


def interval(drawn: Floats) -> tuple[Floats, Floats] | None:
    """Return the ends of the middle 95 % of each column of `drawn`. None without samples.

    `drawn` has one row per bootstrap sample, (DRAWS, k).
    """
    if not len(drawn):
        return None
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return low, high


def _newey_west(deviation: Floats, overlap: int) -> Floats:
    """Return the Newey-West variance of the mean of overlapping errors, times their number n."""
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
    """Return how often each session is in each sample. Shape (draws, count)."""
    block = min(count, max(block, math.ceil(count ** (1 / 3))))
    blocks = math.ceil(count / block)
    starts = np.random.default_rng(0).integers(count, size=(draws, blocks, 1))
    drawn = ((starts + np.arange(block)) % count).reshape(draws, blocks * block)[:, :count]
    cells = drawn + count * np.arange(draws)[:, None]
    times = np.bincount(cells.ravel(), minlength=draws * count)
    return times.reshape(draws, count).astype("float64")
