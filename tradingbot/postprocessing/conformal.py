"""How wide a band must be to hold what it promises: conformal prediction, online, on arrays.

A *score* says how far from the median an outcome fell, in half-widths of the band on that side
and in logarithms; up to 1 the band held it. Each band is widened by one factor, which every
session moves a little: up by more than was allowed to fall outside, down by less. The half-widths
are the model's, smoothed: a few sample paths tell well how far they spread to either side, and
badly where each single quantile lies.

The method, its assumptions and figures: docs/concepts/calibration.md.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tradingbot.typing import Floats, Times

BANDS = (10, 20, 30, 40, 50, 60, 70, 80, 90)  # per cent; each lies around the median
RATE = 0.05  # how far one session moves log(factor) for each unit of missed coverage
MIN_FORECASTS = 100  # with outcomes, and
MIN_SESSIONS = 30  # on so many sessions, before a band is touched
LIMIT = 20.0  # no factor is above it, nor below its inverse

_MEDIAN = 9  # of the 19 quantiles
_LOWER = [_MEDIAN - band // 10 for band in BANDS]
_UPPER = [_MEDIAN + band // 10 for band in BANDS]
_SHARES = np.array(BANDS) / 100
_NORMAL = np.array([NormalDist().inv_cdf(0.5 + share / 2) for share in _SHARES])
_SHAPE = _NORMAL / _NORMAL.mean()  # half-widths of a normal distribution's bands ÷ their mean


def scores(quantiles: Floats, actual: Floats) -> Floats:
    """(n, 9), a column a band, from quantiles (n, 19) and outcomes (n,), both positive."""
    median, lower, upper = _half_widths(quantiles)
    off = np.log(actual)[:, None] - median
    half_width = np.where(off < 0, lower, upper)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(off == 0, 0.0, np.abs(off) / half_width)  # infinite: it has no width


def widened(quantiles: Floats, factors: Floats) -> Floats:
    """Quantiles (n, 19) with each band's smoothed half-widths times its factor, (9,) or (n, 9).

    The median stays. Sorted at the end, so that the bands lie in one another.
    """
    median, lower, upper = _half_widths(quantiles)
    wide = np.repeat(median, quantiles.shape[1], axis=1)
    wide[:, _LOWER] -= factors * lower
    wide[:, _UPPER] += factors * upper
    return np.exp(np.sort(wide, axis=1))


def _half_widths(quantiles: Floats) -> tuple[Floats, Floats, Floats]:
    """In logarithms: the median (n, 1), and the bands' half-widths below and above it, (n, 9).

    Each side has the mean of its nine half-widths, spread over the bands as a normal distribution's
    are; that those have another shape is what their factors learn.
    """
    logs = np.log(quantiles)
    median = logs[:, [_MEDIAN]]
    lower = (median - logs[:, _LOWER]).mean(axis=1, keepdims=True)
    upper = (logs[:, _UPPER] - median).mean(axis=1, keepdims=True)
    return median, lower * _SHAPE, upper * _SHAPE


@dataclass(frozen=True)
class Track:
    """The factors of one pool of forecasts, session by session.

    `factors[i]` are those known once `sessions[i]` is over; they begin when the record suffices.
    """

    sessions: Times  # (sessions,) ascending
    factors: Floats  # (sessions, 9)
    n: int  # outcomes in all, those of before the start included

    def before(self, as_of: Times) -> Floats:
        """(n, 9): what could be known at the moments `as_of`; NaN where nothing was.

        Only sessions of earlier dates count, since another exchange may close later the same day.
        """
        known = np.searchsorted(self.sessions, as_of.astype(self.sessions.dtype), side="left")
        padded = np.vstack([np.full(len(BANDS), np.nan), self.factors])
        return padded[known]


def track(targets: Times, pool: Floats) -> Track | None:
    """Follow the scores `pool` (n, 9) in the order of their sessions `targets` (n,).

    None where there are fewer than MIN_FORECASTS, or fewer than MIN_SESSIONS sessions.
    """
    order = np.argsort(targets, kind="stable")
    sessions, first = np.unique(targets[order], return_index=True)
    ends = np.append(first[1:], len(order))
    enough = (ends >= MIN_FORECASTS) & (np.arange(1, len(ends) + 1) >= MIN_SESSIONS)
    if not enough.any():
        return None
    start = int(np.argmax(enough))
    ordered = pool[order]
    logs = np.log(_first_factors(ordered[: ends[start]]))
    history = [logs]
    for begin, end in zip(ends[start:-1], ends[start + 1 :], strict=True):
        logs = moved(logs, ordered[begin:end])
        history.append(logs)
    return Track(sessions[start:], np.exp(history), len(order))


def moved(logs: Floats, reach: Floats) -> Floats:
    """(9,): the logs of the factors after a session whose forecasts had the scores `reach` (n, 9).

    A factor grows where more of them lie outside its band than it allows, else it shrinks.
    """
    missed = (reach > np.exp(logs)).mean(axis=0)
    after: Floats = (logs + RATE * (missed - (1 - _SHARES))).clip(-np.log(LIMIT), np.log(LIMIT))
    return after


def _first_factors(pool: Floats) -> Floats:
    """(9,): of each band the score that its share of the outcomes did not exceed.

    Of n scores the ceil(share * (n + 1))-th: so the next one, if it is like them, is held with at
    least that chance, as few as they are.
    """
    ranks = np.ceil(_SHARES * (len(pool) + 1)).astype(int).clip(max=len(pool)) - 1
    best = np.sort(pool, axis=0)[ranks, np.arange(len(BANDS))]
    factors: Floats = best.clip(1 / LIMIT, LIMIT)
    return factors
