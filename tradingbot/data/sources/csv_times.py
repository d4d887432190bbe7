"""Parse times in common formats: 2026-11-20, 20.11.2026 15:30, Nov 20, 2026, 1795132800.

A file whose dates are all ambiguous is refused: 03/04/2026 may be in March or in April.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?\s?(Z|[+-]\d\d(:?\d\d)?)?)?")
_BY_PROGRAM = re.compile(r".{10}T.*|.{10} .*(Z|[+-]\d\d(:?\d\d)?)")
_COMPACT = re.compile(  # 20260102, 202601021530, 20260102153000
    r"(?P<y>(?:19|20)\d\d)(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])"
    r"(?P<rest>(?:(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?)?)"
)
_EPOCH = re.compile(r"(\d{9,19})(?:\.0*)?")  # seconds, milli-, micro- or nanoseconds
_YEAR = r"(?P<y>\d{4}|\d\d)"
_MONTH = r"(?P<m>[^\W\d_]{3,})"
_REST = r"(?:[T,\s]\s*(?P<rest>.*))?"
# Formats of dates. All rows together decide whether a or b is the month.
_SHAPES = [
    re.compile(rf"(?P<y>\d{{4}})(?P<s>[-/.])(?P<m>\d\d?)(?P=s)(?P<d>\d\d?){_REST}"),
    re.compile(rf"(?P<y>\d{{4}})(?P<m>\d\d)(?P<d>\d\d){_REST}"),
    re.compile(rf"(?P<d>\d\d?)\.\s?(?P<m>\d\d?)\.\s?{_YEAR}{_REST}"),
    re.compile(rf"(?P<a>\d\d?)(?P<s>[-/])(?P<b>\d\d?)(?P=s){_YEAR}{_REST}"),
    re.compile(rf"(?:[^\W\d_]+,? )?{_MONTH}\.? (?P<d>\d\d?),? (?P<y>\d{{4}}){_REST}"),
    re.compile(rf"(?:[^\W\d_]+,? )?(?P<d>\d\d?)\.?(?P<s>[-/\s]){_MONTH}\.?(?P=s){_YEAR}{_REST}"),
]
_CLOCK = re.compile(
    r"(?P<h>\d\d?):(?P<min>\d\d)(?::(?P<s>\d\d)(?:[.,]\d+)?)?\s*(?P<half>[AP]M)?\s*"
    r"(?P<zone>Z|(?:GMT|UTC)?(?:[+-]\d\d(?::?\d\d)?)?)",
    re.IGNORECASE,
)
_DIGIT_CLOCK = re.compile(r"(?P<h>[01]\d|2[0-3])(?P<min>[0-5]\d)(?P<s>[0-5]\d)?")  # 170000
_HOUR = re.compile(r"(?P<h>\d\d?)[-\s]?(?P<half>[AP]M)", re.IGNORECASE)  # 09-AM
# English, German, French, Spanish, Portuguese, Italian, Dutch, Polish; without accents
_MONTHS = {
    name: month
    for month, names in enumerate(
        (
            *("jan ene gen sty", "feb fev lut", "mar mrz mrt", "apr abr avr kwi"),
            *("may mai mag mei maj", "jun juin giu cze", "jul juil lug lip"),
            *("aug ago aou sie", "sep set wrz", "oct okt out ott paz", "nov lis"),
            "dec dez dic gru",
        ),
        start=1,
    )
    for name in names.split()
}


@dataclass(frozen=True)
class Times:
    """The times of a file's rows."""

    day: pd.Series  # midnight of the date as written; NaT: unreadable
    instant: pd.Series  # naive UTC; as written if there is no zone
    zoned: bool  # whether the times have a zone, or are epochs
    like: str  # the first time as an example of the format of all times
    by_program: bool  # whether only programs write this format


class AmbiguousDates(Exception):
    """The dates of all rows are ambiguous. `position` is that of the first with two readings."""

    def __init__(self, position: int, text: str) -> None:
        super().__init__(text)
        self.position = position


def is_time(text: str) -> bool:
    """Return whether `text` is a date, with or without a time of day, or an epoch."""
    return any(shape.fullmatch(text) for shape in (_ISO, _COMPACT, _EPOCH, *_SHAPES))


def is_clock(text: str) -> bool:
    """Return whether `text` is a time of day."""
    return bool(_CLOCK.fullmatch(text) or _DIGIT_CLOCK.fullmatch(text))


def padded_clock(text: str) -> str:
    """Return a time of day in digits with leading zeros added: 930 -> 0930, 90000 -> 090000."""
    return text.zfill(4 if len(text) < 5 else 6) if re.fullmatch(r"\d{1,5}", text) else text


def read_times(texts: Sequence[str]) -> Times:
    """Read the times of all rows, which must have the format of the first.

    Raises:
        AmbiguousDates: Day and month are ambiguous.
    """
    first = texts[0]
    if _ISO.fullmatch(first):
        return _from_iso(texts, "2024-01-31", by_program=bool(_BY_PROGRAM.fullmatch(first)))
    if all(map(_COMPACT.fullmatch, texts)):
        return _from_iso([_spelled(text, _COMPACT) for text in texts], first)
    if _EPOCH.fullmatch(first):
        return _from_epochs(texts)
    shape = next((shape for shape in _SHAPES if shape.fullmatch(first)), _ISO)
    day_first = "a" in shape.groupindex and _day_first(texts, shape)
    return _from_iso([_spelled(text, shape, day_first=day_first) for text in texts], first)


def _from_iso(texts: Sequence[str], like: str, *, by_program: bool = False) -> Times:
    written = pd.Series(texts, dtype="object")
    day = pd.to_datetime(written.str[:10], format="%Y-%m-%d", errors="coerce")
    instant = pd.to_datetime(
        written.str.replace(",", "."), format="ISO8601", errors="coerce", utc=True
    ).dt.tz_localize(None)
    zoned = np.array(["Z" in text or "+" in text or text.count("-") > 2 for text in texts])
    instant = instant.where(zoned == zoned[0])  # all times have a zone, or none
    return Times(day.where(instant.notna()), instant, bool(zoned[0]), like, by_program)


def _from_epochs(texts: Sequence[str]) -> Times:
    """Convert epochs: 10 digits are seconds, 13 milli-, 16 micro-, 19 nanoseconds, even mixed."""
    found = [_EPOCH.fullmatch(text) for text in texts]
    micros = [_microseconds(match[1]) if match else 0 for match in found]
    instant = pd.Series(pd.to_datetime(np.array(micros, dtype="int64"), unit="us"))
    instant = instant.where(np.array([match is not None for match in found]))
    return Times(instant.dt.normalize(), instant, zoned=True, like=texts[0], by_program=True)


def _microseconds(digits: str) -> int:
    for limit, factor in ((10, 10**6), (13, 10**3), (16, 1)):
        if len(digits) <= limit:
            return int(digits) * factor
    return int(digits) // 1000


def _spelled(text: str, shape: re.Pattern[str], *, day_first: bool = False) -> str:
    """Return the time in ISO 8601, or "" if it does not have that format."""
    found = shape.fullmatch(text)
    if found is None or shape is _ISO:
        return ""
    parts = found.groupdict()
    if "a" in parts:
        parts["d"], parts["m"] = (parts["a"], parts["b"]) if day_first else (parts["b"], parts["a"])
    clock = _spelled_clock(parts["rest"] or "")
    if clock is None:
        return ""
    return f"{_year(parts['y']):04}-{_month(parts['m']):02}-{int(parts['d']):02}{clock}"


def _spelled_clock(text: str) -> str | None:
    """Return the time of day in ISO 8601: 4:05 PM -> T16:05:00; "" for none; None if invalid."""
    text = text.strip()
    if not text:
        return ""
    text = padded_clock(text)
    found = _CLOCK.fullmatch(text) or _DIGIT_CLOCK.fullmatch(text) or _HOUR.fullmatch(text)
    if found is None:
        return None
    parts = found.groupdict()
    hour = int(parts["h"])
    if half := parts.get("half"):
        hour = hour % 12 + (12 if half.upper() == "PM" else 0)
    zone = re.sub("GMT|UTC", "", parts.get("zone") or "", flags=re.IGNORECASE) or (
        "Z" if parts.get("zone") else ""
    )
    return f"T{hour:02}:{parts.get('min') or '00'}:{parts.get('s') or '00'}{zone.upper()}"


def _month(text: str) -> int:
    """Return 1 to 12, or 0 if it is not a month."""
    if text.isdigit():
        return int(text)
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return _MONTHS.get(plain[:4], _MONTHS.get(plain[:3], 0))


def _year(text: str) -> int:
    """Return the year. A year of two digits is in 1970 to 2069."""
    year = int(text)
    return year if len(text) == 4 else year + (1900 if year >= 70 else 2000)


def _day_first(texts: Sequence[str], shape: re.Pattern[str]) -> bool:
    """Return whether the day precedes the month: whether 05/01/2026 is in January.

    Rows with a day above 12 decide, or else the order of the rows.
    """
    found = [match for text in texts if (match := shape.fullmatch(text))]
    rows = [i for i, text in enumerate(texts) if shape.fullmatch(text)]
    possible: dict[bool, list[date]] = {}
    for day_first in (True, False):
        days = [_date(match, day_first=day_first) for match in found]
        if None not in days:
            possible[day_first] = [day for day in days if day is not None]
    if not possible:  # the invalid row is reported later
        return max(int(match["a"]) for match in found) > 12
    ordered = {
        day_first: days
        for day_first, days in possible.items()
        if days in (sorted(days), sorted(days, reverse=True))
    }
    left = ordered if len(ordered) == 1 else possible
    first, second = next(iter(left.values())), next(reversed(left.values()))
    for row, by_day, by_month in zip(rows, first, second, strict=True):
        if by_day != by_month:
            raise AmbiguousDates(
                row,
                f"is an ambiguous date: it may be {by_day.day} {by_day:%B} or "
                f"{by_month.day} {by_month:%B}; write {by_day} or {by_month}",
            )
    return next(iter(left))


def _date(match: re.Match[str], *, day_first: bool) -> date | None:
    day, month = (match["a"], match["b"]) if day_first else (match["b"], match["a"])
    try:
        return date(_year(match["y"]), int(month), int(day))
    except ValueError:
        return None
