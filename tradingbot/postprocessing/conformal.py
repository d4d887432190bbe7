"""Online conformal calibration: widen bands so that they contain their nominal share of outcomes.

A *score* is the distance of an outcome from the median, divided by the half-width of the band on
that side. The band contained the outcome if the score is at most 1. Each band's half-widths are
multiplied by one factor. After every session the factor grows a little if the share of outcomes
outside the band was above the nominal share, and shrinks otherwise. The half-widths are the
model's, but smoothed, because a few sample paths estimate the spread on either side well and single
quantiles poorly.

docs/concepts/calibration.md has the method, its assumptions and figures.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tradingbot.typing import Floats, Times

BANDS = (10, 20, 30, 40, 50, 60, 70, 80, 90)  # per cent; each is centred on the median
RATE = 0.05  # change of log(factor) per session and unit of missed coverage
MIN_FORECASTS = 100  # minimum number of outcomes before a band is changed
MIN_SESSIONS = 30  # minimum number of sessions with outcomes before a band is changed
LIMIT = 20.0  # a factor is between 1 / LIMIT and LIMIT

_MEDIAN = 9  # index in the 19 quantiles
_LOWER = [_MEDIAN - band // 10 for band in BANDS]
_UPPER = [_MEDIAN + band // 10 for band in BANDS]
_SHARES = np.array(BANDS) / 100
_NORMAL = np.array([NormalDist().inv_cdf(0.5 + share / 2) for share in _SHARES])
_SHAPE = _NORMAL / _NORMAL.mean()  # half-widths of a normal distribution's bands ÷ their mean


def scores(quantiles: Floats, actual: Floats) -> Floats:
    """Return the scores of outcomes, computed from logs of prices. Shape (n, 9), a column per band.

    Args:
        quantiles: (n, 19), positive.
        actual: (n,) outcomes, positive.
    """
    median, lower, upper = _half_widths(quantiles)
    off = np.log(actual)[:, None] - median
    half_width = np.where(off < 0, lower, upper)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(off == 0, 0.0, np.abs(off) / half_width)  # infinite for a band of width 0


def widened(quantiles: Floats, factors: Floats) -> Floats:
    """Return quantiles (n, 19) with smoothed half-widths, multiplied by a factor per band.

    `factors` has the shape (9,) or (n, 9). The median does not change. The quantiles are sorted at
    the end, so that bands are nested.
    """
    median, lower, upper = _half_widths(quantiles)
    wide = np.repeat(median, quantiles.shape[1], axis=1)
    wide[:, _LOWER] -= factors * lower
    wide[:, _UPPER] += factors * upper
    return np.exp(np.sort(wide, axis=1))


def _half_widths(quantiles: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the log of the median, (n, 1), and the half-widths below and above it, (n, 9) each.

    The half-widths are distances between logs. Each side uses the mean of its nine half-widths,
    distributed over the bands as in a normal distribution. The bands' factors learn the difference
    from a normal distribution.
    """
    logs = np.log(quantiles)
    median = logs[:, [_MEDIAN]]
    lower = (median - logs[:, _LOWER]).mean(axis=1, keepdims=True)
    upper = (logs[:, _UPPER] - median).mean(axis=1, keepdims=True)
    return median, lower * _SHAPE, upper * _SHAPE


@dataclass(frozen=True)
class Track:
    """Factors of one pool of forecasts, session by session.

    `factors[i]` are the factors after `sessions[i]`. The first session is that with which
    MIN_FORECASTS and MIN_SESSIONS are reached.
    """

    sessions: Times  # (sessions,) ascending
    factors: Floats  # (sessions, 9)
    n: int  # number of outcomes, including those before the first factors

    def before(self, as_of: Times) -> Floats:
        """Return the factors known at the moments `as_of`, (n, 9). NaN before the first factors.

        Only sessions of earlier dates count, because another exchange may close later on the same
        day.
        """
        known = np.searchsorted(self.sessions, as_of.astype(self.sessions.dtype), side="left")
        padded = np.vstack([np.full(len(BANDS), np.nan), self.factors])
        return padded[known]


def track(targets: Times, pool: Floats) -> Track | None:
    """Return the factors of a pool after each session.

    Return None with fewer than MIN_FORECASTS outcomes or MIN_SESSIONS sessions.

    Args:
        targets: (n,) the target session of each outcome.
        pool: (n, 9) the scores of the outcomes.
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
    """Return the logs of the nine bands' factors after one more session.

    A factor grows if more than the nominal share of scores are outside its band, and shrinks
    otherwise.

    Args:
        logs: (9,) the logs of the factors before the session.
        reach: (n, 9) the scores of the session's outcomes.
    """
    missed = (reach > np.exp(logs)).mean(axis=0)
    after: Floats = (logs + RATE * (missed - (1 - _SHARES))).clip(-np.log(LIMIT), np.log(LIMIT))
    return after


def _first_factors(pool: Floats) -> Floats:
    """Return for each band the score that its nominal share of outcomes did not exceed.

    Of n sorted scores it is number ceil(share * (n + 1)). If the next score is exchangeable with
    these n scores, it is then inside the band with at least the nominal probability, even for
    small n.
    """
    ranks = np.ceil(_SHARES * (len(pool) + 1)).astype(int).clip(max=len(pool)) - 1
    best = np.sort(pool, axis=0)[ranks, np.arange(len(BANDS))]
    factors: Floats = best.clip(1 / LIMIT, LIMIT)
    return factors
