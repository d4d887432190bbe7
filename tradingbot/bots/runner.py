"""Run one round of a bot: fetch, decide, trade on paper, log."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd

from tradingbot.bots.account import CASH, Account
from tradingbot.bots.bases import look_up_held
from tradingbot.bots.broker import PaperBroker, refuse_old
from tradingbot.bots.orders import (
    Order,
    added,
    decided_at,
    openings,
    reaching_back,
    read_orders,
    sessions_waited,
)
from tradingbot.bots.repository import RoundLog, read_portfolio, waiting_orders
from tradingbot.bots.round_result import Decision, Round
from tradingbot.bots.strategy import Strategy
from tradingbot.bots.ticker_lookup import DELISTED_AFTER, TickerFacts, TickerLookup
from tradingbot.errors import DataError, DataUnavailable
from tradingbot.formatting import storable
from tradingbot.markets.candles import has_trades
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """The time at which the source was asked, and the tickers for which it had no bars."""

    now: datetime
    without_bars: frozenset[str]


def run_round(
    strategy: Strategy,
    *,
    fetch: Callable[[], Mapping[str, pd.DataFrame | DataError]],
    now: Callable[[], datetime],
    look_up: Callable[[], TickerLookup],
    sessions: SessionFactory,
    dry_run: bool = False,
) -> Round:
    """Run one round; see `Bot.run`.

    `fetch` returns each ticker's bars or an error. `now` is the time on the clock of the candles'
    source, naive UTC.
    """
    if dry_run:
        with sessions() as session:
            portfolio = read_portfolio(session, strategy.name)
        done = Round(strategy.name, strategy.interval, portfolio=portfolio, dry_run=True)
        _play(strategy, done, fetch, now, look_up, sessions, None)
        return done
    log, portfolio = RoundLog.begin(sessions, strategy.name, strategy.tickers)
    done = Round(strategy.name, strategy.interval, portfolio=portfolio)
    try:
        _play(strategy, done, fetch, now, look_up, sessions, log)
    except BaseException as error:
        # KeyboardInterrupt occurs in rounds run without `Bot.main`
        interrupted = isinstance(error, KeyboardInterrupt)
        log.fail(error, 130 if interrupted else getattr(error, "exit_code", 1))
        raise
    return done


def _play(
    strategy: Strategy,
    done: Round,
    fetch: Callable[[], Mapping[str, pd.DataFrame | DataError]],
    now: Callable[[], datetime],
    look_up: Callable[[], TickerLookup],
    sessions: SessionFactory,
    log: RoundLog | None,
) -> None:
    """Fetch, decide and trade; without a `log` nothing is stored."""
    portfolio = done.portfolio
    frames = fetch()
    bars, done.left_out = _newest_bars(frames, now)
    unavailable = (name for name, why in done.left_out.items() if isinstance(why, DataUnavailable))
    request = Request(now(), frozenset(unavailable))
    known: dict[str, TickerFacts] = {}
    traded = bars
    if portfolio.keys() - {CASH}:  # held, or sold before its dividends were known
        known = look_up_held(strategy.name, strategy.interval, frames, look_up(), sessions)
    if strategy.fill == "open":
        with sessions() as session:
            orders = read_orders(waiting_orders(session, strategy.name))
        traded = reaching_back(orders, bars, look_up().since)
    if known or strategy.fill == "open":
        portfolio, stopped = _before_deciding(strategy, bars, traded, known, sessions, request)
        done.left_out |= {name: error for name, error in stopped.items() if name in bars}
        bars = {name: frame for name, frame in bars.items() if name not in stopped}
        traded = {name: traded[name] for name in bars}
    if not bars:
        if log is not None:
            _settle_only(strategy, known, sessions)
        raise DataError("; ".join(done.failed.values()))
    done.decisions = _decide(strategy, bars, portfolio)
    _trade(strategy, done, bars, traded, known, sessions, log, replace(request, now=now()))


def _not_watched(strategy: Strategy, portfolio: Mapping[str, float]) -> list[str]:
    """Return a sentence on each ticker that is held but no longer watched."""
    return [
        f"{symbol}: {quantity:.6g} held, and no longer watched: no round trades it"
        for symbol, quantity in sorted(portfolio.items())
        if quantity and symbol != CASH and symbol not in strategy.tickers
    ]


def _without_dividends(symbols: Sequence[str]) -> list[str]:
    if not symbols:
        return []
    names = ", ".join(symbols)
    return [f"{names}: the source reports no dividends, so none are credited"]


def _newest_bars(
    fetched: Mapping[str, pd.DataFrame | DataError], now: Callable[[], datetime]
) -> tuple[dict[str, pd.DataFrame], dict[str, DataError]]:
    """Return histories that end with the latest complete session, and errors for the others."""
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


def _before_deciding(
    strategy: Strategy,
    bars: Mapping[str, pd.DataFrame],
    traded: Mapping[str, pd.DataFrame],
    known: Mapping[str, TickerFacts],
    sessions: SessionFactory,
    request: Request,
) -> tuple[dict[str, float], dict[str, DataError]]:
    """Return the portfolio before decisions, and tickers that must not be traded.

    Stores nothing, since the decision may fail.
    """
    with sessions() as session:
        broker = PaperBroker.open(session, strategy, bars, known)
        stopped = broker.settlement.stopped
        if strategy.fill == "open":
            allowed = {name: frame for name, frame in traded.items() if name not in stopped}
            _fill_orders(broker, allowed, strategy.interval, request)
        broker.credit_dividends()
        owned = dict(broker.account.portfolio)
        session.rollback()
    return owned, stopped


def _settle_only(
    strategy: Strategy, known: Mapping[str, TickerFacts], sessions: SessionFactory
) -> None:
    """Store splits, dividends and delistings although no ticker can be decided."""
    with sessions() as session:
        PaperBroker.open(session, strategy, {}, known).close()


def _fill_orders(
    broker: PaperBroker, bars: Mapping[str, pd.DataFrame], interval: str, request: Request
) -> list[Order]:
    """Fill orders of earlier rounds that have opened; return the orders that still wait."""
    broker.settlement.remarks += [
        f"{order.symbol}: the decision on {order.bar:%Y-%m-%d %H:%M} has lapsed: the "
        "candles do not reach back to it"
        for order in broker.orders
        if order.symbol in bars and order.bar < bars[order.symbol].index[0]
    ]
    broker.settlement.remarks += [
        f"{order.symbol}: the decision on {order.bar:%Y-%m-%d %H:%M} has lapsed: it is no "
        "longer watched"
        for order in broker.unwatched
        if order.decision
    ]
    opened, waiting = openings(broker.orders, bars, interval)
    for opening in opened:
        broker.fill(opening)
    return _without_lapsed(broker, waiting, request)


def _without_lapsed(broker: PaperBroker, waiting: Iterable[Order], request: Request) -> list[Order]:
    """Return orders that have not waited too long. If no source answers, all are kept."""
    still = []
    for order in waiting:
        waited = 0 if order.symbol in request.without_bars else sessions_waited(order, request.now)
        if waited < DELISTED_AFTER:
            still.append(order)
        elif order.decision:
            broker.settlement.remarks.append(
                f"{order.symbol}: the decision on {order.bar:%Y-%m-%d %H:%M} has lapsed: "
                f"{waited} sessions without a bar to trade at"
            )
    return still


def _decide(
    strategy: Strategy, bars: Mapping[str, pd.DataFrame], portfolio: Mapping[str, float]
) -> list[Decision]:
    decisions = []
    with strategy.deciding(Account(portfolio, {}, strategy.costs)):
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
    traded: Mapping[str, pd.DataFrame],
    known: Mapping[str, TickerFacts],
    sessions: SessionFactory,
    log: RoundLog | None,
    request: Request,
) -> None:
    """Execute decisions, or keep them for the next open, and log them, in one transaction.

    Another process running the same bot waits for the lock, and then skips tickers already traded
    on the bar it decided on.
    """
    with sessions() as session:
        broker = PaperBroker.open(session, strategy, bars, known)
        if strategy.fill == "open":
            waiting = _fill_orders(broker, traded, strategy.interval, request)
            new = [
                Order(d.symbol, d.answer, d.bar, decided_at(closed, request.now, strategy.interval))
                for d in done.decisions
                if (closed := broker.closed[d.symbol])
            ]
            done.orders = added(waiting, new)
        else:
            broker.credit_dividends()
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
        done.remarks = [
            *broker.settlement.remarks,
            *_not_watched(strategy, done.portfolio),
            *_without_dividends(broker.settlement.without_dividends),
        ]
        done.held_prices = broker.settlement.prices
        if log is None:
            session.rollback()
        else:
            log.end(session, done.counts(), done.details())
