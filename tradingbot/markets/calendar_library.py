"""The calendars of exchange_calendars, and what its version 4.13 lacks to work with pandas 3.

Of the exchanges with an Orthodox Easter (Athens, Belgrade, Bucharest, Nicosia) and of Tel Aviv,
whose week has changed, the library builds no calendar with pandas 3.1, which calls other methods
of an offset than the library overrides. They are built once it has these.
"""

from datetime import date
from typing import Any

import numpy as np

from tradingbot.typing import Flags, Times

# Wide enough for any history that a model is given; building it costs no more than the library's
# own default, which ends a year from now (0.1 s; Korea 2 s).
FIRST, LAST = date(1997, 1, 1), date(2049, 12, 31)


def widest_calendar(name: str) -> tuple[Any, date, date]:
    """The calendar, its first day, and the last for which its holidays are recorded.

    Raises:
        ValueError, NotImplementedError: The library has none of this name, or cannot build it.
    """
    try:
        return _widest(name)
    except (ValueError, NotImplementedError):
        _mend_offsets()
        return _widest(name)


def _widest(name: str) -> tuple[Any, date, date]:
    from exchange_calendars import get_calendar

    try:
        return get_calendar(name, start=FIRST, end=LAST), FIRST, LAST
    except ValueError:
        narrow = get_calendar(name)  # knows its bounds, if it can be built at all
    earliest, latest = narrow.bound_min(), narrow.bound_max()
    first = max(FIRST, earliest.date()) if earliest is not None else FIRST
    last = min(LAST, latest.date()) if latest is not None else LAST
    return get_calendar(name, start=first, end=last), first, last


def _mend_offsets() -> None:
    """Give the library's own offsets the methods that pandas 3.1 calls."""
    from exchange_calendars.pandas_extensions.offsets import (
        CompositeCustomBusinessDay,
        OrthodoxEaster,
    )

    if "_add_datetime" not in vars(OrthodoxEaster):
        OrthodoxEaster._add_datetime = OrthodoxEaster._apply
    if "_get_daily_offset_mask" not in vars(CompositeCustomBusinessDay):
        CompositeCustomBusinessDay._get_daily_offset_mask = _days_of_each_week


def _days_of_each_week(offset: Any, days: Times) -> Flags:
    """Which of `days` are business days of an offset whose week changed at some dates."""
    found: Flags = offset._as_custom_business_day()._get_daily_offset_mask(days)
    for first, last, week in offset.business_days:
        within = np.ones(len(days), dtype=bool)
        if first is not None:
            within &= days >= np.datetime64(first)
        if last is not None:
            within &= days <= np.datetime64(last)
        found[within] = week._get_daily_offset_mask(days[within])
    return found
