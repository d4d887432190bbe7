"""Which days a ticker trades: the exchange's sessions behind a Yahoo-style ticker.

    SPY, BRK-B, ^GSPC        New York
    7203.T, SAP.DE, ^N225    the exchange of the suffix, or of the index
    BTC-USD                  every day, midnight to midnight UTC
    EURUSD=X                 Monday to Friday, midnight to midnight UTC
    ES=F                     CME Globex

A session is named by the midnight of its date; times are naive UTC. Some exchanges' holidays are
recorded up to the end of the year only: beyond it the calendar goes on by its weekdays, and
`calendar_gap` says so.
"""

import threading
import warnings
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from tradingbot.errors import DataError
from tradingbot.markets.calendar_library import LAST, widest_calendar
from tradingbot.markets.symbols import calendar_name
from tradingbot.typing import Times


def next_sessions(symbol: str, after: datetime, count: int) -> list[datetime]:
    """The `count` sessions that follow the day of `after`: a Friday's next one is Monday.

    Raises DataError where the exchange has not yet published its holidays that far ahead.
    """
    known = _sessions(calendar_name(symbol))
    if after.date() < known.first:
        raise _outside(symbol, known, after)
    first = known.upto(after)
    if first + count > len(known.days):
        raise DataError(
            f"the sessions of {known.name} are known up to {known.last:%Y-%m-%d} only, "
            f"not {count} beyond {after:%Y-%m-%d}; a newer exchange-calendars may know more",
            symbol=symbol,
        )
    return _as_datetimes(known.days[first : first + count])


def latest_complete_session(symbol: str, now: datetime) -> datetime:
    """The newest session that has closed at `now`; early closes count. 24/7: the day has ended."""
    known = _sessions(calendar_name(symbol))
    closed = int(np.searchsorted(known.closes, _instant(now), side="right"))
    if closed == 0 or now.date() > known.last:
        raise _outside(symbol, known, now)
    return _as_datetimes(known.days[closed - 1 : closed])[0]


def sessions_between(symbol: str, first: datetime, last: datetime) -> int:
    """How many sessions lie after the day of `first`, up to and with the day of `last`."""
    known = _sessions(calendar_name(symbol))
    for day in (first, last):
        if not known.first <= day.date() <= known.last:
            raise _outside(symbol, known, day)
    return max(0, known.upto(last) - known.upto(first))


def session_close(symbol: str, day: datetime) -> datetime:
    """When the session of `day` closes; the end of the day in UTC if it is not a session."""
    midnight = datetime(day.year, day.month, day.day)
    return _as_datetimes(closes_of(symbol, np.array([midnight], dtype="datetime64[us]")))[0]


def closes_of(symbol: str, days: Times) -> Times:
    """When the session of each of `days`, midnights, closes; see `session_close`."""
    known = _sessions(calendar_name(symbol))
    days = days.astype("datetime64[us]")
    position = np.searchsorted(known.days, days).clip(max=len(known.days) - 1)
    ends = days + np.timedelta64(1, "D")
    return np.where(known.days[position] == days, known.closes[position], ends)


def opens_of(symbol: str, days: Times) -> Times:
    """When the session of each of `days`, midnights, opens; midnight if it is not a session."""
    known = _sessions(calendar_name(symbol))
    days = days.astype("datetime64[us]")
    position = np.searchsorted(known.days, days).clip(max=len(known.days) - 1)
    return np.where(known.days[position] == days, known.opens[position], days)


def calendar_gap(symbol: str, until: datetime) -> str | None:
    """What is not known of the sessions up to `until`, in words; None if all of it is known."""
    known = _sessions(calendar_name(symbol))
    if until.date() <= known.recorded:
        return None
    return (
        f"the holidays of {known.name} are recorded up to {known.recorded:%Y-%m-%d}; later "
        "sessions follow its weekdays, and some may turn out to be holidays"
    )


def sessions_of(symbol: str) -> "Sessions":
    """All sessions of the ticker's exchange."""
    return _sessions(calendar_name(symbol))


def exchange_timezone(symbol: str) -> str:
    """The exchange's time zone, such as America/New_York."""
    return _sessions(calendar_name(symbol)).timezone


@dataclass(frozen=True)
class Sessions:
    """All sessions of one calendar. Times: naive UTC, datetime64[us], (sessions,), ascending."""

    name: str
    days: Times
    opens: Times
    closes: Times
    breaks: tuple[Times, Times] | None  # begin and end of the pause at noon; NaT: none that day
    first: date
    last: date
    recorded: date  # up to this day holidays are recorded; later days follow the weekdays
    timezone: str

    @cached_property
    def weekdays(self) -> list[int]:
        """The days of the week with sessions, Monday 0; special ones make no such day."""
        counts = np.bincount((self.days.astype("datetime64[D]").astype("int64") + 3) % 7)
        weekdays: list[int] = np.flatnonzero(counts > len(self.days) / 50).tolist()
        return weekdays

    def upto(self, day: datetime) -> int:
        """How many sessions lie at or before `day`."""
        return int(np.searchsorted(self.days, _instant(day), side="right"))


_building = threading.Lock()


def _sessions(name: str) -> Sessions:
    with _building:  # once for all threads; catch_warnings too is for one at a time
        return _built(name)


@cache
def _built(name: str) -> Sessions:
    # exchange_calendars still uses what pandas 4 will change, and pandas takes it for its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            calendar, first, recorded = widest_calendar(name)
        except (ValueError, NotImplementedError) as error:
            raise DataError(
                f"the calendar {name} cannot be built by the installed exchange-calendars "
                f"and pandas ({type(error).__name__}); give the ticker an exchange with the same "
                "sessions in the file KRONOS_CALENDARS"
            ) from error
        opens, closes = _naive(calendar.opens), _naive(calendar.closes)
        breaks = _naive(calendar.break_starts), _naive(calendar.break_ends)
        days = calendar.sessions.to_numpy(dtype="datetime64[us]")
        if recorded < LAST:
            more = _by_weekdays(calendar, days, recorded)
            days = np.concatenate([days, more])
            zone = calendar.tz
            opens, closes, *noon = (
                _repeated(times, days, zone) for times in (opens, closes, *breaks)
            )
            breaks = noon[0], noon[1]
        paused = None if np.isnat(breaks[0]).all() else breaks
        return Sessions(name, days, opens, closes, paused, first, LAST, recorded, calendar.tz.key)


def _naive(times: Any) -> Times:
    found: Times = times.dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
    return found


def _by_weekdays(calendar: Any, days: Times, recorded: date) -> Times:
    """The days after `recorded` on which this calendar's week has a session."""
    ahead = np.arange(np.datetime64(recorded, "D") + 1, np.datetime64(LAST, "D") + 1)
    week = [mark == "1" for mark in calendar.weekmask]  # Monday first
    open_days: Times = ahead[np.array(week)[(ahead.astype("int64") + 3) % 7]].astype(days.dtype)
    return open_days


def _repeated(times: Times, days: Times, zone: Any) -> Times:
    """`times` of the first days, and of the others at the same time on the exchange's wall."""
    clock = pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    since_midnight = clock[-20:] - pd.DatetimeIndex(days[len(times) - 20 : len(times)])
    usual = pd.Series(since_midnight).mode()  # not that of a half day
    if usual.empty:  # no pause at noon
        return np.concatenate([times, np.full(len(days) - len(times), np.datetime64("NaT"))])
    ahead = (pd.DatetimeIndex(days[len(times) :]) + usual[0]).tz_localize(zone).tz_convert(None)
    return np.concatenate([times, ahead.to_numpy(dtype="datetime64[us]")])


def _outside(symbol: str, known: Sessions, day: datetime) -> DataError:
    return DataError(
        f"{day:%Y-%m-%d} is outside of what is known of {known.name}, "
        f"{known.first:%Y-%m-%d} to {known.last:%Y-%m-%d}",
        symbol=symbol,
    )


def _instant(when: datetime) -> np.datetime64:
    return np.datetime64(when, "us")


def _as_datetimes(values: Times) -> list[datetime]:
    moments: list[datetime] = values.astype("datetime64[us]").tolist()
    return moments
