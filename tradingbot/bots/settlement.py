"""What happened to a bot's positions since they were last looked at, whatever the bot decides.

Splits change how many shares are held, dividends are credited, and what has had no bar for
DELISTED_AFTER sessions is closed at its last price. Each is done once, however often and with
whatever period the bot runs: `bot_positions` says in which shares each quantity is counted. Where
the candles do not tell, the ticker is not traded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH, Fill
from tradingbot.bots.repository import (
    add_trade,
    damaged_positions,
    drop_positions,
    last_trades,
    put_positions,
    put_worth,
    read_bot,
    read_positions,
)
from tradingbot.bots.splits import Basis, Unclear, new_shares, newest_closes
from tradingbot.bots.ticker_lookup import Frames, TickerFacts, TickerLookup, bar_end
from tradingbot.data.corporate_actions import Actions
from tradingbot.errors import DataError
from tradingbot.formatting import price_text
from tradingbot.markets.session_dates import session_date
from tradingbot.markets.symbols import may_pay_dividends
from tradingbot.persistence.candles import read_splits
from tradingbot.persistence.models import BotPosition, BotRow, Trade
from tradingbot.typing import SessionFactory


@dataclass(frozen=True)
class Dividend:
    """USD a share of today, for the holder of the ticker before `day` begins."""

    day: datetime
    symbol: str
    amount: float


def look_up_held(
    name: str, interval: str, frames: Frames, look_up: TickerLookup, sessions: SessionFactory
) -> dict[str, TickerFacts]:
    """What the source knows of the tickers that the bot holds, watched or not.

    It is asked before the bot is locked; `frames` are those of the tickers that are watched.
    """
    with sessions() as session:
        row = read_bot(session, name)
        bases = {} if row is None else _bases(session, row, interval)
    return {symbol: look_up.known(symbol, basis, frames) for symbol, basis in bases.items()}


def _bases(session: Session, row: BotRow, interval: str) -> dict[str, Basis]:
    """What each quantity that is held is counted in."""
    positions = read_positions(session, row.name)
    trades = {trade.symbol: trade for trade in last_trades(session, row.name)}
    return {
        symbol: _basis(positions.get(symbol), trades.get(symbol), row, interval)
        for symbol, quantity in row.portfolio.items()
        if quantity and symbol != CASH
    }


def _basis(position: BotPosition | None, trade: Trade | None, row: BotRow, interval: str) -> Basis:
    if position is not None:
        closes = {datetime.fromisoformat(time): close for time, close in position.closes.items()}
        return Basis(position.as_of, position.interval, closes)
    if trade is not None:  # of a database from before there were positions
        return Basis(trade.executed_at, interval, {})
    return Basis(row.updated_at, interval, {})  # written there by hand, and never looked at


class Settlement:
    """The bot's row, locked, and what is written down about its positions.

    Splits and delistings are settled at once; `dividends`, in order of time, are left to the
    broker, who knows what was held on each day.
    """

    def __init__(
        self, session: Session, row: BotRow, interval: str, known: Mapping[str, TickerFacts]
    ) -> None:
        self._session, self._row, self._interval, self._known = session, row, interval, known
        self._positions = read_positions(session, row.name)
        self._damaged = damaged_positions(session, row.name)
        self._trades = {trade.symbol: trade for trade in last_trades(session, row.name)}
        self._bases: dict[str, Basis] = {}
        self.dividends: list[Dividend] = []
        self.prices: dict[str, float] = {}  # of what is held, where known
        self.stopped: dict[str, DataError] = {}  # what must not be traded, and why
        self.untold: list[str] = []  # held, and whether it pays dividends is not known
        self.remarks: list[str] = []

    def settle(self, bars: Mapping[str, pd.DataFrame]) -> None:
        """Bring all that is held up to date, and look at the other tickers of `bars`."""
        for symbol, quantity in dict(self._row.portfolio).items():
            if symbol == CASH:
                continue
            if quantity and symbol in self._known:
                self._settle(symbol, quantity, self._known[symbol])
            elif symbol in bars and not quantity:
                closes = newest_closes(bars[symbol]["close"])
                self._bases[symbol] = Basis(max(closes), self._interval, closes)
                position, told = self._positions.get(symbol), bars[symbol].attrs.get("actions")
                if position is not None and isinstance(told, Actions):  # an order may be filled
                    basis = Basis(position.as_of, position.interval, {})
                    self._expect_dividends(symbol, basis, told, max(closes))
        self.dividends.sort(key=lambda dividend: dividend.day)
        self._session.flush()

    def write(self) -> None:
        """Note in which shares all quantities are counted now, and what all is worth."""
        gone = self._positions.keys() - self._row.portfolio.keys()
        drop_positions(self._session, self._row.name, gone)
        rows = [
            {
                "bot_name": self._row.name,
                "symbol": symbol,
                "quantity": float(self._row.portfolio.get(symbol, 0.0)),
                "as_of": basis.as_of,
                "interval": basis.interval,
                "closes": {time.isoformat(): close for time, close in basis.closes.items()},
            }
            for symbol, basis in self._bases.items()
        ]
        self._session.flush()
        put_positions(self._session, rows)
        put_worth(self._session, self._row)

    def _settle(self, symbol: str, quantity: float, known: TickerFacts) -> None:
        if symbol in self._damaged:  # to guess might count a split twice
            self._stop(symbol, "its row of bot_positions is damaged")
            return
        position, trade = self._positions.get(symbol), self._trades.get(symbol)
        basis = _basis(position, trade, self._row, self._interval)
        prices = known.prices
        as_of, by_hand = basis.as_of, self._is_by_hand(symbol, quantity)
        try:
            if prices:
                quantity, as_of = self._restated(symbol, quantity, basis, known)
        except Unclear as unclear:
            self._stop(symbol, str(unclear))
            return
        if prices:
            self._look_for_dividends(symbol, basis, known, by_hand=by_hand)
        if known.is_delisted:
            self._close_delisted(symbol, quantity, basis, known)
        if not prices:
            return
        newest = max(prices)
        self.prices[symbol] = prices[newest]
        interval = basis.interval if known.frame is None else self._interval
        as_of = as_of if as_of > basis.as_of else newest
        self._bases[symbol] = Basis(as_of, interval, prices)

    def _look_for_dividends(
        self, symbol: str, basis: Basis, known: TickerFacts, *, by_hand: bool
    ) -> None:
        """Expect those of what is held, or say why none are."""
        before = len(self.dividends)
        self._expect_dividends(symbol, basis, known.actions, max(known.prices))
        found = len(self.dividends) - before
        if found and by_hand:
            del self.dividends[before:]
            self._remark(
                f"{symbol}: its quantity was written by hand after {basis.as_of:%Y-%m-%d}; "
                f"dividends since then ({found}) are not credited"
            )
        if known.actions.dividends is None and may_pay_dividends(symbol):
            self.untold.append(symbol)

    def _is_by_hand(self, symbol: str, quantity: float) -> bool:
        """Whether it is not the quantity that the last round left."""
        position = self._positions.get(symbol)
        if position is not None:
            return position.quantity != quantity
        return bool(self._positions) and symbol not in self._trades

    def _expect_dividends(
        self, symbol: str, basis: Basis, actions: Actions, newest: datetime
    ) -> None:
        since = session_date(symbol, basis.interval, basis.as_of)
        latest = session_date(symbol, self._interval, newest)
        self.dividends += [
            Dividend(day, symbol, amount)
            for day, amount in (actions.dividends or {}).items()
            if since < day.date() <= latest
        ]

    def _restated(
        self, symbol: str, held: float, basis: Basis, known: TickerFacts
    ) -> tuple[float, datetime]:
        """The quantity in shares of today, and the day up to which splits are in it."""
        listed = {**read_splits(self._session, symbol), **(known.actions.splits or {})}
        is_told = listed or known.actions.splits is not None
        position, trade = self._positions.get(symbol), self._trades.get(symbol)
        if position is None and trade is not None:
            basis = _of_trade(trade, basis, known.closes)
        date_of = partial(session_date, symbol, basis.interval)
        became = new_shares(basis, known.closes, listed if is_told else None, date_of)
        if became.shares != 1:
            if self._is_by_hand(symbol, held):
                raise Unclear(
                    f"its quantity was written by hand after {basis.as_of:%Y-%m-%d}, and 1 share "
                    f"of then is {became.shares:.6g} now: whether that is in it cannot be told"
                )
            self._split(symbol, held, became.shares, basis, known.closes)
        return held * became.shares, became.as_of

    def _split(
        self, symbol: str, held: float, ratio: float, basis: Basis, closes: "pd.Series[float]"
    ) -> None:
        """Booked as a sale and a purchase of the same value, without costs."""
        common = [time for time in sorted(basis.closes) if time in closes.index]
        time = common[-1] if common else closes.index[-1].to_pydatetime()
        price = float(closes[time])
        moment = bar_end(symbol, time, basis.interval)
        for fill in (
            Fill(symbol, "sell", held, price * ratio, 0.0),
            Fill(symbol, "buy", held * ratio, price, 0.0),
        ):
            add_trade(self._session, self._row.name, fill, moment, "split")
        self._row.portfolio[symbol] = held * ratio
        self._remark(
            f"{symbol}: {time:%Y-%m-%d} closed at {price_text(price * ratio)} in the shares that "
            f"were held, and at {price_text(price)} as history has it now: a split; "
            f"{held:.6g} are now {held * ratio:.6g}"
        )

    def _close_delisted(self, symbol: str, held: float, basis: Basis, known: TickerFacts) -> None:
        assert known.last_bar is not None, "missed sessions are counted from it"
        trade = self._trades.get(symbol)
        if known.prices:
            price = known.prices[max(known.prices)]
        elif basis.closes:
            price = basis.closes[max(basis.closes)]
        elif trade is not None:
            price = trade.price
        else:
            self._stop(symbol, "it has no bars any more, and no price of it is known")
            return
        for dividend in [one for one in self.dividends if one.symbol == symbol]:
            self.dividends.remove(dividend)
            paid = Fill(symbol, "dividend", held, dividend.amount, 0.0)
            add_trade(self._session, self._row.name, paid, dividend.day, "dividend")
            self._add_cash(held * dividend.amount)
        moment = bar_end(symbol, known.last_bar, self._interval)
        fill = Fill(symbol, "sell", held, price, 0.0)
        add_trade(self._session, self._row.name, fill, moment, "delisted")
        self._row.portfolio[symbol] = 0.0
        self._add_cash(held * price)
        self._remark(
            f"{symbol}: no bar for {known.missed} sessions, the last of {known.last_bar:%Y-%m-%d}; "
            f"{held:.6g} are closed at the last price, {price_text(price)}"
        )

    def _add_cash(self, amount: float) -> None:
        self._row.portfolio[CASH] = self._row.portfolio.get(CASH, 0.0) + amount

    def _stop(self, symbol: str, why: str) -> None:
        way_out = (
            f"`kronosbot portfolio set {self._row.name} {symbol} QUANTITY` says what is held in "
            "shares of today"
        )
        self.stopped[symbol] = DataError(f"{why}; not traded: {way_out}", symbol=symbol)
        self._remark(f"{symbol}: {why}; it is not traded")

    def _remark(self, text: str) -> None:
        self.remarks.append(text)


def _of_trade(trade: Trade, basis: Basis, closes: "pd.Series[float]") -> Basis:
    """The basis with the price of the trade as the close of its bar."""
    end = int(closes.index.searchsorted(pd.Timestamp(trade.executed_at), side="right"))
    for at in range(max(0, end - 3), end):  # a session closes a day after its date at most
        time = closes.index[at].to_pydatetime()
        if bar_end(trade.symbol, time, basis.interval) == trade.executed_at:
            return Basis(basis.as_of, basis.interval, {time: trade.price})
    return basis
