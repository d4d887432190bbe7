"""Parse events on sample paths, and describe in one line what is wrong with an invalid text.

    event = parse_event(" Touch  +2 %")
    event.text  # "touch +2%"
    event.check(last_close)  # a level may make no sense for one ticker

`chances` judges events by bars. This module loads no numpy, because every start of a command
reads the events among its settings. It is the same file in kronos_space and in tradingbot, which
may not import each other.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_EVENTS = 20  # per forecast
MAX_MOVE = 10_000.0  # per cent

_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,8})?"
_PLACES = {
    "LEVEL": rf"([+-]?{_NUMBER} ?%|{_NUMBER})",
    "MOVE": rf"([+-]?{_NUMBER} ?%)",
    "SIZE": rf"({_NUMBER} ?%)",
}
KINDS = (
    "touch LEVEL",
    "reach LEVEL before LEVEL",
    "close above LEVEL",
    "close below LEVEL",
    "return between MOVE and MOVE",
    "drawdown above SIZE",
    "range above SIZE",
)
GRAMMAR = (
    f"{', '.join(KINDS[:-1])} or {KINDS[-1]}; a LEVEL is a price such as 105.5 or a MOVE, "
    "a MOVE is from the last close, such as +2% or -1.5%, and a SIZE such as 5%"
)
_OF_CLOSES = ("close above LEVEL", "close below LEVEL", "return between MOVE and MOVE")


@dataclass(frozen=True)
class Level:
    """A price, or a move from the last close in per cent."""

    number: float
    is_move: bool

    @overload
    def price(self, last_close: float) -> float: ...

    @overload
    def price(self, last_close: "NDArray[np.float64]") -> "float | NDArray[np.float64]": ...

    def price(self, last_close: "float | NDArray[np.float64]") -> "float | NDArray[np.float64]":
        return last_close * (1 + self.number / 100) if self.is_move else self.number


@dataclass(frozen=True)
class Event:
    """One event. `text` is its normalised name: lower case, single spaces."""

    text: str
    kind: str  # one of KINDS
    levels: tuple[Level, ...]

    def __str__(self) -> str:
        return self.text

    @property
    def is_of_closes(self) -> bool:
        """Return whether the event depends on the step's close alone, not on the path to it."""
        return self.kind in _OF_CLOSES

    def check(self, last_close: float) -> None:
        """Raise ValueError if the event makes no sense for a ticker with this last close."""
        if self.kind == "reach LEVEL before LEVEL":
            first, second = (level.price(last_close) for level in self.levels)
            if not min(first, second) < last_close < max(first, second):
                raise ValueError(
                    f"event {self.text!r}: expected one level above and one below the last close, "
                    f"{last_close:g}"
                )


def parse_events(events: str | Iterable[str], *, prices: bool = True) -> tuple[Event, ...]:
    """Parse events from texts, or from one text separated by commas. Duplicates are removed.

    Raises:
        ValueError: A text is not an event, there are more than MAX_EVENTS, or, without `prices`, an
            event names a price, which cannot apply to several tickers.
    """
    if isinstance(events, str):
        events = [part.strip() for part in events.split(",") if part.strip()]
    texts = list(events)
    if len(texts) > MAX_EVENTS:
        raise ValueError(too_many(len(texts)))
    found = tuple({event.text: event for event in map(parse_event, texts)}.values())
    for event in found:
        if not prices and not all(level.is_move for level in event.levels):
            raise ValueError(
                f"event {event.text!r}: expected moves such as +2%, not a price: the same "
                "price is a different move for each ticker"
            )
    return found


def too_many(count: int) -> str:
    """Return the error message for more than MAX_EVENTS events."""
    return (
        f"{count} events: expected at most {MAX_EVENTS}; a second request with the same seed asks "
        "others of the same paths"
    )


def parse_event(text: str) -> Event:
    """Parse one event: ' Touch  +2 %' -> Event('touch +2%', …). Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"event {text!r}: expected a text: {GRAMMAR}")
    words = " ".join(text.replace("\N{MINUS SIGN}", "-").lower().split())
    for kind in KINDS if len(words) <= 100 else ():
        pattern = re.sub("LEVEL|MOVE|SIZE", lambda place: _PLACES[place[0]], kind)
        if match := re.fullmatch(pattern, words):
            levels = tuple(map(_level, match.groups()))
            event = Event(_name(kind, levels), kind, levels)
            if fault := _fault(kind, levels):
                raise ValueError(f"event {text!r}: expected {fault}")
            return event
    shown = text if len(text) <= 60 else text[:60] + "…"
    raise ValueError(f"event {shown!r}: expected {GRAMMAR}")


# parsing -----------------------------------------------------------------------------------------


def _level(text: str) -> Level:
    return Level(float(text.rstrip(" %")), text.endswith("%"))


def _name(kind: str, levels: Sequence[Level]) -> str:
    """Return the kind with its levels: touch +2%, close above 105.5, range above 4%."""
    texts = iter(levels)

    def put(place: re.Match[str]) -> str:
        level = next(texts)
        number = _decimal(abs(level.number))
        sign = "-" if level.number < 0 else "+"
        if not level.is_move:
            return number
        return f"{number}%" if place[0] == "SIZE" or not level.number else f"{sign}{number}%"

    return re.sub("LEVEL|MOVE|SIZE", put, kind)


def _decimal(number: float) -> str:
    """Return a number without an exponent and without trailing zeros: 1e-08 -> 0.00000001."""
    text = f"{Decimal(repr(number)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _fault(kind: str, levels: Sequence[Level]) -> str | None:
    """Return which levels the kind expects if these are wrong, or None."""
    numbers = [level.number for level in levels]
    if any(level.is_move and not -100 < level.number <= MAX_MOVE for level in levels):
        return f"moves above -100% and up to {MAX_MOVE:g}%"
    if any(not level.is_move and level.number <= 0 for level in levels):
        return "prices above 0"
    if kind == "return between MOVE and MOVE":
        return None if numbers[0] < numbers[1] else "the smaller move first"
    if kind == "drawdown above SIZE":
        return None if 0 < numbers[0] < 100 else "a size between 0% and 100%"
    if kind in ("touch LEVEL", "range above SIZE"):
        return None if numbers[0] else "another size than 0%: the price is already there"
    if kind == "reach LEVEL before LEVEL" and all(level.is_move for level in levels):
        return None if numbers[0] * numbers[1] < 0 else "one move up and one down"
    return None
