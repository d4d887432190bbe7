"""One round of a bot: fetch, decide, trade on paper, log."""

import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from tradingbot.bots.account import Account, Fill
from tradingbot.bots.broker import close_desk, open_desk
from tradingbot.bots.repository import RoundLog
from tradingbot.errors import ConfigError, DataError
from tradingbot.formatting import storable
from tradingbot.markets.calendars import latest_complete_session, sessions_between
from tradingbot.runtime.signals import Stopped

if TYPE_CHECKING:
    from tradingbot.bots.bot import Bot


logger = logging.getLogger(__name__)


@dataclass
class Decision:
    """What was decided on one bar."""

    symbol: str
    bar: datetime  # the bar's time
    close: float  # its price, at which is traded
    answer: int  # -1, 0 or 1
    reason: str  # the strategy's own words, if it has any
    traded_before: bool = False  # on this bar, by an earlier round


@dataclass
class Round:
    """What a round decided and did."""

    name: str  # the bot's
    interval: str
    decisions: list[Decision] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # ticker -> why it was left out
    fills: list[Fill] = field(default_factory=list)
    portfolio: dict[str, float] = field(default_factory=dict)  # after the round
    remarks: list[str] = field(default_factory=list)  # what else was done to it

    @property
    def prices(self) -> dict[str, float]:
        return {decision.symbol: decision.close for decision in self.decisions}

    def counts(self) -> dict[str, int]:
        return {
            "tickers": len(self.decisions) + len(self.failed),
            "decided": len(self.decisions),
            "failed": len(self.failed),
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
        return {"decisions": decisions, "failed": self.failed, "remarks": self.remarks}


def run_round(bot: "Bot") -> Round:
    """See `Bot.run`."""
    log, portfolio = RoundLog.begin(bot.sessions, bot.name, bot.tickers)
    done = Round(bot.name, bot.interval, portfolio=portfolio)
    try:
        bars = _newest_bars(bot, done)
        with bot.deciding(Account(portfolio, {}, bot.cost_rate)):
            for symbol, frame in bars.items():
                answer = bot.decide(symbol, frame, len(frame))
                done.decisions.append(
                    Decision(
                        symbol=symbol,
                        bar=frame.index[-1].to_pydatetime(),
                        close=float(frame["close"].iloc[-1]),
                        answer=answer,
                        reason="" if bot.reason is None else storable(bot.reason),
                    )
                )
        _trade(bot, done, bars, log)
    except BaseException as error:
        log.fail(error, exit_code(error))
        raise
    return done


def exit_code(error: BaseException) -> int:
    """What a bot's process ends with after `error`."""
    if isinstance(error, Stopped):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):  # of a round that is run without `Bot.main`
        return 130
    return 2 if isinstance(error, ConfigError) else 1


def _newest_bars(bot: "Bot", done: Round) -> dict[str, pd.DataFrame]:
    """The histories that end with the latest complete session; the other tickers have failed."""
    bars = {}
    for symbol, frame in bot.fetch_all().items():
        try:
            if isinstance(frame, DataError):
                raise frame
            refuse_old(bot, symbol, frame)
            bars[symbol] = frame
        except DataError as error:
            logger.warning("%s is left out: %s", symbol, str(error).removeprefix(f"{symbol}: "))
            done.failed[symbol] = str(error)
    if not bars:
        raise DataError("; ".join(done.failed.values()))
    return bars


def refuse_old(bot: "Bot", symbol: str, bars: pd.DataFrame) -> None:
    """DataError unless they end with the latest complete session.

    Stricter than the job: a price of days ago is none to trade at.
    """
    newest = bars.index[-1].to_pydatetime()
    late = sessions_between(symbol, newest, latest_complete_session(symbol, bot.data.now()))
    if late:
        raise DataError(
            f"{symbol}: its newest bar is of {newest:%Y-%m-%d}, sessions since: {late}; "
            "there is no price to trade at"
        )


def _trade(bot: "Bot", done: Round, bars: dict[str, pd.DataFrame], log: RoundLog) -> None:
    """Do what was decided, and say so in the log: one transaction.

    Another process that runs the same bot waits at the lock. What it then finds traded on the bar
    that it decided on, it leaves alone.
    """
    with bot.sessions() as session:
        desk = open_desk(session, bot, bars)
        for decision in done.decisions:
            symbol = decision.symbol
            decision.traded_before = desk.traded.get(symbol) == desk.closed[symbol]
        desk.account.follow({d.symbol: d.answer for d in done.decisions if not d.traded_before})
        close_desk(session, desk)
        done.fills, done.portfolio = desk.account.fills, desk.account.portfolio
        done.remarks = desk.remarks
        log.end(session, done.counts(), done.details())
