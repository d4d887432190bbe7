"""The trading days of a ticker: the sessions of its exchange.

  SPY, BRK-B, ^GSPC        New York
  7203.T, SAP.DE, ^N225    the exchange of the suffix, or of the index
  BTC-USD                  every day, midnight to midnight UTC
  EURUSD=X                 Monday to Friday, midnight to midnight UTC
  ES=F                     CME Globex

A session is named by the midnight of its date. Times are naive UTC. Some exchanges' holidays are
recorded only up to the end of the year. After that the calendar continues with its usual weekdays,
and `calendar_gap` returns a warning.
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
    """Return the `count` sessions after the day of `after`; for a Friday the first is Monday.

    Raises:
        DataError: The exchange has not yet published its holidays that far ahead.
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
    """Return the newest session that has closed at `now`, with early closes considered.

    For 24/7 markets that is the last complete day.
    """
    known = _sessions(calendar_name(symbol))
    closed = int(np.searchsorted(known.closes, _instant(now), side="right"))
    if closed == 0 or now.date() > known.last:
        raise _outside(symbol, known, now)
    return _as_datetimes(known.days[closed - 1 : closed])[0]


def sessions_between(symbol: str, first: datetime, last: datetime) -> int:
    """Return the number of sessions after the day of `first`, up to the day of `last` inclusive."""
    known = _sessions(calendar_name(symbol))
    for day in (first, last):
        if not known.first <= day.date() <= known.last:
            raise _outside(symbol, known, day)
    return max(0, known.upto(last) - known.upto(first))


def session_close(symbol: str, day: datetime) -> datetime:
    """Return the close of the session of `day`, or the end of the day in UTC if there is none."""
    midnight = datetime(day.year, day.month, day.day)
    return _as_datetimes(closes_of(symbol, np.array([midnight], dtype="datetime64[us]")))[0]


def closes_of(symbol: str, days: Times) -> Times:
    """Return the closes of the sessions of `days`, which are midnights, as `session_close` does."""
    known = _sessions(calendar_name(symbol))
    days = days.astype("datetime64[us]")
    position = np.searchsorted(known.days, days).clip(max=len(known.days) - 1)
    ends = days + np.timedelta64(1, "D")
    return np.where(known.days[position] == days, known.closes[position], ends)


def opens_of(symbol: str, days: Times) -> Times:
    """Return the opens of the sessions of `days`, or midnight for a day without a session."""
    known = _sessions(calendar_name(symbol))
    days = days.astype("datetime64[us]")
    position = np.searchsorted(known.days, days).clip(max=len(known.days) - 1)
    return np.where(known.days[position] == days, known.opens[position], days)


def calendar_gap(symbol: str, until: datetime) -> str | None:
    """Return a sentence on unrecorded holidays up to `until`, or None if all are recorded."""
    known = _sessions(calendar_name(symbol))
    if until.date() <= known.recorded:
        return None
    return (
        f"the holidays of {known.name} are recorded up to {known.recorded:%Y-%m-%d}; later "
        "sessions follow its weekdays, and some may turn out to be holidays"
    )


def sessions_of(symbol: str) -> "Sessions":
    """Return all sessions of the ticker's exchange."""
    return _sessions(calendar_name(symbol))


def exchange_timezone(symbol: str) -> str:
    """Return the exchange's time zone, such as America/New_York."""
    return _sessions(calendar_name(symbol)).timezone


@dataclass(frozen=True)
class Sessions:
    """All sessions of one calendar.

    Arrays of times are naive UTC, datetime64[us], ascending, with the shape (sessions,).
    """

    name: str
    days: Times
    opens: Times
    closes: Times
    breaks: tuple[Times, Times] | None  # begin and end of lunch breaks; NaT on a day without one
    first: date
    last: date
    recorded: date  # holidays are recorded up to this day; later sessions follow the weekdays
    timezone: str

    @cached_property
    def weekdays(self) -> list[int]:
        """Return the weekdays with regular sessions, Monday 0. Special sessions do not count."""
        counts = np.bincount((self.days.astype("datetime64[D]").astype("int64") + 3) % 7)
        weekdays: list[int] = np.flatnonzero(counts > len(self.days) / 50).tolist()
        return weekdays

    def upto(self, day: datetime) -> int:
        """Return the number of sessions at or before `day`."""
        return int(np.searchsorted(self.days, _instant(day), side="right"))


_build_lock = threading.Lock()


def _sessions(name: str) -> Sessions:
    with _build_lock:  # one thread at a time, also because catch_warnings is not thread-safe
        return _build(name)


@cache
def _build(name: str) -> Sessions:
    # exchange_calendars uses features that pandas 4 deprecates, and pandas attributes the warning
    # here
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
            later_days = _by_weekdays(calendar, days, recorded)
            days = np.concatenate([days, later_days])
            zone = calendar.tz
            opens, closes, *lunch = (
                _repeated(times, days, zone) for times in (opens, closes, *breaks)
            )
            breaks = lunch[0], lunch[1]
        paused = None if np.isnat(breaks[0]).all() else breaks
        return Sessions(name, days, opens, closes, paused, first, LAST, recorded, calendar.tz.key)


def _naive(times: Any) -> Times:
    found: Times = times.dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
    return found


def _by_weekdays(calendar: Any, days: Times, recorded: date) -> Times:
    """Return the days after `recorded` on which the calendar's regular week has a session."""
    ahead = np.arange(np.datetime64(recorded, "D") + 1, np.datetime64(LAST, "D") + 1)
    week = [mark == "1" for mark in calendar.weekmask]  # Monday first
    open_days: Times = ahead[np.array(week)[(ahead.astype("int64") + 3) % 7]].astype(days.dtype)
    return open_days


def _repeated(times: Times, days: Times, zone: Any) -> Times:
    """Return `times`, which cover the first of `days`, extended to all `days`.

    The further times are at the exchange's usual local time.
    """
    clock = pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    since_midnight = clock[-20:] - pd.DatetimeIndex(days[len(times) - 20 : len(times)])
    usual = pd.Series(since_midnight).mode()  # the most frequent, so that half days do not count
    if usual.empty:  # no lunch break
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
