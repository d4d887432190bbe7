"""The next intraday bars, from the exchange's sessions and the bars' spacing.

Times are naive UTC. A bar is named by its start.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tradingbot.markets.calendars import Sessions, sessions_of
from tradingbot.typing import Times

FX_ZONE = "America/New_York"  # the currency week: Sunday 17:00 to Friday 17:00 in this zone
_COMPARED = 10  # sessions used to determine where bars start
_MISSING = 0.2  # share of bars that may be missing because of halts and holidays


def market_zone(symbol: str) -> str:
    """Return the zone of the market's local times."""
    known = sessions_of(symbol)
    return FX_ZONE if known.name == "24/5" else known.timezone


def next_bars(symbol: str, bars: Times, step: np.timedelta64, count: int) -> Times | None:
    """Return the next `count` bar starts after the newest of `bars`.

    Return None if `bars` do not fit the sessions of the exchange.
    """
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
    candidates = [
        times
        for times in _conventions(begin, end, step, market_zone(symbol))
        if np.isin(recent, times).all()
    ]
    fitting = [(_missing(times, recent), times[times > last]) for times in candidates]
    if not fitting:
        return None
    missing, ahead = min(fitting, key=lambda candidate: candidate[0])
    return ahead[:count] if missing <= _MISSING and len(ahead) >= count else None


def _missing(times: Times, recent: Times) -> float:
    """Return the share of `times` up to the newest bar that is missing in `recent`."""
    expected = np.count_nonzero((times >= recent[0]) & (times <= recent[-1]))
    return 1 - len(recent) / expected


def _parts(known: Sessions, last: np.datetime64, count: int) -> tuple[Times, Times]:
    """Return begin and end of each trading period around `last`. A lunch break divides a day."""
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


def _conventions(begin: Times, end: Times, step: np.timedelta64, zone: str) -> Iterator[Times]:
    """Yield the starts of all bars, for each convention that sources use.

    Bars are counted from the start of the session, or from midnight in UTC or in exchange time.
    Counting from the two midnights gives different bars where the zone is not whole hours from UTC,
    as in India. If bars are counted from midnight, the first bar of a session contains the start of
    the session, or is the first bar after it.
    """
    wall = pd.DatetimeIndex(begin).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    firsts = [begin]
    for clock in (begin, wall.to_numpy(dtype="datetime64[us]")):
        grid = (clock - clock.astype("datetime64[D]")) % step
        firsts += [begin - grid, begin + (step - grid) % step]
    for first in firsts:
        starts = [
            np.arange(opening, stop, step, dtype="datetime64[us]")
            for opening, stop in zip(first, end, strict=True)
        ]
        yield np.unique(np.concatenate(starts))
