"""Compute how many of today's shares one share of an earlier day has become.

A quantity is in shares as of the bar when it was last checked. Two sources tell what has happened
since: candles, when many bars were restated by one factor, and the source's list of splits. If both
are known they are compared. A single changed bar is a correction, not a split.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction

import numpy as np
import pandas as pd

KEPT = 20  # closes stored with a position
_SAME = 1e-4  # relative difference that counts as rounding
_ROUNDED = 1e-3  # relative difference of restated closes from one factor
_CENT = 0.006  # the same in USD, for prices rounded to cents
_RATIOS = sorted(
    {Fraction(n, d) for d in range(1, 51) for n in range(1, 51) if n != d},
    key=lambda ratio: ratio.numerator + ratio.denominator,
)


DateOf = Callable[[datetime], date]


class Unclear(Exception):
    """The current number of shares is unclear. The text says why."""


@dataclass(frozen=True)
class Basis:
    """The newest bar whose splits a number of shares includes, and the closes known at that bar."""

    as_of: datetime  # the bar of the last check; includes all splits until then
    interval: str
    closes: Mapping[datetime, float]  # up to that bar, as known then


def newest_closes(closes: "pd.Series[float]") -> dict[datetime, float]:
    """Return the closes to store for a ticker, the newest ones by time."""
    kept = closes.iloc[-KEPT:]
    times = pd.DatetimeIndex(kept.index).to_pydatetime()
    return dict(zip(times, kept.astype("float64").tolist(), strict=True))


@dataclass(frozen=True)
class Became:
    """The current number of shares for one share of a basis."""

    shares: float  # in today's shares: 10 after a 10:1 split
    as_of: datetime  # includes all splits until then


def new_shares(
    basis: Basis,
    now: "pd.Series[float]",
    listed: Mapping[datetime, float] | None,
    date_of: DateOf = datetime.date,
) -> Became:
    """Return what one share of `basis` is today.

    Args:
        now: The source's current closes, by time.
        listed: The source's splits, first day -> new shares per old share; None: it lists none.
        date_of: Returns the date of a bar's session.

    Raises:
        Unclear: Neither the candles nor the list of splits shows it.
    """
    newest = now.index[-1].to_pydatetime()
    shown = _shown(basis.closes, now)
    since, latest = date_of(basis.as_of), date_of(newest)
    after = {day: ratio for day, ratio in sorted((listed or {}).items()) if day.date() > since}
    in_effect = {day: ratio for day, ratio in after.items() if day.date() <= latest}
    as_of = max(basis.as_of, newest)
    if shown == 1:  # restated before, or not at all: the newest price is in new shares
        left_out = [
            ratio for day, ratio in in_effect.items() if leaves_out(now, day, ratio, date_of)
        ]
        return Became(math.prod(left_out), as_of)
    if shown is not None:
        # includes a split whose first day has no complete bar yet
        all_splits = math.prod(after.values())
        if len(after) > len(in_effect) and abs(shown / all_splits - 1) < _ROUNDED:
            return Became(all_splits, max(as_of, *after))
        known = math.prod(in_effect.values())
        return Became(known if abs(shown / known - 1) < _ROUNDED else shown, as_of)
    if listed is None:
        if not basis.closes:  # first check
            return Became(1.0, as_of)
        raise Unclear(
            f"its candles do not show whether there was a split since {basis.as_of:%Y-%m-%d}"
        )
    if len(after) > len(in_effect):
        raise Unclear(
            f"its split takes effect on {max(after):%Y-%m-%d}, and its candles do not show whether "
            "they already include it"
        )
    return Became(math.prod(in_effect.values()), as_of)


def _shown(then: Mapping[datetime, float], now: "pd.Series[float]") -> float | None:
    """Return the factor that divided the closes since; 1: unchanged; None: unclear."""
    common = [time for time in sorted(then) if time in now.index]
    if not common:
        return None
    before = np.array([then[time] for time in common])
    after = now[pd.DatetimeIndex(common)].to_numpy("float64")
    ratios = before / after
    if abs(ratios[-1] - 1) < _SAME:  # a split restates all bars, including the newest
        return 1.0
    factor = float(np.median(ratios))
    if abs(factor - 1) < _SAME:  # a correction of the newest bars
        return 1.0
    apart = np.abs(ratios / factor - 1)
    if len(common) < 2 or (apart > np.maximum(_ROUNDED, _CENT / after)).any():
        return None
    # with rounded prices the median differs a little from the ratio
    exact = max(float(apart.max()), 1e-9)
    near = (float(ratio) for ratio in _RATIOS if abs(float(ratio) / factor - 1) < exact)
    return next(near, factor)


def leaves_out(
    now: "pd.Series[float]", day: datetime, ratio: float, date_of: DateOf = datetime.date
) -> bool:
    """Return whether closes fall by this split on its day, so that they are not restated for it."""
    at = first_bar(pd.DatetimeIndex(now.index), day, date_of)
    if not 0 < at < len(now):
        return False
    gap = math.log(now.iloc[at] / now.iloc[at - 1])
    return abs(gap + math.log(ratio)) < abs(gap)


def first_bar(times: pd.DatetimeIndex, day: datetime, date_of: DateOf = datetime.date) -> int:
    """Return the position of the first bar of this day's session or a later one."""
    return bisect_left(times, day.date(), key=lambda time: date_of(time.to_pydatetime()))
