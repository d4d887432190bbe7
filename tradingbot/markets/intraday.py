"""Which bars come next within a day: the exchange's own sessions and minutes.

Times are naive UTC and name a bar by its start.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tradingbot.markets.calendars import Sessions, sessions_of
from tradingbot.typing import Times

FX_ZONE = "America/New_York"  # the week of currencies: Sunday 17:00 to Friday 17:00 there
_COMPARED = 10  # sessions whose bars show where bars start
_MISSING = 0.2  # the share of bars that halts and holidays may have taken


def market_zone(symbol: str) -> str:
    """The zone on whose wall clock the ticker's bars are told."""
    known = sessions_of(symbol)
    return FX_ZONE if known.name == "24/5" else known.timezone


def next_bars(symbol: str, bars: Times, step: np.timedelta64, count: int) -> Times | None:
    """The `count` bar starts after the newest of `bars`; None if they are not the exchange's."""
    known = sessions_of(symbol)
    last = bars[-1]
    if known.name == "24/7":
        ahead: Times = last + step * np.arange(1, count + 1)
        return ahead
    weeks = 8 + int(count * step / np.timedelta64(5, "D"))
    begin, end = _fx_weeks(last, weeks) if known.name == "24/5" else _parts(known, last, count)
    if not (begin <= last).any():
        return None
    recent = bars[bars >= begin[0]]
    ways = [
        times
        for times in _ways(begin, end, step, market_zone(symbol))
        if np.isin(recent, times).all()
    ]
    fitting = [(_missing(times, recent), times[times > last]) for times in ways]
    if not fitting:
        return None
    missing, ahead = min(fitting, key=lambda way: way[0])
    return ahead[:count] if missing <= _MISSING and len(ahead) >= count else None


def _missing(times: Times, recent: Times) -> float:
    """The share of `times` up to the newest bar that `recent` lacks."""
    expected = np.count_nonzero((times >= recent[0]) & (times <= recent[-1]))
    return 1 - len(recent) / expected


def _parts(known: Sessions, last: np.datetime64, count: int) -> tuple[Times, Times]:
    """Begin and end of each stretch of trading around `last`; a pause at noon divides a day."""
    at = int(np.searchsorted(known.opens, last, side="right"))
    chosen = slice(max(0, at - _COMPARED), at + count + 40)
    begin, end = known.opens[chosen], known.closes[chosen]
    if known.breaks is not None:
        pause, resumed = (times[chosen] for times in known.breaks)
        real = ~np.isnat(pause)
        end = np.sort(np.concatenate([end, pause[real]]))
        begin = np.sort(np.concatenate([begin, resumed[real]]))
    return begin, end


def _fx_weeks(last: np.datetime64, weeks: int) -> tuple[Times, Times]:
    day = pd.Timestamp(last).normalize()
    sundays = pd.date_range(day - pd.Timedelta(days=21), periods=weeks, freq="W-SUN")
    ends = [
        (days + pd.Timedelta(hours=17)).tz_localize(FX_ZONE).tz_convert(None)
        for days in (sundays, sundays + pd.Timedelta(days=5))
    ]
    begin, end = (times.to_numpy(dtype="datetime64[us]") for times in ends)
    return begin, end


def _ways(begin: Times, end: Times, step: np.timedelta64, zone: str) -> Iterator[Times]:
    """The starts of all bars, in each way that sources count them.

    From the session's begin; or from midnight, in UTC or on the exchange's wall, whose hours differ
    by half of one in India. Then the first bar is the one that holds the begin, or the next.
    """
    wall = pd.DatetimeIndex(begin).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    firsts = [begin]
    for clock in (begin, wall.to_numpy(dtype="datetime64[us]")):
        grid = (clock - clock.astype("datetime64[D]")) % step
        firsts += [begin - grid, begin + (step - grid) % step]
    for first in firsts:
        starts = [
            np.arange(one, stop, step, dtype="datetime64[us]")
            for one, stop in zip(first, end, strict=True)
        ]
        yield np.unique(np.concatenate(starts))
