"""Candles in, arrays out: checks, normalisation, calendar features, future times. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kronos_space.exceptions import InvalidHistory

Floats = NDArray[np.float64]
Stamps = NDArray[np.datetime64]

COLUMNS = ("open", "high", "low", "close", "volume", "amount")
CLIP = 5.0  # normalised values beyond this many deviations are cut
EPSILON = 1e-5  # added to every deviation, as the model was trained
ROUNDING = 1e-6  # data vendors' adjusted prices may disagree by this much of their size

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


@dataclass(frozen=True)
class History:
    """The candles of one ticker, checked. values: float64 (bars, 6), columns as in COLUMNS."""

    times: Times
    values: Floats

    def newest(self, bars: int) -> "History":
        """The last `bars` rows."""
        return History(self.times.newest(bars), self.values[-bars:])


@dataclass(frozen=True)
class Scale:
    """How one history was normalised. mean, std: float32 or float64 (6,)."""

    mean: NDArray[np.floating]
    std: NDArray[np.floating]

    def restore(self, bars: NDArray[np.float32]) -> Floats:
        """Normalised bars (..., 6) -> prices and volumes (..., 6); nothing is clipped."""
        return bars.astype(np.float64) * (self.std.astype(np.float64) + EPSILON) + self.mean


def history_from_rows(rows: Sequence[Mapping[str, Any]]) -> History:
    """Rows with `timestamp` and numbers -> History. Raises InvalidHistory naming the first bad row.

    Volume, and amount, stand in every row or in none. No volume: both columns are 0. No amount:
    volume times the mean of the four prices.
    """
    present = [name for name in COLUMNS if _in_every_row(rows, name)]
    if "amount" in present and "volume" not in present:
        raise InvalidHistory("amount is given without volume: send both, or volume alone")
    values = np.zeros((len(rows), len(COLUMNS)))
    values[:, [COLUMNS.index(name) for name in present]] = list(map(itemgetter(*present), rows))
    _check_candles(values)
    if "volume" in present and "amount" not in present:
        values[:, 5] = values[:, 4] * values[:, :4].mean(axis=1)
    times = parse_times([row["timestamp"] for row in rows])
    return History(times, values)


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


def normalise(values: Floats) -> tuple[NDArray[np.float32], Scale]:
    """Each column less its mean, by its deviation, clipped -> float32 (bars, 6) and the Scale.

    In float32, and column by column in memory, as the reference does it: a bar whose bit lies
    within rounding of zero then gets the same token. Numbers that are too large for that are
    worked out in float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.asfortranarray(values, dtype=np.float32)
        scale = Scale(narrow.mean(axis=0), narrow.std(axis=0))
        normal = (narrow - scale.mean) / (scale.std + np.float32(EPSILON))
    if not np.isfinite(scale.std).all():
        scale = Scale(values.mean(axis=0), values.std(axis=0))
        normal = (values - scale.mean) / (scale.std + EPSILON)
    return np.ascontiguousarray(normal.clip(-CLIP, CLIP), dtype=np.float32), scale


def time_features(wall: Stamps) -> NDArray[np.int64]:
    """(n,) wall times -> int64 (n, 5): minute, hour, weekday (Monday 0), day, month."""
    days = wall.astype("datetime64[D]")
    months = wall.astype("datetime64[M]")
    minutes = (wall - days).astype("timedelta64[m]").astype(np.int64)
    day = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    month = months.astype(np.int64) % 12 + 1
    return np.stack([minutes % 60, minutes // 60, _weekday(days), day, month], axis=1)


def repair(bars: Floats, floor: float) -> Floats:
    """Make every bar (..., >=5) a possible candle: prices >= floor, high and low outermost."""
    bars = bars.copy()
    np.maximum(bars[..., :4], floor, out=bars[..., :4])
    np.maximum(bars[..., 4:], 0.0, out=bars[..., 4:])
    body = bars[..., [0, 3]]
    bars[..., 1] = np.maximum(bars[..., 1], body.max(axis=-1))
    bars[..., 2] = np.minimum(bars[..., 2], body.min(axis=-1))
    return bars


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


def _in_every_row(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    has = [name in row for row in rows]
    if all(has) or not any(has):
        return has[0]
    row = has.index(not has[0])
    state = "has no" if has[0] else "has a"
    raise InvalidHistory(f"row {row}: {state} {name}, unlike row 0; send it in all rows or in none")


def _check_candles(values: Floats) -> None:
    open_, high, low, close = values[:, :4].T
    above, below = 1 + ROUNDING, 1 - ROUNDING
    rules = [
        (high < low * below, high, "high", "below low", low),
        (high < open_ * below, high, "high", "below open", open_),
        (high < close * below, high, "high", "below close", close),
        (low > open_ * above, low, "low", "above open", open_),
        (low > close * above, low, "low", "above close", close),
    ]
    wrong = [(int(bad.argmax()), *rule) for bad, *rule in rules if bad.any()]
    if wrong:
        row, column, name, relation, other = min(wrong, key=itemgetter(0))
        raise InvalidHistory(f"row {row}: {name} {column[row]} is {relation} {other[row]}")


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
    return starts + np.minimum(day, lengths) - 1 + time_of_day


def _steps(wall: Stamps, spacing: np.timedelta64, count: int) -> Stamps:
    """Equal steps over the weekdays that have bars."""
    reach = count * 7 + 7  # one open weekday of seven is enough
    ahead = wall[-1] + spacing * np.arange(1, reach + 1)
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
    return ahead[ahead > wall[-1]][:count]
