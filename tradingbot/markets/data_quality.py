"""Check the quality of candles, in one place for all callers.

`find_problems` returns findings. `POLICY` in `quality_findings.py` says what happens for each
caller: refuse the ticker, correct the frame, warn, or only list the finding for `kronosbot check`.
`check_quality` applies that policy.

>>> frame, warnings = check_quality(frame, "SPY", "1d", Caller.OWN, now=utcnow())
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from tradingbot.errors import DataError
from tradingbot.markets.calendars import Sessions, calendar_gap, closes_of, sessions_of
from tradingbot.markets.quality_findings import (
    Caller,
    Finding,
    Kind,
    apply_policy,
    without_unfinished,
)
from tradingbot.markets.scale_breaks import scale_breaks
from tradingbot.markets.session_dates import is_session, trading_days
from tradingbot.typing import Times


def check_quality(
    frame: pd.DataFrame,
    symbol: str,
    interval: str,
    caller: Caller,
    *,
    now: datetime | None = None,
    max_jump: float = 1.0,
    dropped: pd.DatetimeIndex | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Check clean bars. Return the corrected bars, and a sentence for each finding.

    Raises:
        DataError: The caller's policy refuses a finding.
    """
    findings = find_problems(frame, symbol, interval, now=now, max_jump=max_jump, dropped=dropped)
    return apply_policy(frame, findings, caller)


def find_problems(
    frame: pd.DataFrame,
    symbol: str,
    interval: str,
    *,
    now: datetime | None = None,
    max_jump: float = 1.0,
    ahead: datetime | None = None,
    dropped: pd.DatetimeIndex | None = None,
) -> list[Finding]:
    """Return the findings about clean bars, (n, 4 or 5), the most serious first.

    Args:
        frame: Bars with naive times: midnights of sessions for 1d, else UTC.
        symbol: The ticker.
        interval: The interval that the bars should have.
        now: Bars that close later are unfinished. They are counted, and not checked further.
        max_jump: Breaks of scale up to this factor count as real moves.
        ahead: The newest target. The calendar is checked up to this time.
        dropped: Times of bars that were dropped before. Their sessions do not count as missing.
    """
    if frame.empty:
        return []
    length = bar_length(interval)
    found = list(_unfinished(frame, symbol, interval, length, now))
    kept = without_unfinished(frame, found)
    if not kept.empty:
        found += [
            *_spacing(kept, symbol, interval, length),
            *_against_the_calendar(kept, symbol, interval, ahead, dropped),
            *_scale(kept, symbol, max_jump),
            *_halted(kept, symbol),
        ]
    return sorted(found, key=lambda finding: list(Kind).index(finding.kind))


def bar_length(interval: str) -> timedelta:
    """Return the length of an interval: 1d, or intraday 15m, 1h. Raise DataError for others."""
    number, unit = interval[:-1], interval[-1:]
    if number.isdecimal() and int(number) > 0:
        if unit == "d" and number == "1":
            return timedelta(days=1)
        if unit in ("m", "h"):
            return timedelta(minutes=int(number) * (60 if unit == "h" else 1))
    raise DataError(f"interval {interval!r}: expected 1d, or minutes or hours as 15m or 1h")


def bar_closes(symbol: str, times: pd.DatetimeIndex, interval: str) -> pd.DatetimeIndex:
    """Return the time at which each bar is complete, naive UTC."""
    if interval != "1d":
        return times + bar_length(interval)
    return pd.DatetimeIndex(closes_of(symbol, times.to_numpy("datetime64[us]")))


def _spacing(
    frame: pd.DataFrame, symbol: str, interval: str, length: timedelta
) -> Iterator[Finding]:
    """Check the median spacing: one session for daily bars, else the interval itself."""
    times = pd.DatetimeIndex(frame.index)
    if len(times) < 3:
        return
    steps = (times[1:] - times[:-1]).to_numpy("timedelta64[s]").astype("int64")
    if interval == "1d":
        usual = int(np.median(steps))
        try:
            known = sessions_of(symbol).days
            order = np.searchsorted(known, times.to_numpy("datetime64[us]"), side="right")
            a_session = float(np.median(np.diff(order)))
        except DataError:  # unknown exchange: a long weekend is three days
            a_session = 1.0 if usual <= 3 * 86_400 else usual / 86_400
        fits = usual >= 43_200 and a_session < 2
    else:
        within = steps[steps < 86_400]
        usual = int(np.median(within)) if within.size else int(np.median(steps))
        seconds = int(length.total_seconds())
        thin = usual > seconds and bool(np.mean(steps == seconds) > 0.1)  # minutes without a trade
        fits = usual == seconds or thin
    if not fits:
        yield Finding(
            Kind.SPACING,
            symbol,
            times[-1].to_pydatetime(),
            float(usual),
            f"the bars are {_spaced(usual)} apart, up to {_at(times[-1], interval)}: these are "
            f"not bars of {interval}; ask for their own interval, or give {interval} bars",
        )


def _against_the_calendar(
    frame: pd.DataFrame,
    symbol: str,
    interval: str,
    ahead: datetime | None,
    dropped: pd.DatetimeIndex | None,
) -> Iterator[Finding]:
    times = pd.DatetimeIndex(frame.index)
    try:
        days = times if interval == "1d" else trading_days(symbol, times)
        calendar = sessions_of(symbol)
    except DataError as error:
        text = f"sessions could not be checked: {error.reason}"
        yield Finding(Kind.UNCHECKED, symbol, None, float(len(frame)), text)
        return
    traded = is_session(symbol, days.unique())
    if unknown := int(traded.isna().sum()):
        text = (
            f"{unknown} days before {calendar.first:%Y-%m-%d} could not be checked: the calendar "
            f"{calendar.name} begins there"
        )
        yield Finding(Kind.UNCHECKED, symbol, None, float(unknown), text)
    strays = pd.DatetimeIndex(traded.index[traded == 0])
    yield from _strays(symbol, calendar, strays, pd.DatetimeIndex(traded.index))
    present = pd.DatetimeIndex(traded.dropna().index)
    if len(present):
        if dropped is not None and len(dropped):
            present = present.union(dropped.normalize())
        yield from _missing(symbol, calendar.name, calendar.days, present)
    until = max(days[-1].to_pydatetime(), ahead or datetime.min)
    if gap := calendar_gap(symbol, until):
        yield Finding(Kind.CALENDAR_ENDS, symbol, until, 0.0, gap)


# Limits below which bars on days without a session are tolerated. They may be special weekend
# sessions, which a calendar may lack, or days that the calendar wrongly lists as holidays.
_FEW, _SHARE, _HOLIDAYS = 3, 0.015, 0.1
_SUNDAY_OPEN = {"24/5", "CMES"}  # calendars whose Mondays begin on Sunday evening


def _strays(
    symbol: str, calendar: Sessions, strays: pd.DatetimeIndex, days: pd.DatetimeIndex
) -> Iterator[Finding]:
    """Find bars on days without a session. Many of them indicate another market."""
    if not len(strays):
        return
    newest = strays[-1]
    resting = int((~strays.day_of_week.isin(calendar.weekdays)).sum())
    weekends = resting >= _FEW and resting > _SHARE * len(days)
    if weekends or (len(strays) >= _FEW and len(strays) > _HOLIDAYS * len(days)):
        kind = Kind.CALENDAR
        sundays = calendar.name in _SUNDAY_OPEN and (strays.day_of_week == 6).mean() > 0.9
        cause = (
            "Sunday evenings as days of their own; join each with Monday's bar"
            if sundays
            else "this is another market; spell the ticker as Yahoo does, or give its exchange in "
            "the file KRONOS_CALENDARS"
        )
        text = (
            f"{len(strays)} of {len(days)} days with bars, the last {newest:%a %Y-%m-%d}, are not "
            f"sessions of {calendar.name}: {cause}"
        )
    else:
        kind = Kind.STRAY
        latest = "the newest bar" if newest == days[-1] else "the last"
        text = (
            f"{len(strays)} of {len(days)} days with bars are not sessions of {calendar.name}, "
            f"{latest} {newest:%a %Y-%m-%d}; kept"
        )
    yield Finding(kind, symbol, newest.to_pydatetime(), float(len(strays)), text)


def _missing(
    symbol: str, calendar: str, sessions: Times, present: pd.DatetimeIndex
) -> Iterator[Finding]:
    first, last = present[0], present[-1]
    due = pd.DatetimeIndex(sessions[(sessions >= first) & (sessions <= last)])
    if calendar == "24/5":  # banks are closed on these holidays
        due = due[~((due.month == 12) & (due.day == 25) | (due.month == 1) & (due.day == 1))]
    absent = ~due.isin(present)
    if not (count := int(absent.sum())):
        return
    runs = np.split(absent, np.flatnonzero(np.diff(absent)) + 1)
    longest = max(len(run) for run in runs if run[0])
    newest = due[absent][-1]
    yield Finding(
        Kind.MISSING,
        symbol,
        newest.to_pydatetime(),
        float(count),
        f"{count} of {len(due)} sessions since {first:%Y-%m-%d} have no bar, the last "
        f"{newest:%Y-%m-%d}, {longest} in a row at most",
    )


def _scale(frame: pd.DataFrame, symbol: str, max_jump: float) -> Iterator[Finding]:
    breaks = [
        found
        for found in scale_breaks(frame)
        if max(found.factor, 1 / found.factor) > max_jump * 1.05
    ]
    if breaks:
        newest = breaks[-1]
        others = f", and {len(breaks) - 1} more before" if len(breaks) > 1 else ""
        cause = "another unit" if newest.is_power_of_ten else "a split that was not applied"
        if newest.may_be_paid_out:
            cause += ", or a special dividend or spin-off that prices are not adjusted for"
        yield Finding(
            Kind.SCALE,
            symbol,
            newest.bar.to_pydatetime(),
            newest.factor,
            f"prices change by the factor {newest.factor:.4g} ({newest.ratio}) at the bar of "
            f"{newest.bar:%Y-%m-%d}{others}: {cause}? Give prices of one scale; if the jump is "
            "real, give --allow-jumps or set KRONOS_MAX_JUMP",
        )


def _halted(frame: pd.DataFrame, symbol: str) -> Iterator[Finding]:
    """Find bars that only repeat the last price, in a frame with volumes."""
    if "volume" not in frame or not frame["volume"].any():
        return
    idle = (frame["volume"] == 0) & (frame["high"] == frame["low"])
    if count := int(idle.sum()):
        newest = frame.index[idle][-1]
        text = f"{count} of {len(frame)} bars have no trade, the last {newest:%Y-%m-%d}"
        yield Finding(Kind.HALTED, symbol, newest.to_pydatetime(), float(count), text)


def _unfinished(
    frame: pd.DataFrame, symbol: str, interval: str, length: timedelta, now: datetime | None
) -> Iterator[Finding]:
    if now is None:
        return
    times = pd.DatetimeIndex(frame.index)
    try:
        closes = bar_closes(symbol, times, interval)
    except DataError:  # unknown exchange: a bar that begins after `now` is certainly unfinished
        closes = times + length
    if not (count := int((closes > pd.Timestamp(now)).sum())):
        return
    subject = f"the bar of {_at(times[-count], interval)} is"
    if count > 1:
        subject = f"{count} bars from {_at(times[-count], interval)} on are"
    yield Finding(
        Kind.UNFINISHED,
        symbol,
        times[-count].to_pydatetime(),
        float(count),
        f"{subject} not complete at {now:%Y-%m-%d %H:%M} UTC: left out",
    )


def _at(time: pd.Timestamp, interval: str) -> str:
    return f"{time:%Y-%m-%d}" if interval == "1d" else f"{time:%Y-%m-%d %H:%M}"


def _spaced(seconds: int) -> str:
    for length, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= length:
            number = round(seconds / length, 1)
            return f"{number:g} {unit}" + ("" if number == 1 else "s")
    return "less than a second"
