"""Forecasts of the past: at each window a Space is shown what was known then, and nothing later.

A window's request is written from `seen`, which cuts the history at the window's own bar before
anything else looks at it. The future bars' dates come from the exchange's calendar, not from what
followed.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from tradingbot.errors import DataError, KronosError
from tradingbot.forecast import Forecast
from tradingbot.markets.calendars import next_sessions
from tradingbot.space.client import SpaceClient
from tradingbot.space.wire import SeriesRequest, encode

INTERVAL = "1d"
MIN_BARS = 32  # what a Space asks for at least


@dataclass(frozen=True)
class Plan:
    """Which windows there are, and how each is forecast."""

    horizon: int  # bars ahead
    stride: int  # bars from one window to the next
    context: int  # bars of history that are sent at most
    samples: int
    temperature: float
    top_p: float


@dataclass(frozen=True)
class Window:
    """One forecast to be made: of `targets`, from the bars up to `as_of`."""

    symbol: str
    as_of: datetime
    targets: tuple[datetime, ...]


def windows(symbol: str, days: pd.DatetimeIndex, plan: Plan, count: int) -> list[Window]:
    """The newest `count` windows that `days` has an outcome for, or as many as there are.

    `days` are the sessions of the ticker's bars, ascending. Windows come in order of time. Raises
    DataError where there is not one.
    """
    found: list[Window] = []
    for position in range(len(days) - 1 - plan.horizon, MIN_BARS - 2, -plan.stride):
        if len(found) == count:
            break
        as_of = days[position].to_pydatetime()
        try:
            targets = tuple(next_sessions(symbol, as_of, plan.horizon))
        except DataError:  # some exchanges' calendars do not go back as far as candles do
            if not found:
                raise
            break
        found.append(Window(symbol, as_of, targets))
    if not found:
        raise DataError(
            f"{len(days)} bars, a backtest needs at least {MIN_BARS + plan.horizon}: "
            f"{MIN_BARS} of history and {plan.horizon} ahead",
            symbol=symbol,
        )
    return found[::-1]


def seen(bars: pd.DataFrame, as_of: datetime, context: int) -> pd.DataFrame:
    """The newest `context` bars up to that of `as_of`: all that a forecast from there may know."""
    history = bars.loc[:as_of].tail(context)
    if "volume" in history and not history["volume"].any():
        history = history.drop(columns="volume")  # whether there are any later is not known yet
    return history


def request(window: Window, bars: pd.DataFrame, plan: Plan) -> SeriesRequest:
    """What the Space is asked; `bars` may go beyond the window."""
    return encode(
        window.symbol,
        seen(bars, window.as_of, plan.context),
        horizon=plan.horizon,
        interval=INTERVAL,
        targets=window.targets,
        samples=plan.samples,
        seed=None,
        temperature=plan.temperature,
        top_p=plan.top_p,
    )


def walk(
    client: SpaceClient,
    plan: Plan,
    bars: Mapping[str, pd.DataFrame],
    wanted: Iterable[Window],
) -> Generator[list[tuple[Window, Forecast | KronosError]]]:
    """Each window with its forecast, or with what went wrong, batch by batch as they arrive."""
    wanted = list(wanted)
    requests = (request(window, bars[window.symbol], plan) for window in wanted)
    left = iter(wanted)
    with closing(client.forecast_batches(requests)) as batches:
        for batch in batches:
            yield [(next(left), answer) for _, answer in batch]
