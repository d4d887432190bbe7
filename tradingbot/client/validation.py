"""Validation of callers' arguments. An invalid argument raises a ValueError with the value."""

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.path_events.grammar import Event, parse_events
from tradingbot.settings import MAX_HORIZON, MAX_SAMPLES

MAX_SEED = 2**63 - 1


def ticker(symbol: object) -> str:
    """Normalise a ticker: ' spy ' -> SPY."""
    if not isinstance(symbol, str) or not symbol.strip():
        raise ValueError(f"symbol={symbol!r}: expected a ticker, such as 'SPY'")
    return symbol.strip().upper()


def bars(horizon: object) -> int:
    """Validate a number of bars; accepts whole numbers of any type, including numpy's."""
    number = _whole(horizon)
    if number is None or number < 1:
        raise ValueError(f"horizon={horizon!r}: expected a whole number, at least 1")
    if number > MAX_HORIZON:
        raise ValueError(f"horizon={number}: expected at most {MAX_HORIZON} bars")
    return number


def sampling(
    *, samples: object, temperature: object, top_p: object, seed: object, paths: bool
) -> dict[str, Any]:
    """Validate how paths are drawn; returns arguments of `tradingbot.space.wire.prepared`."""
    count = _whole(samples)
    if count is None or not 1 <= count <= MAX_SAMPLES:
        raise ValueError(f"samples={samples!r}: expected a whole number from 1 to {MAX_SAMPLES}")
    given = None if seed is None else _whole(seed)
    if seed is not None and (given is None or not 0 <= given <= MAX_SEED):
        raise ValueError(f"seed={seed!r}: expected a whole number from 0 to {MAX_SEED}, or None")
    return {
        "samples": count,
        "seed": given,
        "temperature": _number("temperature", temperature, 0.001, 100),
        "top_p": _number("top_p", top_p, 0.001, 1),
        "paths": bool(paths),
    }


def is_combined(forecast: object) -> bool:
    """Return whether to combine the forecast: True for "combined", False for "kronos"."""
    if forecast not in ("combined", "kronos"):
        raise ValueError(f"forecast={forecast!r}: expected 'combined' or 'kronos'")
    return forecast == "combined"


def path_events(events: object) -> tuple[Event, ...]:
    """Parse events: texts, or one text separated by commas; see `tradingbot.path_events`."""
    if not isinstance(events, Iterable):
        raise ValueError(f"events={events!r}: expected texts, such as ['touch +2%']")
    return parse_events(events)


def quantile_levels(levels: Iterable[float]) -> tuple[float, ...]:
    """Validate quantile levels; return them ascending, without duplicates."""
    lowest, highest = QUANTILE_LEVELS[0], QUANTILE_LEVELS[-1]
    if isinstance(levels, str | bytes) or not isinstance(levels, Iterable):
        raise ValueError(f"levels={levels!r}: expected numbers, such as (0.1, 0.5, 0.9)")
    return tuple(sorted({_number("levels", level, lowest, highest) for level in levels}))


def _whole(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and low <= number <= high:
            return number
    raise ValueError(f"{name}={value!r}: expected a number from {low:g} to {high:g}")
