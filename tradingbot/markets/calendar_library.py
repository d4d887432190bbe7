"""Calendars of exchange_calendars, including those that fail with pandas 3.

pandas 3.1 calls methods of a date offset that exchange_calendars 4.13 does not override. The
library therefore cannot build calendars with Orthodox Easter, or the calendar of Tel Aviv, whose
week has changed. This module adds the missing methods while such a calendar is built.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import numpy as np

from tradingbot.typing import Flags, Times

# First and last day of the calendars. The period is long enough for the history of any model.
# Building such a calendar takes no longer (0.1 s; Korea 2 s) than building one with the library's
# default period, which ends a year from now.
FIRST, LAST = date(1997, 1, 1), date(2049, 12, 31)
_FAILING = (
    "ASEX",
    "XBEL",
    "XBSE",
    "XCYS",
    "XTAE",
)  # Athens, Belgrade, Bucharest, Nicosia, Tel Aviv


def widest_calendar(name: str) -> tuple[Any, date, date]:
    """Return the calendar, its first day, and the last day for which its holidays are recorded.

    Raises:
        ValueError, NotImplementedError: The library has no such calendar, or cannot build it.
    """
    from exchange_calendars import get_calendar, resolve_alias

    if resolve_alias(name) in _FAILING:
        with _methods_for_pandas_3():
            return get_calendar(name, start=FIRST, end=LAST), FIRST, LAST
    try:
        return get_calendar(name, start=FIRST, end=LAST), FIRST, LAST
    except ValueError:
        # the period is too long for this calendar; its default has the bounds
        narrow = get_calendar(name)
    earliest, latest = narrow.bound_min(), narrow.bound_max()
    first = max(FIRST, earliest.date()) if earliest is not None else FIRST
    last = min(LAST, latest.date()) if latest is not None else LAST
    return get_calendar(name, start=first, end=last), first, last


@contextmanager
def _methods_for_pandas_3() -> Iterator[None]:
    """Temporarily add the methods that pandas calls to the library's offsets, unless they exist.

    The methods are removed afterwards, because they would also affect calendars that are built
    without this module.
    """
    from exchange_calendars.pandas_extensions.offsets import (
        CompositeCustomBusinessDay,
        OrthodoxEaster,
    )

    added = [
        (kind, name, method)
        for kind, name, method in (
            (OrthodoxEaster, "_add_datetime", OrthodoxEaster._apply),
            (CompositeCustomBusinessDay, "_get_daily_offset_mask", _days_of_each_week),
        )
        if name not in vars(kind)
    ]
    for kind, name, method in added:
        setattr(kind, name, method)
    try:
        yield
    finally:
        for kind, name, _ in added:
            delattr(kind, name)


def _days_of_each_week(offset: Any, days: Times) -> Flags:
    """Return which of `days` are business days where the working week changed at some dates."""
    found: Flags = offset._as_custom_business_day()._get_daily_offset_mask(days)
    for first, last, week in offset.business_days:
        within = np.ones(len(days), dtype=bool)
        if first is not None:
            within &= days >= np.datetime64(first)
        if last is not None:
            within &= days <= np.datetime64(last)
        found[within] = week._get_daily_offset_mask(days[within])
    return found
