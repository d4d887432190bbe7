"""Timestamps of candles: parsing ISO 8601, calendar features, and the next timestamps.

Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from kronos_space.exceptions import InvalidHistory
from kronos_space.forecasting.bar_schedule import Stamps, upcoming_times, weekday

__all__ = ["Stamps", "Times", "inferred_times", "next_times", "parse_times", "time_features"]


@dataclass(frozen=True)
class Times:
    """Points in time as written in the request."""

    wall: Stamps  # datetime64[us] (n,): wall times at the exchange
    # timedelta64[m] (n,): how far wall time is ahead of UTC; None if the times have no zone
    offset: NDArray[np.timedelta64] | None

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


def parse_times(texts: Sequence[str], *, noun: str = "row") -> Times:
    """Parse ISO 8601 texts.

    Raises:
        InvalidHistory: A date does not exist, the times are not strictly increasing, or only some
            of the texts have a zone.
    """
    clocks, zones = zip(*map(_split_zone, texts), strict=True)
    try:
        wall = np.array(clocks, dtype="datetime64[us]")
    except ValueError:
        raise InvalidHistory(_first_impossible_date(texts, noun)) from None
    aware = [zone != "" for zone in zones]
    if any(aware) and not all(aware):
        row = aware.index(not aware[0])
        has = "a zone" if aware[row] else "no zone"
        raise InvalidHistory(
            f"{noun} {row}: timestamp {texts[row]} has {has}, unlike {noun} 0; "
            "give all timestamps a zone, or none"
        )
    minutes = {zone: _zone_minutes(zone) for zone in set(zones)}
    offset = np.array([minutes[zone] for zone in zones], "timedelta64[m]") if aware[0] else None
    times = Times(wall, offset)
    early = np.flatnonzero(np.diff(times.instant) <= np.timedelta64(0))
    if early.size:
        row = int(early[0]) + 1
        raise InvalidHistory(
            f"{noun} {row}: timestamp {texts[row]} is not after {texts[row - 1]} before it"
        )
    return times


def time_features(wall: Stamps) -> NDArray[np.int64]:
    """Return minute, hour, weekday (Monday is 0), day and month of each time.

    `wall` has the shape (n,), the result is int64 (n, 5).
    """
    days = wall.astype("datetime64[D]")
    months = wall.astype("datetime64[M]")
    minutes = (wall - days).astype("timedelta64[m]").astype(np.int64)
    day = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    month = months.astype(np.int64) % 12 + 1
    return np.stack([minutes % 60, minutes // 60, weekday(days), day, month], axis=1)


def next_times(history: Times, count: int) -> Times:
    """Return the `count` next timestamps, inferred from the history."""
    return inferred_times(history, count)[0]


def inferred_times(history: Times, count: int) -> tuple[Times, str | None]:
    """Return `next_times`, and a warning if the history shows no pattern. See `bar_schedule`.

    New timestamps have the last bar's zone.

    Raises:
        InvalidHistory: The bars are centuries apart.
    """
    ahead = upcoming_times(history.wall, history.instant, count)
    if ahead is None:
        raise InvalidHistory("the bars are too far apart to infer the next ones")
    offset = None if history.offset is None else np.repeat(history.offset[-1:], count)
    warning = None
    if not ahead.found:
        warning = (
            "the history shows no pattern of weekdays and times: the next bars are spaced by "
            f"{ahead.spacing.item()}; send target_timestamps for better ones"
        )
    return Times(ahead.times, offset), warning


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


def _first_impossible_date(texts: Sequence[str], noun: str) -> str:
    for row, text in enumerate(texts):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            return f"{noun} {row}: timestamp {text} does not exist"
    return f"a {noun} has a timestamp that is not a date and time"
