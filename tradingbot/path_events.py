"""Events on sample paths: a level touched, one level reached before another, the largest drawdown.

    event = parse_event("reach +3% before -2%")
    event.happened(bars, last_close)  # (paths, steps): by the end of each step
    chances([event], bars, last_close)  # its share of the paths, with the Monte Carlo error

An event counts as happened only if the bars prove it. Within a bar, only the open (first) and the
close (last) have a known order; the order of high and low is unknown. Realised and forecast events
are judged by the same rule.

This module is the same file in kronos_space and in tradingbot, which may not import each other.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_EVENTS = 20  # per forecast
MAX_MOVE = 10_000.0  # per cent
ROUNDING = 1e-9  # relative to a price: smaller differences count as equal
OPEN, HIGH, LOW, CLOSE = range(4)

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
_Z = 1.959963984540054  # normal quantile of a 95 % interval

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Level:
    """A price, or a move from the last close in per cent."""

    number: float
    is_move: bool

    def price(self, last_close: float | Floats) -> Floats:
        scale = last_close if self.is_move else 1.0
        return np.asarray(scale * (1 + self.number / 100 if self.is_move else self.number))


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

    def happened(self, bars: Floats, last_close: float | Floats) -> Flags:
        """Return whether the event has happened by the end of each step.

        Args:
            bars: (..., steps, 4 or more) with open, high, low and close, prices above 0. After the
                first bar of NaN nothing new happens.
            last_close: The price before the first step, or one per path, (..., 1).

        Returns:
            (..., steps)
        """
        prices = [level.price(last_close) for level in self.levels]
        closes = bars[..., CLOSE]
        match self.kind:
            case "touch LEVEL":
                return np.logical_or.accumulate(_hit(bars, prices[0], last_close), axis=-1)
            case "reach LEVEL before LEVEL":
                return _reached_first(bars, prices[0], prices[1], last_close)
            case "close above LEVEL":
                return closes > prices[0] * (1 + ROUNDING)
            case "close below LEVEL":
                return closes < prices[0] * (1 - ROUNDING)
            case "return between MOVE and MOVE":
                low, high = prices[0] * (1 - ROUNDING), prices[1] * (1 + ROUNDING)
                return (closes >= low) & (closes <= high)
        sizes = self.sizes(bars, last_close)
        assert sizes is not None  # always set for the two remaining kinds
        return sizes > self.levels[0].number + 100 * ROUNDING

    def sizes(self, bars: Floats, last_close: float | Floats) -> Floats | None:
        """Return the drawdown or range by the end of each step, (..., steps), in per cent; or None.

        The drawdown is the largest fall from a peak to a later price, as a share of the peak; the
        last close counts as a peak. The range is the highest high minus the lowest low, as a share
        of the last close.
        """
        if self.kind == "drawdown above SIZE":
            return 100 * _drawdowns(bars, last_close)
        if self.kind == "range above SIZE":
            highest = np.maximum.accumulate(bars[..., HIGH], axis=-1)
            lowest = np.minimum.accumulate(bars[..., LOW], axis=-1)
            return np.asarray(100 * (highest - lowest) / last_close)
        return None


@dataclass(frozen=True)
class EventChance:
    """Probability of an event by the end of each step: the share of the paths.

    `low` and `high` bound the 95 % interval of the Monte Carlo error alone, which comes from the
    number of paths (Wilson's interval: 0 of 50 paths gives 0 to 7 %).
    """

    event: str
    probability: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...] | None = None  # mean drawdown or range of the paths, in per cent
    mean_error: tuple[float, ...] | None = None  # its standard error; None for a single path


def chances(events: Sequence[Event], paths: Floats, last_close: float) -> tuple[EventChance, ...]:
    """Return the chance of each event. paths: (paths, steps, 4 or more): open, high, low, close."""
    return tuple(_chance(event, paths, last_close) for event in events)


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
                f"event {event.text!r}: expected moves such as +2%, not a price, which is another "
                "move for each ticker"
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
        number = np.format_float_positional(abs(level.number), trim="-")
        sign = "-" if level.number < 0 else "+"
        if not level.is_move:
            return number
        return f"{number}%" if place[0] == "SIZE" or not level.number else f"{sign}{number}%"

    return re.sub("LEVEL|MOVE|SIZE", put, kind)


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


# what the bars prove -----------------------------------------------------------------------------


def _hit(bars: Floats, price: Floats, last_close: float | Floats) -> Flags:
    """Return which bars reach a price from the last close's side."""
    rises = bars[..., HIGH] >= price * (1 - ROUNDING)
    falls = bars[..., LOW] <= price * (1 + ROUNDING)
    return np.asarray(np.where(price >= last_close, rises, falls))


def _reached_first(
    bars: Floats, first: Floats, second: Floats, last_close: float | Floats
) -> Flags:
    """Decide a bar that reaches both levels: the first counts only if the bar opens beyond it."""
    hits, stops = _hit(bars, first, last_close), _hit(bars, second, last_close)
    opens = np.repeat(bars[..., [OPEN]], CLOSE + 1, axis=-1)
    proven = hits & (~stops | _hit(opens, first, last_close))
    decided = hits | stops
    deciding = decided & (np.cumsum(decided, axis=-1) == 1)
    return np.logical_or.accumulate(deciding & proven, axis=-1)


def _drawdowns(bars: Floats, last_close: float | Floats) -> Floats:
    """Return drawdowns as shares, (..., steps). A bar's low is compared with earlier peaks."""
    high = bars[..., HIGH]
    before = np.concatenate([np.full_like(high[..., :1], last_close), high[..., :-1]], axis=-1)
    before = np.maximum(np.maximum.accumulate(before, axis=-1), bars[..., OPEN])
    to_low = 1 - bars[..., LOW] / before
    to_close = 1 - bars[..., CLOSE] / np.maximum(before, high)
    return np.maximum.accumulate(np.maximum(np.maximum(to_low, to_close), 0.0), axis=-1)


# shares of paths ---------------------------------------------------------------------------------


def _chance(event: Event, paths: Floats, last_close: float) -> EventChance:
    share = event.happened(paths, last_close).mean(axis=0)
    sizes = event.sizes(paths, last_close)
    mean = error = None
    if sizes is not None:
        mean = tuple(sizes.mean(axis=0).tolist())
        if len(paths) > 1:
            error = tuple((sizes.std(axis=0, ddof=1) / len(paths) ** 0.5).tolist())
    interval = wilson(share, len(paths))
    probability, low, high = (tuple(values.tolist()) for values in (share, *interval))
    return EventChance(event.text, probability, low, high, mean, error)


def wilson(share: Floats, n: int) -> tuple[Floats, Floats]:
    """Return the 95 % interval of shares among `n` independent cases; Wilson (1927)."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)
