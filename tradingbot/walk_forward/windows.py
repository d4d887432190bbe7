"""Walk-forward windows: a Space gets the bars known at each window, and no later ones.

Requests are built from `seen`, which cuts the history at the window's bar before any other code
uses it. Dates of the future bars come from the exchange's calendar, not from later bars.
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
MIN_BARS = 32  # a Space's minimum


@dataclass(frozen=True)
class Plan:
    """The windows of a backtest, and how to forecast each."""

    horizon: int  # bars ahead
    stride: int  # bars between windows
    context: int  # maximum number of bars sent
    samples: int
    temperature: float
    top_p: float


@dataclass(frozen=True)
class Window:
    """One forecast to make: for `targets`, from bars up to `as_of`."""

    symbol: str
    as_of: datetime
    targets: tuple[datetime, ...]


def windows(symbol: str, days: pd.DatetimeIndex, plan: Plan, count: int) -> list[Window]:
    """Return the newest `count` windows with an outcome, oldest first, or all if there are fewer.

    Args:
        days: Sessions of the ticker's bars, ascending.

    Raises:
        DataError: There is no window.
    """
    found: list[Window] = []
    for position in range(len(days) - 1 - plan.horizon, MIN_BARS - 2, -plan.stride):
        if len(found) == count:
            break
        as_of = days[position].to_pydatetime()
        try:
            targets = tuple(next_sessions(symbol, as_of, plan.horizon))
        except DataError:  # some calendars begin later than the candles
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
    """Return the newest `context` bars up to that of `as_of`: all that a forecast may use."""
    history = bars.loc[:as_of].tail(context)
    if "volume" in history and not history["volume"].any():
        history = history.drop(columns="volume")  # even if later bars, not seen yet, have volumes
    return history


def request(window: Window, bars: pd.DataFrame, plan: Plan) -> SeriesRequest:
    """Return the request to the Space. `bars` may extend beyond the window."""
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
    """Yield each window with its forecast or its error, as batches arrive."""
    wanted = list(wanted)
    requests = (request(window, bars[window.symbol], plan) for window in wanted)
    left = iter(wanted)
    with closing(client.forecast_batches(requests)) as batches:
        for batch in batches:
            yield [(next(left), answer) for _, answer in batch]
