"""Significance tests and bootstrap intervals for forecasts that are not independent.

Forecasts of one session, and those whose steps overlap, are correlated: the tests here allow for
that. Their own tests compare them with scipy.
"""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.typing import Floats

MIN_SESSIONS_TO_TEST = 30  # fewer tell nothing about a difference
MIN_SESSIONS_TO_RESAMPLE = 20  # fewer tell nothing about how far a figure may be off
DRAWS = 1000
_Z = NormalDist().inv_cdf(0.975)


def diebold_mariano(worse: Floats, overlap: int) -> tuple[float | None, float | None]:
    """Return the Diebold-Mariano statistic and its two-sided p-value; (None, None): too little.

    Without overlap it is the t-test. With overlap the variance of the mean comes from the B slowest
    cosines, B the smaller of 0.4 n^(2/3) and n ÷ (3 overlap), and Student's t has B degrees of
    freedom. Of the procedures compared in docs/concepts/scores.md, it is nearest to its 5 %.

    Args:
        worse: (sessions,) in order of time, one forecast's loss less the other's, the mean over
            what was forecast of that session.
        overlap: Sessions in a row, the session itself among them, over which errors are
            correlated: h of forecasts made every session h steps ahead, 1 of windows apart.

    Source: Diebold and Mariano (1995); Lazarus, Lewis, Stock and Watson (2018) for the equally
    weighted cosines (EWC) and their number.
    """
    n = len(worse)
    if n < max(MIN_SESSIONS_TO_TEST, 3 * overlap) or nearly_constant(worse):
        return None, None
    if overlap == 1:
        degrees, variance = n - 1, float(worse.var(ddof=1))
    else:
        degrees = max(1, min(int(0.4 * n ** (2 / 3)), n // (3 * overlap)))
        variance = float(np.mean((_slowest_cosines(n, degrees) @ worse) ** 2) * 2 / n)
    if variance <= 0:
        return None, None
    statistic = float(worse.mean() / math.sqrt(variance / n))
    return statistic, student_p_value(statistic, degrees)


@lru_cache(maxsize=32)  # tickers share their sessions, and so the lengths
def _slowest_cosines(n: int, count: int) -> Floats:
    """(count, n): of a type-II cosine transform, without the constant one."""
    angles = math.pi * np.outer(np.arange(1, count + 1), (np.arange(n) + 0.5) / n)
    cosines: Floats = np.cos(angles)
    return cosines


def nearly_constant(values: Floats, scale: float = 0.0) -> bool:
    """Whether values differ by rounding only, seen beside the greatest of them or `scale`."""
    return float(np.ptp(values)) <= 1e-9 * max(scale, float(np.abs(values).max()))


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Return p-values adjusted for their number: below 0.05, at most 5 % are expected to be chance.

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

    It is Wilson's for as many independent moves as vary as much as these do: moves of one session,
    and of sessions less than `overlap` apart, are correlated. There are never more than moves ÷
    overlap of them.

    Args:
        hits: (sessions,) in order of time.
        moves: (sessions,) likewise.
        overlap: How many steps ahead the forecasts are.

    Source: Newey and West (1987) for the variance; the effective sample size is Kish's (1965).
    """
    total = float(moves.sum())
    share = float(hits.sum()) / total
    independent = total / overlap
    deviation = hits - share * moves
    sessions = len(moves)
    variance = _newey_west(deviation, overlap) * sessions**2 / (sessions - 1) / total**2
    if variance > 0 and 0 < share < 1:
        independent = min(independent, share * (1 - share) / variance)
    return wilson_interval(share, max(1.0, independent))


def wilson_interval(share: float, n: float) -> tuple[float, float]:
    """Return the 95 % interval of a share seen in `n` independent cases; Wilson (1927)."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def student_p_value(statistic: float, degrees: int) -> float:
    """Return P(|T| > |statistic|) of Student's t, by the trapezoidal rule."""
    if degrees > 1000:
        return 2 * NormalDist().cdf(-abs(statistic))
    # t = sqrt(degrees) tan(angle) has a density of cos(angle) ^ (degrees - 1)
    angle = math.atan(abs(statistic) / math.sqrt(degrees))
    tail = np.cos(np.linspace(angle, math.pi / 2, 1001)) ** (degrees - 1)
    norm = math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2)) * math.sqrt(math.pi)
    return min(1.0, float(np.trapezoid(tail)) * (math.pi / 2 - angle) / 1000 * 2 / norm)


def resampled(sessions: NDArray[Any], values: Floats, *, block: int) -> tuple[Floats, Floats]:
    """Return sums over all forecasts, as they are and in each of DRAWS draws of the sessions.

    Args:
        sessions: (n,), the session of each forecast.
        values: (n, k).
        block: Sessions at least that are drawn together, such as the horizon.

    Returns:
        (k,) and (DRAWS, k), the latter (0, k) for fewer than MIN_SESSIONS_TO_RESAMPLE sessions.
        The same input gives the same draws.

    Source: the circular block bootstrap, Politis and Romano (1992).
    """
    distinct, number = np.unique(sessions, return_inverse=True)
    count = len(distinct)
    by_session = np.zeros((count, values.shape[1]))
    np.add.at(by_session, number, values)
    draws = DRAWS if count >= MIN_SESSIONS_TO_RESAMPLE else 0
    return by_session.sum(axis=0), _times_drawn(count, block, draws) @ by_session


def interval(drawn: Floats) -> tuple[Floats, Floats] | None:
    """Return the middle 95 % of figures computed from each draw, (DRAWS, k); None without draws."""
    if not len(drawn):
        return None
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return low, high


def _newey_west(deviation: Floats, overlap: int) -> float:
    """The variance of a mean of overlapping errors, times their number, with falling weights."""
    weighted = sum(
        (1 - lag / overlap) * _autocovariance(deviation, lag) for lag in range(1, overlap)
    )
    return _autocovariance(deviation, 0) + 2 * weighted


def _autocovariance(deviation: Floats, lag: int) -> float:
    n = len(deviation)
    return float(deviation[lag:] @ deviation[: n - lag]) / n


def _times_drawn(count: int, block: int, draws: int) -> Floats:
    """(draws, count): how often each session is in each draw."""
    block = min(count, max(block, math.ceil(count ** (1 / 3))))
    blocks = math.ceil(count / block)
    starts = np.random.default_rng(0).integers(count, size=(draws, blocks, 1))
    drawn = ((starts + np.arange(block)) % count).reshape(draws, blocks * block)[:, :count]
    cells = drawn + count * np.arange(draws)[:, None]
    times = np.bincount(cells.ravel(), minlength=draws * count)
    return times.reshape(draws, count).astype("float64")
