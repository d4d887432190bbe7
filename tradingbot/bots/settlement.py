"""Settle what happened to a bot's positions since the last check, independent of its decisions.

Splits change the number of shares held, dividends are credited, and a ticker without bars for
DELISTED_AFTER sessions is closed at its last price. Each is done once, for any number of runs and
any period, because `bot_positions` stores the basis of each quantity. If the candles are unclear,
the ticker is not traded.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.bots.account import CASH, Fill
from tradingbot.bots.bases import basis_of, of_trade
from tradingbot.bots.dividends import Dividend, due, held_before
from tradingbot.bots.repository import (
    add_trade,
    damaged_positions,
    drop_positions,
    last_trades,
    put_positions,
    put_worth,
    read_positions,
)
from tradingbot.bots.split_factors import Basis, Unclear, new_shares, newest_closes
from tradingbot.bots.ticker_lookup import TickerFacts, bar_end
from tradingbot.data.splits_and_dividends import Actions
from tradingbot.errors import DataError, DataUnavailable
from tradingbot.formatting import price_text
from tradingbot.markets.session_dates import session_date
from tradingbot.markets.symbols import may_pay_dividends
from tradingbot.persistence.candles import read_splits
from tradingbot.persistence.models import BotRow


class Settlement:
    """The settlement of a bot's locked row.

    Splits and delistings are settled at once. `dividends`, in order of time, are left to the
    broker, which knows what was held on each day.
    """

    def __init__(
        self, session: Session, row: BotRow, interval: str, known: Mapping[str, TickerFacts]
    ) -> None:
        self._session, self._row, self._interval, self._known = session, row, interval, known
        self._positions = read_positions(session, row.name)
        self._damaged = damaged_positions(session, row.name)
        self._trades = {trade.symbol: trade for trade in last_trades(session, row.name)}
        self._bases: dict[str, Basis] = {}
        self._deferred: set[str] = set()  # tickers whose dividends are left to a later round
        self.dividends: list[Dividend] = []
        self.prices: dict[str, float] = {}  # prices of holdings, if known
        self.stopped: dict[str, DataError] = {}  # tickers that must not be traded, and why
        self.without_dividends: list[str] = []  # holdings whose dividends are unknown
        self.remarks: list[str] = []

    def settle(self, bars: Mapping[str, pd.DataFrame], waiting: Collection[str] = ()) -> None:
        """Settle all holdings, and check the other tickers of `bars`.

        `waiting` are the tickers with orders that may be filled. If one has no bars in this round,
        its dividends are left to the round that fills its orders.
        """
        self._deferred = set(waiting) - bars.keys()
        for symbol, quantity in dict(self._row.portfolio).items():
            if symbol == CASH:
                continue
            if quantity and symbol in self._known:
                self._settle(symbol, quantity, self._known[symbol])
            elif symbol in self._known:
                self._settle_not_held(symbol, self._known[symbol])
            elif symbol in bars and not quantity:
                closes = newest_closes(bars[symbol]["close"])
                self._bases[symbol] = Basis(max(closes), self._interval, closes)
                position, actions = self._positions.get(symbol), bars[symbol].attrs.get("actions")
                if position is None:
                    continue
                if isinstance(actions, Actions):  # an order may be filled
                    basis = Basis(position.as_of, position.interval, {})
                    self.dividends += due(symbol, basis, actions, self._interval, max(closes))
                elif position.interval == self._interval:  # until a round knows the dividends
                    self._bases[symbol] = Basis(position.as_of, self._interval, closes)
        self.dividends.sort(key=lambda dividend: dividend.day)
        self._session.flush()

    def write(self) -> None:
        """Record the basis of all quantities, and the bot's value."""
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
        if symbol in self._damaged:  # guessing might count a split twice
            self._stop(symbol, "its row of bot_positions is damaged")
            return
        position, trade = self._positions.get(symbol), self._trades.get(symbol)
        basis = basis_of(position, trade, self._row, self._interval)
        prices = known.prices
        as_of, held, by_hand = basis.as_of, quantity, self._is_by_hand(symbol, quantity)
        try:
            if prices:
                quantity, as_of = self._restated(symbol, quantity, basis, known)
        except Unclear as unclear:
            self._stop(symbol, str(unclear))
            return
        except DataUnavailable as out_of_reach:
            self.stopped[symbol] = out_of_reach
            self._remark(f"{symbol}: {out_of_reach.reason}")
            return
        deferred = symbol in self._deferred and quantity == held and not known.is_delisted
        if prices and known.actions is not None and not deferred:
            paid = due(symbol, basis, known.actions, self._interval, max(prices))
            self._look_for_dividends(symbol, basis, paid, held, quantity / held, by_hand=by_hand)
        elif prices and may_pay_dividends(symbol) and not deferred:
            self._remark(
                f"{symbol}: the source could not be asked for its dividends since "
                f"{basis.as_of:%Y-%m-%d}; a later round credits them"
            )
        self._note_unreported_dividends(symbol, known)
        if known.is_delisted:
            self._close_delisted(symbol, quantity, basis, known)
        if not prices:
            return
        newest = max(prices)
        self.prices[symbol] = prices[newest]
        interval = basis.interval if known.frame is None else self._interval
        as_of = as_of if as_of > basis.as_of else newest
        if deferred or (known.actions is None and quantity == held):
            as_of = basis.as_of  # until a round credits the dividends since then
        self._bases[symbol] = Basis(as_of, interval, prices)

    def _note_unreported_dividends(self, symbol: str, known: TickerFacts) -> None:
        reported = known.actions is None or known.actions.dividends is not None
        if not reported and may_pay_dividends(symbol):
            self.without_dividends.append(symbol)

    def _settle_not_held(self, symbol: str, known: TickerFacts) -> None:
        """Credit dividends that were unknown when the ticker was sold, if they are known now.

        Later ones are left to the broker, which may fill an order before their day.
        """
        basis = basis_of(self._positions[symbol], None, self._row, self._interval)
        if known.actions is None or not known.prices or symbol in self._deferred:
            self._bases[symbol] = basis
            return
        paid = due(symbol, basis, known.actions, self._interval, max(known.prices))
        self._look_for_dividends(symbol, basis, paid, 0.0, 1.0, by_hand=False)
        self._bases[symbol] = Basis(max(known.prices), self._interval, known.prices)

    def _look_for_dividends(
        self,
        symbol: str,
        basis: Basis,
        paid: list[Dividend],
        held: float,
        ratio: float,
        *,
        by_hand: bool,
    ) -> None:
        """Plan these dividends. Credit at once those on whose day another quantity was held.

        `held` is the quantity before this round's splits, `ratio` the factor of these splits.
        """
        if paid and by_hand:
            self._remark(
                f"{symbol}: its quantity was written by hand after {basis.as_of:%Y-%m-%d}; "
                f"dividends since then ({len(paid)}) are not credited"
            )
            return
        for dividend in paid:
            then = held_before(self._session, self._row.name, dividend, held)
            if then is None:
                self.dividends.append(dividend)
            elif then > 0:
                self._credit(dividend, then * ratio)
                self._remark(
                    f"{symbol}: a dividend of {dividend.amount:.6g} a share on "
                    f"{dividend.day:%Y-%m-%d}, which is known only now; "
                    f"{then * ratio * dividend.amount:,.2f} USD are credited"
                )

    def _credit(self, dividend: Dividend, held: float) -> None:
        paid = Fill(dividend.symbol, "dividend", held, dividend.amount, 0.0)
        add_trade(self._session, self._row.name, paid, dividend.day, "dividend")
        self._add_cash(held * dividend.amount)

    def _is_by_hand(self, symbol: str, quantity: float) -> bool:
        """Return whether the quantity differs from that of the last round."""
        position = self._positions.get(symbol)
        if position is not None:
            return position.quantity != quantity
        return bool(self._positions) and symbol not in self._trades

    def _restated(
        self, symbol: str, held: float, basis: Basis, known: TickerFacts
    ) -> tuple[float, datetime]:
        """Return the quantity in today's shares, and the day up to which splits are included.

        Raises:
            Unclear: Neither the candles nor the list of splits shows it.
            DataUnavailable: The number has changed, and the dividends since the basis are unknown.
        """
        source_splits = None if known.actions is None else known.actions.splits
        listed = {**read_splits(self._session, symbol), **(source_splits or {})}
        splits_known = listed or source_splits is not None
        position, trade = self._positions.get(symbol), self._trades.get(symbol)
        if position is None and trade is not None:
            basis = of_trade(trade, basis, known.closes)
        date_of = partial(session_date, symbol, basis.interval)
        became = new_shares(basis, known.closes, listed if splits_known else None, date_of)
        if became.shares != 1:
            if self._is_by_hand(symbol, held):
                raise Unclear(
                    f"its quantity was written by hand after {basis.as_of:%Y-%m-%d}, and 1 share "
                    f"of that day is {became.shares:.6g} now: it is unclear whether the quantity "
                    "includes this split"
                )
            if known.actions is None and may_pay_dividends(symbol):
                raise DataUnavailable(
                    f"there was a split since {basis.as_of:%Y-%m-%d}, and the source could not be "
                    "asked for its dividends; it is not traded until a round settles both",
                    symbol=symbol,
                )
            self._split(symbol, held, became.shares, basis, known.closes)
        return held * became.shares, became.as_of

    def _split(
        self, symbol: str, held: float, ratio: float, basis: Basis, closes: "pd.Series[float]"
    ) -> None:
        """Book a split as a sale and a purchase of the same value, without costs."""
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
            f"{symbol}: the close of {time:%Y-%m-%d} was {price_text(price * ratio)} and is "
            f"{price_text(price)} in today's candles: a split; {held:.6g} shares are now "
            f"{held * ratio:.6g}"
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
            self._stop(symbol, "it no longer has bars, and its price is unknown")
            return
        for dividend in [planned for planned in self.dividends if planned.symbol == symbol]:
            self.dividends.remove(dividend)
            self._credit(dividend, held)
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
        remedy = (
            f"`kronosbot portfolio set {self._row.name} {symbol} QUANTITY` sets it in "
            "today's shares"
        )
        self.stopped[symbol] = DataError(f"{why}; not traded: {remedy}", symbol=symbol)
        self._remark(f"{symbol}: {why}; it is not traded")

    def _remark(self, text: str) -> None:
        self.remarks.append(text)
