"""When the candles are: ISO 8601 texts, calendar features, and the times that come next.

No torch here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from kronos_space.exceptions import InvalidHistory

Stamps = NDArray[np.datetime64]

_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Times:
    """Points in time as they were written."""

    wall: Stamps  # datetime64[us] (n,): what a clock on the exchange's wall shows
    offset: NDArray[np.timedelta64] | None  # timedelta64[m] (n,) ahead of UTC; None: no zones

    @property
    def instant(self) -> Stamps:
        return self.wall if self.offset is None else self.wall - self.offset

    def newest(self, count: int) -> "Times":
        return Times(self.wall[-count:], None if self.offset is None else self.offset[-count:])

    def isoformat(self) -> list[str]:
        texts = [moment.isoformat() for moment in self.wall.tolist()]
        if self.offset is None:
            return texts
        minutes = self.offset.astype(int).tolist()
        return [text + _zone(offset) for text, offset in zip(texts, minutes, strict=True)]


def parse_times(texts: Sequence[str], *, what: str = "row") -> Times:
    """ISO 8601 texts, strictly increasing, all with a zone or all without -> Times."""
    clocks, zones = zip(*map(_split_zone, texts), strict=True)
    try:
        wall = np.array(clocks, dtype="datetime64[us]")
    except ValueError:
        raise InvalidHistory(_first_impossible_date(texts, what)) from None
    aware = [zone != "" for zone in zones]
    if any(aware) and not all(aware):
        row = aware.index(not aware[0])
        has = "a zone" if aware[row] else "no zone"
        raise InvalidHistory(
            f"{what} {row}: timestamp {texts[row]} has {has}, unlike {what} 0; "
            "give all timestamps a zone, or none"
        )
    minutes = {zone: _zone_minutes(zone) for zone in set(zones)}
    offset = np.array([minutes[zone] for zone in zones], "timedelta64[m]") if aware[0] else None
    times = Times(wall, offset)
    early = np.flatnonzero(np.diff(times.instant) <= np.timedelta64(0))
    if early.size:
        row = int(early[0]) + 1
        raise InvalidHistory(
            f"{what} {row}: timestamp {texts[row]} is not after {texts[row - 1]} before it"
        )
    return times


def time_features(wall: Stamps) -> NDArray[np.int64]:
    """(n,) wall times -> int64 (n, 5): minute, hour, weekday (Monday 0), day, month."""
    days = wall.astype("datetime64[D]")
    months = wall.astype("datetime64[M]")
    minutes = (wall - days).astype("timedelta64[m]").astype(np.int64)
    day = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    month = months.astype(np.int64) % 12 + 1
    return np.stack([minutes % 60, minutes // 60, _weekday(days), day, month], axis=1)


def next_times(history: Times, count: int) -> Times:
    """The `count` times that would follow the history, from what it shows of its market.

    The spacing is the commonest one (irregular bars: the median). Weekdays that the history
    passed without a bar are skipped, and so are, for intraday bars, the times of day that had
    none on most of the last days. Bars of a month or more keep their day of the month.
    New times have the last bar's zone.
    """
    wall = history.wall
    gaps, counts = np.unique(np.diff(wall), return_counts=True)
    regular = 4 * counts.max() >= len(wall)
    spacing = gaps[counts.argmax()] if regular else np.median(np.diff(wall))
    if spacing >= 28 * _DAY:
        ahead = _monthly(wall, spacing, count)
    elif regular and spacing < _DAY and wall[-1] - wall[0] >= _DAY:
        ahead = _sessions(wall, count)
    else:
        ahead = _steps(wall, spacing, count)
    offset = None if history.offset is None else np.repeat(history.offset[-1:], count)
    if ahead[-1] >= np.datetime64("9999-01-01"):
        raise InvalidHistory("the bars are too far apart to tell which come next")
    return Times(ahead.astype("datetime64[us]"), offset)


def _split_zone(text: str) -> tuple[str, str]:
    for mark in "Z+-":
        at = text.find(mark, 10)
        if at > 0:
            return text[:at], text[at:]
    return text, ""


def _zone_minutes(zone: str) -> int:
    if zone in ("", "Z"):
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return -minutes if zone[0] == "-" else minutes


def _zone(minutes: int) -> str:
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _first_impossible_date(texts: Sequence[str], what: str) -> str:
    for row, text in enumerate(texts):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            return f"{what} {row}: timestamp {text} is no date and time that exists"
    return f"a {what} has a timestamp that is no date and time"


def _weekday(days: Stamps) -> NDArray[np.int64]:
    return (days.astype("datetime64[D]").astype(np.int64) + 3) % 7  # day 0 was a Thursday


def _closed_weekdays(wall: Stamps) -> NDArray[np.int64]:
    """Weekdays that lie within the history and have no bar."""
    passed = _weekday(np.arange(wall[0].astype("datetime64[D]"), wall[-1].astype("datetime64[D]")))
    closed = np.setdiff1d(passed, _weekday(wall))
    intraday_gaps = np.diff(wall).max() > np.diff(wall).min() and wall[-1] - wall[0] < 7 * _DAY
    if intraday_gaps:  # a few sessions only: a market that closes at night closes at weekends
        closed = np.union1d(closed, np.setdiff1d([5, 6], np.union1d(passed, _weekday(wall[-1:]))))
    return closed


def _monthly(wall: Stamps, spacing: np.timedelta64, count: int) -> Stamps:
    """Steps of whole months; the day is the history's latest one, or the month's last."""
    months = max(1, round(float(spacing / _DAY) / 30.44))
    month = wall[-1].astype("datetime64[M]") + months * np.arange(1, count + 1)
    day = time_features(wall)[:, 3].max()
    starts = month.astype("datetime64[D]")
    lengths = ((month + 1).astype("datetime64[D]") - starts).astype(np.int64)
    time_of_day = wall[-1] - wall[-1].astype("datetime64[D]")
    ahead: Stamps = starts + np.minimum(day, lengths) - 1 + time_of_day
    return ahead


def _steps(wall: Stamps, spacing: np.timedelta64, count: int) -> Stamps:
    """Equal steps over the weekdays that have bars."""
    reach = count * 7 + 7  # one open weekday of seven is enough
    ahead: Stamps = wall[-1] + spacing * np.arange(1, reach + 1)
    if spacing <= _DAY:
        ahead = ahead[~np.isin(_weekday(ahead), _closed_weekdays(wall))]
    return ahead[:count]


def _sessions(wall: Stamps, count: int) -> Stamps:
    """The times of day that usually have a bar, on the weekdays that have bars."""
    days = np.unique(wall.astype("datetime64[D]"))[-10:]
    recent = wall[wall >= days[0]]
    slots = np.unique(recent - recent.astype("datetime64[D]"))
    grid = days[:, None] + slots
    passed = ((grid >= wall[0]) & (grid <= wall[-1])).sum(axis=0)
    slots = slots[2 * np.isin(grid, recent).sum(axis=0) >= passed]
    reach = (count // len(slots) + 2) * 7
    ahead_days = wall[-1].astype("datetime64[D]") + np.arange(reach)
    ahead_days = ahead_days[~np.isin(_weekday(ahead_days), _closed_weekdays(wall))]
    ahead = (ahead_days[:, None] + slots).ravel()
    ahead_of_history: Stamps = ahead[ahead > wall[-1]]
    return ahead_of_history[:count]
