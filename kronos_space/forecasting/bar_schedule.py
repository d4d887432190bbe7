"""Predict the times of the next bars from the times of past ones. Imports no torch.

Bars of a day or less occupy slots. A slot is a pair of weekday and time of day. A time of day
counts if most recent days had a bar at that time. A weekday counts if most recent weeks had bars on
that weekday. Some markets open on Sunday evening or close early on Friday. So a weekday gets
different times if most recent days of that weekday differed in the same way from the days before
them. A single half day, special Saturday or stray bar therefore changes nothing. A change of clocks
takes effect after three days, a change of the market's week after two weeks.

Weekly bars keep their weekday. Bars of a month or longer are on the first or last working day of
the month if those of the history are, or else on the same day of the month.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.datetime64]
Bools = NDArray[np.bool_]

DAY = np.timedelta64(1, "D")
LAST_TIME = np.datetime64("9999-01-01", "us")

RECENT_DAYS = 5  # number of days that decide the times of day
RECENT_WEEKS = 5  # number of weeks that decide the weekdays
OWN_WEEKS = 3  # number of weeks that decide the times of a weekday that differs from the others
NEIGHBOURS = 4  # number of days before a day, whose times are compared with those of the day
USUAL_DAYS = 3  # number of days with a bar at a time of day at which the market is open
SHORTEST_NIGHT = np.timedelta64(4, "h")  # a market with a shorter night trades around the clock
WINDOW = 8 * 7  # days of history considered
EXPLAINED = 0.6  # share of recent bars that the slots must explain to count as a pattern

SATURDAY, SUNDAY = 5, 6
WORKDAYS = "1111100"


@dataclass(frozen=True)
class UpcomingTimes:
    """The next times. If `found` is false, there is no pattern, and they are equally spaced."""

    times: Stamps
    spacing: np.timedelta64
    found: bool


def upcoming_times(wall: Stamps, instant: Stamps, count: int) -> UpcomingTimes | None:
    """Return the `count` times after a history, or None if they exceed the calendar's range.

    Args:
        wall: Wall times at the exchange, datetime64[us].
        instant: The same in UTC, strictly increasing.
    """
    gaps = np.diff(instant).astype(np.int64)
    sizes, counts = np.unique(gaps, return_counts=True)
    regular = 4 * counts.max() > len(gaps)
    usual = sizes[counts.argmax()] if regular else np.sort(gaps)[len(gaps) // 2]
    spacing = np.timedelta64(int(usual), "us")
    found, ahead = regular, None
    if spacing >= 28 * DAY:
        ahead = _monthly(wall, spacing, count)
    elif spacing >= 4 * DAY:
        ahead = _weekly(wall, spacing, count)
    elif spacing <= DAY and instant[-1] - instant[0] >= DAY:
        ahead = _slots(wall, spacing, count)
        found = ahead is not None
    if ahead is None:
        ahead = _steps(wall, spacing, count)
    if len(ahead) < count or ahead[-1] >= LAST_TIME:
        return None
    return UpcomingTimes(ahead.astype("datetime64[us]"), spacing, found)


def weekday(times: Stamps) -> NDArray[np.int64]:
    """Return the weekday: Monday 0 … Sunday 6."""
    return (times.astype("datetime64[D]").astype(np.int64) + 3) % 7  # day 0 was a Thursday


def _slots(wall: Stamps, spacing: np.timedelta64, count: int) -> Stamps | None:
    """Return the next times of the weekly pattern, or None if there is no pattern.

    Days begin in the market's night. A session that crosses midnight, as Sydney's does in UTC, then
    keeps its weekday when the clocks change.
    """
    begin = _day_begins(wall)
    wall = wall - begin
    recent = np.sort(wall[wall > wall.max() - WINDOW * DAY])
    dates = recent.astype("datetime64[D]")
    days, day_of_bar = np.unique(dates, return_inverse=True)
    clock, slot_of_bar = np.unique(recent - dates, return_inverse=True)
    present = np.zeros((len(days), len(clock)), dtype=bool)
    present[day_of_bar, slot_of_bar] = True
    grid = days[:, None] + clock
    covered = (grid >= recent[0]) & (grid <= recent[-1])

    usual = _mostly(present[-RECENT_DAYS:], covered[-RECENT_DAYS:])
    open_weekdays = _open_weekdays(recent, spacing)
    slots = np.array(
        [_times_of_weekday(usual, present, covered, weekday(days) == w) for w in range(7)]
    )
    last_days = day_of_bar >= len(days) - RECENT_DAYS
    explained = usual[slot_of_bar[last_days]].mean()
    slots &= open_weekdays[:, None]
    if explained < EXPLAINED or not slots.any():
        return None
    per_week = int(slots.sum())
    ahead_days = wall[-1].astype("datetime64[D]") + np.arange((count // per_week + 2) * 7)
    ahead = (ahead_days[:, None] + clock)[slots[weekday(ahead_days)]]
    after: Stamps = ahead[ahead > wall[-1]][:count] + begin
    return after


def _day_begins(wall: Stamps) -> np.timedelta64:
    """Return the middle of the longest daily time without bars, as a time of day.

    If midnight is part of that time without bars, or no such time is long enough, return midnight.
    """
    recent = wall[wall > wall.max() - WINDOW * DAY]
    clock, days = np.unique(recent - recent.astype("datetime64[D]"), return_counts=True)
    clock = clock[days >= min(USUAL_DAYS, days.max())]
    nights = np.diff(clock, append=clock[:1] + DAY)  # the last one spans midnight
    longest = int(nights.argmax())
    if longest == len(clock) - 1 or nights[longest] < SHORTEST_NIGHT:
        return np.timedelta64(0, "us")
    return np.timedelta64(clock[longest] + nights[longest] // 2, "us")


def _mostly(present: Bools, covered: Bools) -> Bools:
    """Return for each column whether more than half of the covered rows have a bar.

    If at most two rows are covered, one row with a bar is enough.
    """
    had, could = (present & covered).sum(axis=0), covered.sum(axis=0)
    mostly: Bools = (2 * had > could) | ((could <= 2) & (had > 0))
    return mostly


def _times_of_weekday(usual: Bools, present: Bools, covered: Bools, of_weekday: Bools) -> Bools:
    """Return one weekday's times of day: the usual times, with the weekday's differences."""
    days = [int(day) for day in np.flatnonzero(of_weekday) if len(present) > 1][-OWN_WEEKS:]
    if not days:
        return usual
    added, removed, could = (np.zeros(len(usual), dtype=int) for _ in range(3))
    for day in days:
        before = slice(max(day - NEIGHBOURS, 0), day) if day else slice(1, 1 + NEIGHBOURS)
        expected = _mostly(present[before], covered[before])
        known = covered[day] & covered[before].any(axis=0)
        could += known
        added += known & present[day] & ~expected
        removed += known & ~present[day] & expected
    times: Bools = (usual | (2 * added > could)) & ~(2 * removed > could)
    return times


def _open_weekdays(wall: Stamps, spacing: np.timedelta64) -> Bools:
    """Return the open weekdays, (7,), Monday first. `wall` must be sorted."""
    days = np.unique(wall.astype("datetime64[D]"))
    passed = np.arange(days[0], days[-1] + DAY)
    traded = np.isin(passed, days)
    # weeks without bars do not count
    near = np.convolve(traded, np.ones(7))[3:-3] > 0
    passed, traded = passed[near], traded[near]
    by_weekday = [traded[weekday(passed) == day] for day in range(7)]
    never_closes = bool(np.diff(wall).max() <= spacing)
    on_sundays = bool(by_weekday[SUNDAY][-RECENT_WEEKS:].any())
    open_ = np.array(
        [_is_open(day, seen, never_closes, on_sundays) for day, seen in enumerate(by_weekday)]
    )
    new = np.array([_changed(seen, to=True, weeks=2) for seen in by_weekday])
    gone = np.array([_changed(seen, to=False, weeks=1) for seen in by_weekday])
    if new.any() and gone.any():  # the market's week has changed
        open_ = (open_ | new) & ~gone
    return open_


def _is_open(day: int, seen: Bools, never_closes: bool, on_sundays: bool) -> bool:
    """Return whether most recent weeks had bars on this weekday.

    In a history of few weeks, one holiday or one stray bar could decide. So a working day counts as
    open, and a day of the weekend as closed, until more weeks disagree.
    """
    if not len(seen):
        return day < SATURDAY or never_closes
    had = int(seen[-RECENT_WEEKS:].sum())
    lacked = len(seen[-RECENT_WEEKS:]) - had
    if day >= SATURDAY:
        return had > lacked
    return had + (0 if on_sundays and not had else 1.5) > lacked


def _changed(seen: Bools, *, to: bool, weeks: int) -> bool:
    """Return whether the last `weeks` weeks are all `to`, and most weeks before them were not."""
    last, before = seen[-weeks:], seen[-weeks - RECENT_WEEKS : -weeks]
    return len(before) >= 2 and bool((last == to).all() and (before == to).mean() < 0.5)


def _weekly(wall: Stamps, spacing: np.timedelta64, count: int) -> Stamps:
    """Step by whole weeks, on the weekday that most bars have."""
    weeks = max(1, round(float(spacing / (7 * DAY))))
    usual = np.bincount(weekday(wall[-10:]), minlength=7).argmax()
    last = wall[-1].astype("datetime64[D]")
    # a holiday may have delayed the newest bar by a day or two
    anchor = last + (int(usual) - int(weekday(wall[-1:])[0]) + 3) % 7 - 3
    clock = wall[-1] - last
    ahead: Stamps = anchor + 7 * weeks * np.arange(1, count + 1) * DAY + clock
    return ahead


def _monthly(wall: Stamps, spacing: np.timedelta64, count: int) -> Stamps | None:
    """Step by whole months: first or last working day, last day, or the same day."""
    months = max(1, round(float(spacing / DAY) / 30.44))
    days = wall.astype("datetime64[D]")
    if days[-1].astype("datetime64[M]").astype(np.int64) + months * count > 12 * 8029:
        return None  # after the year 9998
    month = days[-1].astype("datetime64[M]") + months * np.arange(1, count + 1)
    starts, ends = _first_days(month), _first_days(month + 1) - DAY
    seen = days[-24:]
    seen_start = _first_days(seen.astype("datetime64[M]"))
    seen_end = _first_days(seen.astype("datetime64[M]") + 1) - DAY
    day = int((seen - seen_start).astype(np.int64).max())  # from 0
    at = np.minimum(starts + day, ends)
    # holidays move some bars; if all are on the first or last day of a month, weekends included,
    # the pattern is not one of working days
    if (seen != seen_end).any() and _mostly_equal(seen, _last_working_day(seen_end)):
        at = _last_working_day(ends)
    elif (seen != seen_start).any() and _mostly_equal(seen, _first_working_day(seen_start)):
        at = _first_working_day(starts)
    following: Stamps = at + (wall[-1] - days[-1])
    return following


def _first_days(months: Stamps) -> Stamps:
    return months.astype("datetime64[D]")


def _mostly_equal(days: Stamps, others: Stamps) -> bool:
    return bool(3 * (days == others).sum() >= 2 * len(days))


def _last_working_day(days: Stamps) -> Stamps:
    return np.busday_offset(days.astype("datetime64[D]"), 0, roll="backward", weekmask=WORKDAYS)


def _first_working_day(days: Stamps) -> Stamps:
    return np.busday_offset(days.astype("datetime64[D]"), 0, roll="forward", weekmask=WORKDAYS)


def _steps(wall: Stamps, spacing: np.timedelta64, count: int) -> Stamps:
    """Return equally spaced times. Weekdays without bars are skipped."""
    step = int(spacing.astype(np.int64))
    day = int(DAY / np.timedelta64(1, "us"))
    open_ = [True] * 7
    if spacing <= DAY:
        recent = np.sort(wall[wall > wall.max() - WINDOW * DAY])
        open_ = _open_weekdays(recent, spacing).tolist()
        open_ = open_ if any(open_) else [True] * 7
    moment, limit = int(wall[-1].astype(np.int64)), int(LAST_TIME.astype(np.int64))
    ahead: list[int] = []
    while len(ahead) < count and moment < limit:
        moment += step
        while not open_[(moment // day + 3) % 7]:
            moment += day
        ahead.append(moment)
    return np.array([min(moment, limit) for moment in ahead], dtype=np.int64).view("datetime64[us]")
