"""Backtest of a bot: replay its decisions over past bars, with costs and without look-ahead.

A decision on one bar sees nothing later. It is traded at the open of the ticker's next bar, or,
with `fill="close"`, which is optimistic, at the close of its own bar. Bars with a volume of 0 have
no trades: a decision then waits for the next bar, for at most 20 days with bars, unless a later bar
decides 1 or -1. Equity is measured at each close. `performance.py` has the formulas.
"""

from collections.abc import Mapping
from dataclasses import astuple, fields
from datetime import datetime
from functools import partial
from typing import Any

import pandas as pd

from tradingbot.bots.account import CASH, MIN_TRADE, Account, Costs, Fill
from tradingbot.bots.backtest_corporate_actions import Holdings, PastActions
from tradingbot.bots.backtest_result import Backtest
from tradingbot.bots.performance import hit_rate, performance_stats, realised
from tradingbot.bots.strategy import FillAt, Strategy, checked_fill
from tradingbot.bots.ticker_lookup import DELISTED_AFTER
from tradingbot.errors import ConfigError, DataError, TradeRefused
from tradingbot.markets.candles import has_trades
from tradingbot.markets.quality_findings import Caller
from tradingbot.markets.supplied_candles import supplied_candles
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.lookahead import in_the_past


def run_backtest(
    strategy: Strategy,
    history: Any | Mapping[str, Any],
    cash: float,
    fill: FillAt | None = None,
) -> Backtest:
    """Run the backtest; see `Bot.backtest`."""
    fill = strategy.fill if fill is None else checked_fill(fill)
    actions = PastActions()
    bars = _bars(strategy, history, actions)
    schedule = _schedule(bars)
    if len(schedule) < 2:
        raise DataError(f"{', '.join(bars)}: a backtest needs two bars at least")
    account = Account({CASH: cash}, {}, strategy.costs)
    if account.cash < MIN_TRADE:
        raise TradeRefused(f"a backtest with {cash} USD: expected {MIN_TRADE} at least")
    replay = _Replay(strategy, bars, account, fill, Holdings(account, actions, strategy.interval))
    with in_the_past(), strategy.deciding(account):
        invested = {time: replay.step(time, present) for time, present in schedule.items()}
    curves = pd.DataFrame.from_dict(invested, "index", float, ["equity", "invested"])
    curves.index = pd.DatetimeIndex(list(schedule))
    curve = curves["equity"]
    trades = [
        (time, *astuple(fill)) for time, fill in zip(replay.times, account.fills, strict=True)
    ]
    results = realised(account.fills, account.dividends)
    curves["buy_and_hold"] = _buy_and_hold(bars, curve.index, cash, strategy.costs, fill)
    return Backtest(
        equity=curve,
        trades=pd.DataFrame(
            trades, columns=["time", *(field.name for field in fields(Fill))]
        ).assign(pnl=pd.Series(results, dtype="float64")),
        measures=performance_stats(curve, strategy.tickers, strategy.interval),
        hit_rate=hit_rate(results),
        buy_and_hold=performance_stats(curves["buy_and_hold"], strategy.tickers, strategy.interval),
        curves=curves,
        fill=fill,
        dividends=_dividends_table(replay.holdings),
        notes=actions.notes,
    )


def _dividends_table(holdings: Holdings) -> pd.DataFrame:
    rows = [(time, paid.symbol, paid.quantity, paid.price) for time, paid in holdings.dividends]
    return pd.DataFrame(rows, columns=["time", "symbol", "quantity", "amount"])


class _Replay:
    """State of a replay between bars: decisions waiting, and times of trades."""

    def __init__(
        self,
        strategy: Strategy,
        bars: Mapping[str, pd.DataFrame],
        account: Account,
        fill: FillAt,
        holdings: Holdings,
    ) -> None:
        self.holdings = holdings
        self._strategy, self._bars, self._account, self._fill = strategy, bars, account, fill
        self._prices = {symbol: frame[fill].to_list() for symbol, frame in bars.items()}
        self._closes = {symbol: frame["close"].to_list() for symbol, frame in bars.items()}
        self._trades = {symbol: has_trades(frame).to_list() for symbol, frame in bars.items()}
        self._decided: dict[str, tuple[int, int]] = {}  # waiting decisions, each with its day
        self._last_close: dict[str, float] = {}
        self.times: list[datetime] = []  # of the account's fills

    def step(self, time: datetime, present: Mapping[str, int]) -> tuple[float, float]:
        """Trade and decide on the bars at these positions. Return equity and its invested part."""
        self.holdings.before(time, present, self._last_close)
        self._note_times(time)
        if self._fill == "open":
            self._trade(time, present)
        for symbol, i in present.items():
            self._last_close[symbol] = self._closes[symbol][i]
            answer = self._strategy.decide(symbol, self._bars[symbol], i + 1)
            if answer or symbol not in self._decided:
                self._decided[symbol] = answer, self.holdings.days
        if self._fill == "close":
            self._trade(time, present)
        held = sum(self._account.held(name) * close for name, close in self._last_close.items())
        return self._account.cash + held, held

    def _trade(self, time: datetime, present: Mapping[str, int]) -> None:
        prices = {
            symbol: self._prices[symbol][i]
            for symbol, i in present.items()
            if self._trades[symbol][i]
        }
        self._account.prices = prices
        decided = {name: self._decided.pop(name) for name in prices if name in self._decided}
        orders = {
            name: answer
            for name, (answer, day) in decided.items()
            # older decisions have lapsed, as in a live round
            if self.holdings.days - day <= DELISTED_AFTER
        }
        if any(orders.values()):
            self._account.follow(orders)
            self._note_times(time)

    def _note_times(self, time: datetime) -> None:
        self.times += [time] * (len(self._account.fills) - len(self.times))


def _bars(
    strategy: Strategy, history: Any | Mapping[str, Any], actions: PastActions
) -> dict[str, pd.DataFrame]:
    """Return validated bars of each of the strategy's tickers."""
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
            raise DataError("the backtest was given no history of this ticker", symbol=symbol)
        bars[symbol] = supplied_candles(
            symbol,
            history[symbol],
            strategy.interval,
            now=utcnow(),
            max_jump=strategy.settings.max_jump,
            caller=Caller.BACKTEST,
            adjusted=partial(actions.read, symbol, history[symbol], strategy.interval),
        )
    return bars


def _schedule(bars: Mapping[str, pd.DataFrame]) -> dict[datetime, dict[str, int]]:
    """Return, in order of time, which tickers have a bar, and its position."""
    schedule: dict[datetime, dict[str, int]] = {}
    for symbol, frame in bars.items():
        for position, time in enumerate(pd.DatetimeIndex(frame.index).to_pydatetime()):
            schedule.setdefault(time, {})[symbol] = position
    return dict(sorted(schedule.items()))


def _buy_and_hold(
    bars: Mapping[str, pd.DataFrame], times: pd.Index, cash: float, costs: Costs, fill: FillAt
) -> pd.Series:
    """Return the equity of buying all tickers evenly, each as soon as the bot could trade it."""
    equity = pd.Series(0.0, index=times)
    share = cash / len(bars)
    for frame in bars.values():
        could = has_trades(frame)
        if fill == "open":
            could.iloc[0] = False
        after = frame[could.cummax()]
        if after.empty:
            equity += share
            continue
        quantity = costs.quantity_for(share, float(after[fill].iloc[0]))
        value = (after["close"] * quantity).reindex(times).ffill()
        equity += value.fillna(share)
    return equity
