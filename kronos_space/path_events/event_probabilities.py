"""Judge events on sample paths: a level touched, one level reached before another, a drawdown.

    event = parse_event("reach +3% before -2%")
    happened_by_step(event, bars, last_close)  # (paths, steps): by the end of each step
    chances([event], bars, last_close)  # its share of the paths, with the Monte Carlo error

An event counts as happened only if the bars prove it. Within a bar, only the open (first) and the
close (last) have a known order; the order of high and low is unknown. Realised and forecast events
are judged by the same rule.

This module is the same file in kronos_space and in tradingbot, which may not import each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .grammar import Event

ROUNDING = 1e-9  # relative to a price: smaller differences count as equal
OPEN, HIGH, LOW, CLOSE = range(4)

_Z = 1.959963984540054  # normal quantile of a 95 % interval

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


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


def happened_by_step(event: Event, bars: Floats, last_close: float | Floats) -> Flags:
    """Return whether the event has happened by the end of each step.

    Args:
        bars: (..., steps, 4 or more) with open, high, low and close, prices above 0. After the
            first bar of NaN nothing new happens.
        last_close: The price before the first step, or one per path, (..., 1).

    Returns:
        (..., steps)
    """
    prices = [level.price(last_close) for level in event.levels]
    closes = bars[..., CLOSE]
    match event.kind:
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
    sizes = sizes_by_step(event, bars, last_close)
    assert sizes is not None  # always set for the two remaining kinds
    return sizes > event.levels[0].number + 100 * ROUNDING


def sizes_by_step(event: Event, bars: Floats, last_close: float | Floats) -> Floats | None:
    """Return the drawdown or range by the end of each step, (..., steps), in per cent; or None.

    The drawdown is the largest fall from a peak to a later price, as a share of the peak; the
    last close counts as a peak. The range is the highest high minus the lowest low, as a share
    of the last close.
    """
    if event.kind == "drawdown above SIZE":
        return 100 * _drawdowns(bars, last_close)
    if event.kind == "range above SIZE":
        highest = np.maximum.accumulate(bars[..., HIGH], axis=-1)
        lowest = np.minimum.accumulate(bars[..., LOW], axis=-1)
        return np.asarray(100 * (highest - lowest) / last_close)
    return None


# what the bars prove -----------------------------------------------------------------------------


def _hit(bars: Floats, price: float | Floats, last_close: float | Floats) -> Flags:
    """Return which bars reach a price from the last close's side."""
    rises = bars[..., HIGH] >= price * (1 - ROUNDING)
    falls = bars[..., LOW] <= price * (1 + ROUNDING)
    return np.asarray(np.where(price >= last_close, rises, falls))


def _reached_first(
    bars: Floats, first: float | Floats, second: float | Floats, last_close: float | Floats
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
    share = happened_by_step(event, paths, last_close).mean(axis=0)
    sizes = sizes_by_step(event, paths, last_close)
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
