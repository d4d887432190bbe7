"""Which days a ticker trades: the exchange's sessions behind a Yahoo-style ticker.

    SPY, BRK-B, ^GSPC        New York
    7203.T, SAP.DE, ^N225    the exchange of the suffix, or of the index
    BTC-USD                  every day, midnight to midnight UTC
    EURUSD=X                 Monday to Friday, midnight to midnight UTC
    ES=F                     CME Globex

A session is named by the midnight of its date; times are naive UTC.
"""

import threading
import warnings
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.errors import DataError
from tradingbot.markets.symbols import calendar_name


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
    known = _sessions(calendar_name(symbol))
    midnight = datetime(day.year, day.month, day.day)
    index = known.upto(midnight) - 1
    if index >= 0 and known.days[index] == _instant(midnight):
        return _as_datetimes(known.closes[index : index + 1])[0]
    return midnight + timedelta(days=1)


def exchange_timezone(symbol: str) -> str:
    """The exchange's time zone, such as America/New_York."""
    return _sessions(calendar_name(symbol)).timezone


@dataclass(frozen=True)
class _Sessions:
    """All sessions of one calendar. days, closes: datetime64[us], (sessions,), ascending."""

    name: str
    days: NDArray[np.datetime64]
    closes: NDArray[np.datetime64]
    first: date
    last: date  # the last day of which it is known whether it is a session
    timezone: str

    def upto(self, day: datetime) -> int:
        """How many sessions lie at or before `day`."""
        return int(np.searchsorted(self.days, _instant(day), side="right"))


# Wide enough for any history that a model is given; building it costs no more than the library's
# own default, which ends a year from now (0.1 s; Korea 2 s).
_FIRST, _LAST = date(1997, 1, 1), date(2049, 12, 31)
_building = threading.Lock()


def _sessions(name: str) -> _Sessions:
    with _building:  # once for all threads; catch_warnings too is for one at a time
        return _built(name)


@cache
def _built(name: str) -> _Sessions:
    # exchange_calendars still uses what pandas 4 will change, and pandas takes it for its own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            calendar, first, last = _widest(name)
        except (ValueError, NotImplementedError) as error:
            raise DataError(
                f"the calendar {name} cannot be built by the installed exchange-calendars "
                f"and pandas ({type(error).__name__}); tickers of this exchange are not supported"
            ) from error
        closes = calendar.closes.dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
        days = calendar.sessions.to_numpy(dtype="datetime64[us]")
        return _Sessions(name, days, closes, first, last, calendar.tz.key)


def _widest(name: str) -> tuple[Any, date, date]:
    """The calendar and its range; some exchanges' holidays are recorded for fewer years."""
    from exchange_calendars import get_calendar

    try:
        return get_calendar(name, start=_FIRST, end=_LAST), _FIRST, _LAST
    except ValueError:
        narrow = get_calendar(name)  # knows its bounds, if it can be built at all
    earliest, latest = narrow.bound_min(), narrow.bound_max()
    first = max(_FIRST, earliest.date()) if earliest is not None else _FIRST
    last = min(_LAST, latest.date()) if latest is not None else _LAST
    return get_calendar(name, start=first, end=last), first, last


def _outside(symbol: str, known: _Sessions, day: datetime) -> DataError:
    return DataError(
        f"{day:%Y-%m-%d} is outside of what is known of {known.name}, "
        f"{known.first:%Y-%m-%d} to {known.last:%Y-%m-%d}",
        symbol=symbol,
    )


def _instant(when: datetime) -> np.datetime64:
    return np.datetime64(when, "us")


def _as_datetimes(values: NDArray[np.datetime64]) -> list[datetime]:
    moments: list[datetime] = values.astype("datetime64[us]").tolist()
    return moments
