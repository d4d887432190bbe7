"""One round of a bot: fetch, decide, trade on paper, log."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from tradingbot.bots.account import Account, Fill
from tradingbot.bots.broker import PaperBroker, refuse_old
from tradingbot.bots.orders import Order, added, decided_at, openings
from tradingbot.bots.repository import RoundLog
from tradingbot.bots.strategy import Strategy
from tradingbot.errors import DataError
from tradingbot.formatting import storable
from tradingbot.markets.candles import has_trades
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)


@dataclass
class Decision:
    """What was decided on one bar."""

    symbol: str
    bar: datetime  # the bar's time
    close: float  # its price
    answer: int  # -1, 0 or 1
    reason: str  # the strategy's own words, if it has any
    traded_before: bool = False  # on this bar, by an earlier round


@dataclass
class Round:
    """What a round decided and did."""

    name: str  # the bot's
    interval: str
    decisions: list[Decision] = field(default_factory=list)
    left_out: dict[str, DataError] = field(default_factory=dict)  # ticker -> why
    fills: list[Fill] = field(default_factory=list)
    portfolio: dict[str, float] = field(default_factory=dict)  # after the round
    remarks: list[str] = field(default_factory=list)  # what else was done to it
    orders: list[Order] = field(default_factory=list)  # what waits for the next open

    @property
    def prices(self) -> dict[str, float]:
        return {decision.symbol: decision.close for decision in self.decisions}

    @property
    def failed(self) -> dict[str, str]:
        """Ticker -> why it was left out."""
        return {symbol: str(error) for symbol, error in self.left_out.items()}

    def counts(self) -> dict[str, int]:
        return {
            "tickers": len(self.decisions) + len(self.left_out),
            "decided": len(self.decisions),
            "failed": len(self.left_out),
            "trades": len(self.fills),
        }

    def details(self) -> dict[str, Any]:
        """For run_logs."""
        decisions = {
            decision.symbol: {
                "bar": decision.bar.isoformat(),
                "close": decision.close,
                "decision": decision.answer,
                "reason": decision.reason,
            }
            for decision in self.decisions
        }
        return {
            "decisions": decisions,
            "failed": self.failed,
            "remarks": self.remarks,
            "orders": [order.to_json() for order in self.orders],
        }


def run_round(
    strategy: Strategy,
    *,
    fetch: Callable[[], Mapping[str, pd.DataFrame | DataError]],
    now: Callable[[], datetime],
    sessions: SessionFactory,
) -> Round:
    """One round of the bot; see `Bot.run`.

    `fetch` gives each ticker's bars, or why there are none; `now` is the time by the clock of the
    candles' source, naive UTC.
    """
    log, portfolio = RoundLog.begin(sessions, strategy.name, strategy.tickers)
    done = Round(strategy.name, strategy.interval, portfolio=portfolio)
    try:
        bars, done.left_out = _newest_bars(fetch(), now)
        if not bars:
            raise DataError("; ".join(done.failed.values()))
        if strategy.fill == "open":
            portfolio = _after_openings(strategy, bars, sessions)
        done.decisions = _decide(strategy, bars, portfolio)
        _trade(strategy, done, bars, sessions, log, now())
    except BaseException as error:
        # KeyboardInterrupt: of a round that is run without `Bot.main`
        interrupted = isinstance(error, KeyboardInterrupt)
        log.fail(error, 130 if interrupted else getattr(error, "exit_code", 1))
        raise
    return done


def _newest_bars(
    fetched: Mapping[str, pd.DataFrame | DataError], now: Callable[[], datetime]
) -> tuple[dict[str, pd.DataFrame], dict[str, DataError]]:
    """The histories that end with the latest complete session, and why the others do not count."""
    bars, left_out = {}, {}
    for symbol, frame in fetched.items():
        try:
            if isinstance(frame, DataError):
                raise frame
            refuse_old(symbol, frame, now())
            bars[symbol] = frame
        except DataError as error:
            logger.warning("%s is left out: %s", symbol, error.reason)
            left_out[symbol] = error
    return bars, left_out


def _after_openings(
    strategy: Strategy, bars: Mapping[str, pd.DataFrame], sessions: SessionFactory
) -> dict[str, float]:
    """What the bot owns when it decides; nothing is stored yet: the decision may fail."""
    with sessions() as session:
        broker = PaperBroker.open(session, strategy, bars)
        _fill_orders(broker, bars, strategy.interval)
        owned = dict(broker.account.portfolio)
        session.rollback()
    return owned


def _fill_orders(
    broker: PaperBroker, bars: Mapping[str, pd.DataFrame], interval: str
) -> list[Order]:
    """Fill what earlier rounds decided and what has opened since; return what still waits."""
    opened, waiting = openings(broker.orders, bars, interval)
    for opening in opened:
        broker.fill(opening)
    return waiting


def _decide(
    strategy: Strategy, bars: Mapping[str, pd.DataFrame], portfolio: Mapping[str, float]
) -> list[Decision]:
    decisions = []
    with strategy.deciding(Account(portfolio, {}, strategy.cost_rate)):
        for symbol, frame in bars.items():
            answer = strategy.decide(symbol, frame, len(frame))
            decisions.append(
                Decision(
                    symbol=symbol,
                    bar=frame.index[-1].to_pydatetime(),
                    close=float(frame["close"].iloc[-1]),
                    answer=answer,
                    reason="" if strategy.reason is None else storable(strategy.reason),
                )
            )
    return decisions


def _trade(
    strategy: Strategy,
    done: Round,
    bars: Mapping[str, pd.DataFrame],
    sessions: SessionFactory,
    log: RoundLog,
    now: datetime,
) -> None:
    """Do what was decided, or leave it to the next open, and say so in the log: one transaction.

    Another process that runs the same bot waits at the lock. What it then finds traded on the bar
    that it decided on, it leaves alone.
    """
    with sessions() as session:
        broker = PaperBroker.open(session, strategy, bars)
        if strategy.fill == "open":
            waiting = _fill_orders(broker, bars, strategy.interval)
            new = [
                Order(d.symbol, d.answer, d.bar, decided_at(closed, now, strategy.interval))
                for d in done.decisions
                if (closed := broker.closed[d.symbol])
            ]
            done.orders = added(waiting, new)
        else:
            for decision in done.decisions:
                decision.traded_before = broker.has_traded(decision.symbol)
            broker.follow(
                {
                    d.symbol: d.answer
                    for d in done.decisions
                    if not d.traded_before and bool(has_trades(bars[d.symbol]).iloc[-1])
                }
            )
        broker.close()
        done.fills, done.portfolio = broker.account.fills, broker.account.portfolio
        done.remarks = broker.remarks
        log.end(session, done.counts(), done.details())
