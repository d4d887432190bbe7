"""Convert a Space's result to a Forecast, after comparing it with the request."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pydantic import ValidationError

from tradingbot.errors import SpaceError, SpaceRejected, SpaceUnavailable
from tradingbot.forecast import (
    QUANTILE_LEVELS,
    Forecast,
    ForecastBar,
    Reconstruction,
    recorded_revision,
)
from tradingbot.formatting import quoted
from tradingbot.space.answers import Bar, RefusedResult, Result, in_words, short
from tradingbot.space.wire import SeriesRequest

MAX_WARNINGS = 20  # warnings per ticker; the rest is dropped

# Limits of a plausible price, as shares of the last close and of the highest price of the history.
# The Space itself lets no path fall below a millionth of the last close.
MIN_SHARE = 1e-9
MAX_SHARE = 1e3
# relative; a high below the close by less than this is a rounding error and corrected
ROUNDING = 1e-6
MAX_STEP = timedelta(days=400)  # between two bars whose times the Space infers

_LEVELS = frozenset(QUANTILE_LEVELS)


def answer_bytes(batch: Sequence[SeriesRequest]) -> int:
    """Return the size limit of the response to these requests: several times the expected size."""
    return 1_000_000 + sum(request.answer_bytes for request in batch)


def decode(request: SeriesRequest, result: Any, *, made_at: datetime) -> Forecast | SpaceError:
    """Convert one item of the results of /predict/batch. Return an error if it does not match."""
    try:
        if isinstance(result, dict) and result.get("ok") is False:
            refused = RefusedResult.model_validate(result)
            return SpaceRejected(
                f"the Space refuses it: {quoted(refused.error.message)}", symbol=request.symbol
            )
        return _forecast(request, Result.model_validate(result), made_at)
    except ValueError as error:
        reason = in_words(error) if isinstance(error, ValidationError) else quoted(error)
        return SpaceUnavailable(
            f"the Space's answer is not a forecast: {reason}; "
            "does it run this version of kronos_space?",
            symbol=request.symbol,
        )


# a result against its request ---------------------------------------------------------------


def _forecast(request: SeriesRequest, result: Result, made_at: datetime) -> Forecast:
    _compare(request, result)
    start = _reconstruction(request, result)
    return Forecast(
        symbol=request.symbol,
        interval=request.interval,
        model_name=result.model,
        model_revision=recorded_revision(result.model_revision, anchored=start is not None),
        as_of=request.as_of,
        made_at=made_at,
        last_close=request.last_close,
        bars_hash=request.bars_hash,
        samples=request.samples,
        seed=request.seed,
        bars=tuple(_bar(request, bar) for bar in result.predictions),
        warnings=(
            *request.notes,
            *(quoted(line) for line in (result.warnings or [])[:MAX_WARNINGS]),
        ),
        reconstruction=start,
        paths=_paths(request, result),
    )


def _compare(request: SeriesRequest, result: Result) -> None:
    """Raise ValueError if the result does not match the request."""
    asked: dict[str, tuple[Any, Any]] = {
        "symbol": (result.symbol, request.symbol),
        "interval": (result.interval, request.interval),
        "samples": (result.samples, request.samples),
        "seed": (result.seed, request.seed),
        "as_of": (result.as_of, request.as_of),
    }
    if request.model is not None:
        asked["model"] = (result.model, request.model)
    for name, (answered, sent) in asked.items():
        if answered not in (None, sent):
            raise _wrong(name, answered, repr(sent) if isinstance(sent, str) else str(sent))
    if not math.isclose(result.last_close, request.last_close, rel_tol=ROUNDING):
        raise _wrong("last_close", result.last_close, str(request.last_close))
    if [bar.step for bar in result.predictions] != list(range(1, request.horizon + 1)):
        count = len(result.predictions)
        raise ValueError(f"its {count} predictions are not steps 1 to {request.horizon}")
    dates = [bar.target_date for bar in result.predictions]
    if request.targets:
        if tuple(dates) != request.targets:
            raise ValueError("its target dates are not those that were asked for")
        return
    for before, date in zip([request.as_of, *dates], dates, strict=False):
        if not timedelta(0) < date - before <= MAX_STEP:
            raise _wrong("target_date", str(date), f"a time soon after {before}")


def _reconstruction(request: SeriesRequest, result: Result) -> Reconstruction | None:
    if result.reconstruction is None:
        return None
    close, factor = result.reconstruction.close, result.reconstruction.factor
    anchored = math.isclose(factor * close, request.last_close, rel_tol=ROUNDING)
    if not anchored and factor != 1:  # 1: the Space did not anchor the paths, and sent a warning
        expected = f"1, or {request.last_close} ÷ {short.repr(close)}"
        raise _wrong("reconstruction.factor", factor, expected)
    return Reconstruction(close, factor)


def _paths(request: SeriesRequest, result: Result) -> np.ndarray | None:
    """Return the paths, shape (samples, horizon, 5), if they were requested."""
    if not request.paths:
        return None
    if result.paths is None:
        raise ValueError("it lacks the paths that were asked for")
    shape = request.samples, request.horizon, 5
    if len(result.paths) != shape[0] or any(len(path) != shape[1] for path in result.paths):
        raise ValueError(f"its paths have not the shape {shape}")
    paths = np.array(result.paths, dtype="float64")
    if not (paths[..., :4] > 0).all():
        raise ValueError("its paths have prices of 0")
    return paths


def _bar(request: SeriesRequest, bar: Bar) -> ForecastBar:
    prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close}
    quantiles = _quantiles(bar)
    lowest, highest = request.last_close * MIN_SHARE, request.highest * MAX_SHARE
    outermost = {"p5": quantiles[QUANTILE_LEVELS[0]], "p95": quantiles[QUANTILE_LEVELS[-1]]}
    for name, price in (prices | outermost).items():
        if not lowest <= price <= highest:
            raise _wrong(f"step {bar.step}: {name}", price, "a price like those of the history")
    high, low = max(prices.values()), min(prices.values())
    if bar.high < high * (1 - ROUNDING):
        raise _wrong(f"step {bar.step}: high", bar.high, f"at least {high}, another of its prices")
    if bar.low > low * (1 + ROUNDING):
        raise _wrong(f"step {bar.step}: low", bar.low, f"at most {low}, another of its prices")
    return ForecastBar(
        step=bar.step,
        target_date=bar.target_date,
        open=bar.open,
        high=high,
        low=low,
        close=bar.close,
        volume=bar.volume,
        close_quantiles=quantiles,
        prob_up=bar.prob_up,
    )


def _quantiles(bar: Bar) -> dict[float, float]:
    """Return the quantiles at QUANTILE_LEVELS, ascending. Exactly these were requested."""
    sent = {round(float(level), 6): price for level, price in bar.close_quantiles.items()}
    if len(bar.close_quantiles) != len(sent) or sent.keys() != _LEVELS:
        raise _wrong(
            f"step {bar.step}: close_quantiles", [*bar.close_quantiles], "the levels 0.05 to 0.95"
        )
    quantiles = {level: sent[level] for level in QUANTILE_LEVELS}
    prices = list(quantiles.values())
    if prices != sorted(prices):
        raise _wrong(f"step {bar.step}: close_quantiles", prices, "prices that rise with the level")
    return quantiles


def _wrong(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{name}={short.repr(value)}: expected {expected}")
