"""Performance statistics of an equity curve and its trades, as in the guide to backtests.

With n bars, equity E[0] (the initial cash) to E[n-1], and returns r[i] = E[i] / E[i-1] - 1:

    total_return    E[n-1] / E[0] - 1
    yearly_return   (E[n-1] / E[0]) ^ (1 / years) - 1
    sharpe          mean(r) / std(r) x sqrt(bars a year), where std divides by n - 2 (one less than
                    the number of returns), without interest
    max_drawdown    the largest of 1 - E[i] / max(E[0] … E[i])
    hit_rate        share of sales with a profit, after costs of purchase and sale and with
                    dividends; holdings are valued at average cost

For a history of at least a year, years is the time from the first bar to the last in years of
365.25 days, and bars a year is (n - 1) / years. In a shorter history nights, weekends and holidays
do not have their usual share, so bars a year comes from the exchange's calendar (252 sessions of
390 minutes in New York), and years is (n - 1) / bars a year.

Undefined statistics (no sale, no move, less than a day) are NaN.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from tradingbot.bots.account import Fill
from tradingbot.errors import DataError
from tradingbot.markets.calendars import sessions_of
from tradingbot.markets.data_quality import bar_length

DAY, YEAR = timedelta(days=1), timedelta(days=365.25)
SESSIONS = 252  # per year, of an exchange
WEEKDAYS = 260  # per year


@dataclass(frozen=True)
class PerformanceStats:
    """Performance statistics as shares; the module has the formulas."""

    total_return: float
    yearly_return: float
    sharpe: float
    max_drawdown: float


def performance_stats(
    equity: pd.Series, symbols: Iterable[str] = (), interval: str = "1d"
) -> PerformanceStats:
    """Return the statistics of an equity curve over time; the module has the formulas.

    `symbols` and `interval` select the calendar for a history shorter than a year.
    """
    first, last = float(equity.iloc[0]), float(equity.iloc[-1])
    span = equity.index[-1] - equity.index[0]
    years = span / YEAR
    returns = equity.pct_change().iloc[1:]
    spread = float(returns.std()) if len(returns) > 1 else 0.0
    bars_a_year = len(returns) / years if years else math.nan
    if years < 1 and (usual := max((_usual_bars(name, interval) for name in symbols), default=0)):
        bars_a_year, years = usual, len(returns) / usual
    return PerformanceStats(
        total_return=last / first - 1,
        yearly_return=math.nan if span < DAY else _yearly(last / first, years),
        sharpe=float(returns.mean()) / spread * math.sqrt(bars_a_year) if spread else math.nan,
        max_drawdown=float((1 - equity / equity.cummax()).max()),
    )


def _usual_bars(symbol: str, interval: str) -> float:
    """Return how many bars a year the ticker's exchange has, or 0 if unknown."""
    try:
        known = sessions_of(symbol)
    except DataError:
        return 0
    sessions = round(len(known.days) / ((known.last - known.first) / YEAR))
    if sessions < WEEKDAYS:  # an exchange with holidays: use the usual number
        sessions = SESSIONS
    if interval == "1d":
        return sessions
    minutes = (known.closes - known.opens) / np.timedelta64(1, "m")
    if known.breaks is not None:
        pause = (known.breaks[1] - known.breaks[0]) / np.timedelta64(1, "m")
        minutes = minutes - np.nan_to_num(pause)
    return sessions * math.ceil(float(np.median(minutes)) / (bar_length(interval) / DAY * 1440))


def _yearly(growth: float, years: float) -> float:
    try:
        return float(growth ** (1 / years) - 1)
    except OverflowError:  # such as a tenfold rise in a day
        return math.inf


def hit_rate(results: Iterable[float | None]) -> float:
    """Return the share of sales in `realised` with a profit; NaN without sales."""
    sold = [result for result in results if result is not None]
    return sum(result > 0 for result in sold) / len(sold) if sold else math.nan


def realised(
    fills: Iterable[Fill], dividends: Iterable[tuple[int, Fill]] = ()
) -> list[float | None]:
    """Return each sale's profit over the cost of what was sold, in USD; None for purchases.

    Costs of both trades and the dividends on what was sold are included. Holdings are valued at
    average cost, which dividends reduce.
    """
    held: dict[str, tuple[float, float]] = {}  # quantity, and its total cost
    results: list[float | None] = []
    due = deque(dividends)
    for number, fill in enumerate(fills):
        while due and due[0][0] <= number:
            _, paid = due.popleft()
            quantity, cost = held[paid.symbol]
            held[paid.symbol] = (quantity, cost - paid.quantity * paid.price)
        quantity, cost = held.get(fill.symbol, (0.0, 0.0))
        value = fill.quantity * fill.price
        if fill.side == "buy":
            held[fill.symbol] = (quantity + fill.quantity, cost + value + fill.costs)
            results.append(None)
            continue
        sold = cost * fill.quantity / quantity
        results.append(value - fill.costs - sold)
        held[fill.symbol] = (quantity - fill.quantity, cost - sold)
    return results
