"""A bot's decisions replayed over past bars, with costs and without a look ahead.

What is decided on one bar, and the decision sees nothing later, is traded at the open of the
ticker's next bar. Equity is counted at each close. With n bars, equity E[0] (the cash at first) to
E[n-1], and returns r[i] = E[i] / E[i-1] - 1:

    total_return    E[n-1] / E[0] - 1
    yearly_return   (E[n-1] / E[0]) ^ (1 / years) - 1, where years is the calendar's time from the
                    first bar to the last, in years of 365.25 days
    sharpe          mean(r) / std(r) x sqrt(bars a year), where std divides by n - 2 (one less than
                    there are returns), bars a year is (n - 1) / years, and no interest is counted
    max_drawdown    the largest of 1 - E[i] / max(E[0] … E[i])
    hit_rate        of the sales, the share that brought more than what was sold had cost, costs
                    of both counted; what is held counts at its average cost

What cannot be counted (no sale, no move, less than a day) is NaN.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from tradingbot.bots.account import CASH, MIN_TRADE, Account, Fill
from tradingbot.bots.strategy import Strategy
from tradingbot.errors import ConfigError, DataError, TradeRefused
from tradingbot.markets.candles import checked, clean
from tradingbot.markets.findings import Caller
from tradingbot.markets.judgement import judged
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.lookahead import in_the_past

logger = logging.getLogger(__name__)

DAY, YEAR = timedelta(days=1), timedelta(days=365.25)


@dataclass(frozen=True)
class PerformanceStats:
    """What an equity curve amounts to, as shares; the module says how each is counted."""

    total_return: float
    yearly_return: float
    sharpe: float
    max_drawdown: float


@dataclass(frozen=True)
class Backtest:
    """What a bot would have done. `str()` of it is a short table."""

    equity: pd.Series  # USD at each close, indexed by the bars' times
    trades: pd.DataFrame  # time, symbol, side, quantity, price, costs
    measures: PerformanceStats
    hit_rate: float
    buy_and_hold: (
        PerformanceStats  # each ticker bought at its second bar's open, evenly, costs counted
    )

    def __str__(self) -> str:
        first, last = self.equity.index[0], self.equity.index[-1]
        rows = [
            f"{first:%Y-%m-%d} to {last:%Y-%m-%d}: {len(self.trades)} trades, "
            f"{_share(self.hit_rate)} of the sales at a profit",
            f"{'':14}{'this bot':>12}{'buy and hold':>14}",
        ]
        for name in ("total_return", "yearly_return", "sharpe", "max_drawdown"):
            mine, other = getattr(self.measures, name), getattr(self.buy_and_hold, name)
            show = (lambda value: f"{value:.2f}") if name == "sharpe" else _share
            rows.append(f"{name.replace('_', ' '):14}{show(mine):>12}{show(other):>14}")
        return "\n".join(rows)


def run_backtest(strategy: Strategy, history: Any | Mapping[str, Any], cash: float) -> Backtest:
    """See `Bot.backtest`."""
    bars = _bars(strategy, history)
    schedule = _schedule(bars)
    if len(schedule) < 2:
        raise DataError(f"{', '.join(bars)}: a backtest needs two bars at least")
    opens = {symbol: frame["open"].to_list() for symbol, frame in bars.items()}
    closes = {symbol: frame["close"].to_list() for symbol, frame in bars.items()}
    account = Account({CASH: cash}, {}, strategy.cost_rate)
    if account.cash < MIN_TRADE:
        raise TradeRefused(f"a backtest with {cash} USD: expected {MIN_TRADE} at least")
    pending: dict[str, int] = {}  # decided, and to be traded at the ticker's next bar
    last_close: dict[str, float] = {}
    equity: list[float] = []
    times_of_fills: list[datetime] = []
    with in_the_past(), strategy.deciding(account):
        for time, present in schedule.items():
            account.prices = {symbol: opens[symbol][i] for symbol, i in present.items()}
            orders = {symbol: pending[symbol] for symbol in present if symbol in pending}
            if any(orders.values()):
                account.follow(orders)
                times_of_fills += [time] * (len(account.fills) - len(times_of_fills))
            for symbol, i in present.items():
                last_close[symbol] = closes[symbol][i]
                pending[symbol] = strategy.decide(symbol, bars[symbol], i + 1)
            held = (account.held(symbol) * close for symbol, close in last_close.items())
            equity.append(account.cash + sum(held))
    curve = pd.Series(equity, index=pd.DatetimeIndex(list(schedule)), name="equity")
    trades = [
        (time, *astuple(fill)) for time, fill in zip(times_of_fills, account.fills, strict=True)
    ]
    return Backtest(
        equity=curve,
        trades=pd.DataFrame(trades, columns=["time", *(field.name for field in fields(Fill))]),
        measures=performance_stats(curve),
        hit_rate=hit_rate(account.fills),
        buy_and_hold=performance_stats(_buy_and_hold(bars, curve.index, cash, strategy.cost_rate)),
    )


def performance_stats(equity: pd.Series) -> PerformanceStats:
    """Of an equity curve over time; the formulas are the module's."""
    first, last = float(equity.iloc[0]), float(equity.iloc[-1])
    years = (equity.index[-1] - equity.index[0]) / YEAR
    returns = equity.pct_change().iloc[1:]
    spread = float(returns.std()) if len(returns) > 1 else 0.0
    bars_a_year = len(returns) / years if years else math.nan
    return PerformanceStats(
        total_return=last / first - 1,
        yearly_return=_yearly(last / first, years),
        sharpe=float(returns.mean()) / spread * math.sqrt(bars_a_year) if spread else math.nan,
        max_drawdown=float((1 - equity / equity.cummax()).max()),
    )


def _yearly(growth: float, years: float) -> float:
    if years < DAY / YEAR:
        return math.nan
    try:
        return float(growth ** (1 / years) - 1)
    except OverflowError:  # tenfold in a day
        return math.inf


def hit_rate(fills: Iterable[Fill]) -> float:
    """The share of the sales that brought more than what was sold had cost; NaN without any."""
    held: dict[str, tuple[float, float]] = {}  # quantity, and what it cost in all
    sales = []
    for fill in fills:
        quantity, cost = held.get(fill.symbol, (0.0, 0.0))
        value = fill.quantity * fill.price
        if fill.side == "buy":
            held[fill.symbol] = (quantity + fill.quantity, cost + value + fill.costs)
            continue
        sold = cost * fill.quantity / quantity
        sales.append(value - fill.costs > sold)
        held[fill.symbol] = (quantity - fill.quantity, cost - sold)
    return sum(sales) / len(sales) if sales else math.nan


def _bars(strategy: Strategy, history: Any | Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Clean bars of each of the strategy's tickers."""
    if not isinstance(history, Mapping):
        several = isinstance(getattr(history, "columns", None), pd.MultiIndex)
        if len(strategy.tickers) > 1 and not several:
            raise ConfigError(
                f"bot {strategy.name} has the tickers {', '.join(strategy.tickers)}: give a "
                "history of each, as {'SPY': frame, …}"
            )
        history = dict.fromkeys(strategy.tickers, history)
    bars = {}
    for symbol in strategy.tickers:
        if symbol not in history:
            raise DataError("the backtest was given no history of it", symbol=symbol)
        frame, dropped = clean(checked(symbol, history[symbol], strategy.interval))
        bars[symbol], odd = judged(
            frame,
            symbol,
            strategy.interval,
            Caller.BACKTEST,
            now=utcnow(),
            max_jump=strategy.settings.max_jump,
        )
        for warning in [*dropped, *odd]:
            logger.warning("%s: %s", symbol, warning)
    return bars


def _schedule(bars: Mapping[str, pd.DataFrame]) -> dict[datetime, dict[str, int]]:
    """In order of time: which tickers have a bar then, and at which position."""
    schedule: dict[datetime, dict[str, int]] = {}
    for symbol, frame in bars.items():
        for position, time in enumerate(pd.DatetimeIndex(frame.index).to_pydatetime()):
            schedule.setdefault(time, {})[symbol] = position
    return dict(sorted(schedule.items()))


def _buy_and_hold(
    bars: Mapping[str, pd.DataFrame], times: pd.Index, cash: float, cost_rate: float
) -> pd.Series:
    """The equity of who splits the cash evenly and buys each ticker as soon as the bot could."""
    equity = pd.Series(0.0, index=times)
    for frame in bars.values():
        share = cash / len(bars)
        if len(frame) < 2:
            equity += share
            continue
        quantity = share / (frame["open"].iloc[1] * (1 + cost_rate))
        value = (frame["close"].iloc[1:] * quantity).reindex(times).ffill()
        equity += value.fillna(share)
    return equity


def _share(value: float) -> str:
    return f"{value:.1%}"
