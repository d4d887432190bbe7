"""Assign a daily bar to its session: convert its time to the midnight of the session.

2026-11-20                      that day, if it is a session
2026-11-19 15:00+00:00, 7203.T  20 November: midnight in Tokyo
2026-11-22 22:00+00:00, EUR_USD 23 November: the currency day begins at 17:00 in New York
2026-11-20 16:00, SPY           20 November: within its session
2026-11-20 22:00, 7203.T        refused: outside the session, and without a zone
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from tradingbot.errors import DataError
from tradingbot.markets.calendars import exchange_timezone, sessions_of

_HALF_A_DAY = timedelta(hours=12)
FX_ZONE = "America/New_York"
FX_DAY_BEGINS_BEFORE_MIDNIGHT = timedelta(hours=7)
_ROUND_THE_CLOCK = ("24/7", "24/5")
_MOSTLY = 0.9  # share of bars at one time of day that must be within their sessions


def naive_times(symbol: str, times: pd.DatetimeIndex, interval: str) -> pd.DatetimeIndex:
    """Return the times of bars in the internal form: midnights of sessions for 1d, else UTC.

    Raises:
        DataError: The session of a daily bar is ambiguous.
    """
    return session_days(symbol, times) if interval == "1d" else as_utc(symbol, times)


def session_date(symbol: str, interval: str, time: datetime) -> date:
    """Return the date of the session of a bar. `time` is as returned by `naive_times`.

    It can differ from the date of `time`: Sydney's session begins on the previous day in UTC.
    """
    if interval == "1d":
        return time.date()
    try:
        zone = ZoneInfo(exchange_timezone(symbol))
    except DataError:  # unknown exchange
        return time.date()
    return time.replace(tzinfo=UTC).astimezone(zone).date()


def session_days(symbol: str, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return the midnight of each daily bar's session, naive.

    `times` have a zone, or are naive: dates, or local times of the exchange.

    Raises:
        DataError: `times` are neither dates nor local times, or too many belong to no session.
    """
    try:
        sessions_of(symbol)
    except DataError:  # unknown exchange: only dates can be used
        days = times.tz_localize(None)
        if days.equals(days.normalize()):
            return days
        raise
    if times.tz is None:
        return _of_wall_times(symbol, times)
    readings = [_in_the_exchanges_zone(symbol, times)]
    if not _at_midnight(times):  # a bar may be named by its end, where the next one begins
        readings.append(_in_the_exchanges_zone(symbol, times - timedelta(microseconds=1)))
    # A date with a zone attached is still a date: 2026-11-20 00:00+00:00 of a New York share
    if _at_midnight(times):
        readings.append(times.tz_localize(None))
    strays = [_without_session(symbol, days) for days in readings]
    doubled = [int(days.duplicated().sum()) for days in readings]
    best = int(np.argmin(np.add(strays, doubled)))
    if strays[best] > max(2, len(times) // 10):
        known = sessions_of(symbol)
        raise DataError(
            f"daily bars at {times[-1]}: {strays[best]} of {len(times)} are no session of "
            f"{known.name} in {known.timezone}; give the dates of the sessions",
            symbol=symbol,
        )
    return readings[best]


def as_utc(symbol: str, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return the times of intraday bars as naive UTC.

    Naive times are UTC, or local times of the exchange if only those are within its sessions.
    """
    if times.tz is not None:
        return times.tz_convert(None)
    try:
        known = sessions_of(symbol)
    except DataError:  # unknown exchange
        return times
    if known.name in _ROUND_THE_CLOCK or not len(times):
        return times
    zone = known.timezone
    wall = times.tz_localize(
        zone, ambiguous=np.zeros(len(times), dtype=bool), nonexistent="shift_forward"
    ).tz_convert(None)
    return wall if _in_sessions(symbol, wall) > _in_sessions(symbol, times) else times


def _in_sessions(symbol: str, times: pd.DatetimeIndex) -> int:
    """Return how many of `times` are in sessions. In a wrong time zone there are fewer."""
    known = sessions_of(symbol)
    instant = times.to_numpy("datetime64[us]")
    position = np.searchsorted(known.closes, instant, side="right").clip(max=len(known.days) - 1)
    return int((known.opens[position] <= instant).sum())


def trading_days(symbol: str, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return the trading day of each intraday bar. `times` are naive UTC.

    A bar in the evening belongs to the next day if the next day's session has begun by then. The
    currency week begins on Sunday at 17:00 in New York.
    """
    name = sessions_of(symbol).name
    if name == "24/7":
        return times.normalize()
    if name == "24/5":
        wall = times.tz_localize("UTC").tz_convert(FX_ZONE).tz_localize(None)
        return (wall + FX_DAY_BEGINS_BEFORE_MIDNIGHT).normalize()
    return _in_the_exchanges_zone(symbol, times.tz_localize("UTC"))


def is_session(symbol: str, days: pd.DatetimeIndex) -> pd.Series:
    """Return whether each of `days` is a session. NaN for days before the calendar begins."""
    known = sessions_of(symbol)
    wanted = days.to_numpy("datetime64[us]")
    position = np.searchsorted(known.days, wanted).clip(max=len(known.days) - 1)
    found = pd.Series(known.days[position] == wanted, index=days, dtype=float)
    return found.where(days >= pd.Timestamp(known.first))


def midnights(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return `times.normalize()` of naive times.

    This function does not infer a frequency, which would take 1 ms.
    """
    instant = times.to_numpy()
    return pd.DatetimeIndex(instant.astype("datetime64[D]").astype(instant.dtype), name=times.name)


def _at_midnight(times: pd.DatetimeIndex) -> bool:
    written = times.tz_localize(None)
    return written.equals(midnights(written))


def _without_session(symbol: str, days: pd.DatetimeIndex) -> int:
    return int((is_session(symbol, days) == 0).sum())


def _in_the_exchanges_zone(symbol: str, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    known = sessions_of(symbol)
    naive = times.tz_convert(None)
    if known.name in _ROUND_THE_CLOCK:
        if (naive.second == 59).all():  # named by its end, as 23:59:59.999
            naive = naive + timedelta(seconds=1) - timedelta(days=1)
        # in any zone, most hours of a 24-hour bar are on the date of its session
        return (naive + _HALF_A_DAY).normalize()
    local = times.tz_convert(known.timezone).tz_localize(None)
    days = local.normalize()
    # a session of futures opens on the previous evening
    instant = naive.to_numpy("datetime64[us]")
    position = np.searchsorted(known.closes, instant, side="right").clip(max=len(known.days) - 1)
    within = (known.opens[position] <= instant) & (local != days)
    return pd.DatetimeIndex(np.where(within, known.days[position], days.to_numpy("datetime64[us]")))


def _of_wall_times(symbol: str, times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    days = midnights(times)
    odd = times != days
    if odd.any():
        _refuse_outside(symbol, times[odd], days[odd])
    return days


def _refuse_outside(symbol: str, times: pd.DatetimeIndex, days: pd.DatetimeIndex) -> None:
    """Raise DataError unless each of `times` is between the open and close of its session.

    Some sources name every bar by the usual close. It is after the close of a half day, so a time
    of day that is within most sessions is accepted on the others too.
    """
    known = sessions_of(symbol)
    zone = known.timezone
    position = np.searchsorted(known.days, days.to_numpy("datetime64[us]"))
    position = position.clip(max=len(known.days) - 1)
    opens, closes = (
        pd.DatetimeIndex(found[position]).tz_localize("UTC").tz_convert(zone).tz_localize(None)
        for found in (known.opens, known.closes)
    )
    day_market = known.name not in _ROUND_THE_CLOCK
    inside = (opens <= times) & (times <= closes) & (opens >= days) & day_market
    of_session = known.days[position] == days.to_numpy("datetime64[us]")
    share = pd.Series(inside).groupby(times - days).transform("mean").to_numpy()
    inside |= of_session & (share > _MOSTLY)
    if not inside.all():
        wrong = times[~inside][-1]
        raise DataError(
            f"a daily bar at {wrong:%Y-%m-%d %H:%M} without a zone: that is not a session of "
            f"{known.name} in {zone}; write its date, or a time with its zone",
            symbol=symbol,
        )
