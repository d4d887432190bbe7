"""Splits, dividends and delistings in a backtest."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import pandas as pd

from tradingbot.bots.account import Account, Fill
from tradingbot.bots.split_factors import first_bar, leaves_out
from tradingbot.bots.ticker_lookup import DELISTED_AFTER
from tradingbot.data.splits_and_dividends import Actions
from tradingbot.markets.candles import PRICES
from tradingbot.markets.session_dates import session_date
from tradingbot.markets.symbols import may_pay_dividends

logger = logging.getLogger(__name__)


@dataclass
class PastActions:
    """Corporate actions of a backtest's tickers, and notes about them."""

    dividends: dict[str, dict[datetime, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def read(self, symbol: str, history: Any, interval: str, bars: pd.DataFrame) -> pd.DataFrame:
        """Read a history's corporate actions; return its bars with prices adjusted for splits."""
        actions = _actions(symbol, history)
        dividends = dict(actions.dividends or {})
        date_of = partial(session_date, symbol, interval)
        for day, ratio in sorted((actions.splits or {}).items()):
            if leaves_out(bars["close"], day, ratio, date_of):
                first = first_bar(pd.DatetimeIndex(bars.index), day, date_of)
                bars = _adjusted(bars, first, ratio)
                # dividends as paid, like the prices
                dividends |= {at: paid / ratio for at, paid in dividends.items() if at < day}
                self.note(
                    f"{symbol}: its candles leave out the split of {ratio:g}:1 on {day:%Y-%m-%d}; "
                    f"earlier prices are divided by {ratio:g}"
                )
        if actions.dividends is None and may_pay_dividends(symbol):
            self.notes.append(f"{symbol}: its dividends are unknown, and not credited")
        self.dividends[symbol] = dividends
        return bars

    def note(self, text: str) -> None:
        self.notes.append(text)
        logger.warning("%s", text)


class Holdings:
    """The holdings of a backtest's account as tickers pay dividends and are delisted."""

    def __init__(self, account: Account, actions: PastActions, interval: str) -> None:
        self._account, self._actions, self._interval = account, actions, interval
        self._due = {name: sorted(days.items()) for name, days in actions.dividends.items()}
        self.days = 0  # number of days with any bar so far
        self._day: datetime | None = None
        self._seen: dict[str, int] = {}  # ticker -> number of the day of its last bar
        self.dividends: list[tuple[datetime, Fill]] = []

    def before(self, time: datetime, present: Mapping[str, int], last: Mapping[str, float]) -> None:
        """Apply what happened before the open of the bars at `time`; `last` are the known closes.

        Positions held before an ex-dividend day get the dividend. A ticker without a bar on
        DELISTED_AFTER days on which others had one is closed at its last price.
        """
        midnight = datetime(time.year, time.month, time.day)
        self.days += midnight != self._day
        self._day = midnight
        for symbol in present:
            due = self._due.get(symbol, [])
            while due and due[0][0].date() <= session_date(symbol, self._interval, time):
                day, amount = due.pop(0)
                if symbol in self._seen and (paid := self._account.credit(symbol, amount)):
                    self.dividends.append((day, paid))
            self._seen[symbol] = self.days
        for symbol, seen in self._seen.items():
            if self.days - seen == DELISTED_AFTER and self._account.held(symbol):
                self._account.close(symbol, last[symbol])
                self._actions.note(
                    f"{symbol}: no bar on {DELISTED_AFTER} days until {time:%Y-%m-%d}; closed at "
                    f"its last price, {last[symbol]:g}"
                )


def _actions(symbol: str, history: Any) -> Actions:
    """Return corporate actions from a source's own frame, or from yfinance's columns."""
    attributes = getattr(history, "attrs", {})
    if isinstance(attributes.get("actions"), Actions):
        return attributes["actions"]  # type: ignore[no-any-return]
    found: dict[str, dict[datetime, float] | None] = {}
    columns = _columns(symbol, history)
    for name, column, nothing in (("splits", "stock splits", 1), ("dividends", "dividends", 0)):
        found[name] = attributes.get(name)
        if found[name] is None and column in columns:
            values = columns[column]
            days = pd.DatetimeIndex(values.index).tz_localize(None).normalize().to_pydatetime()
            numbers = values.astype("float64").to_list()
            pairs = zip(days, numbers, strict=True)
            found[name] = {day: amount for day, amount in pairs if amount > 0 and amount != nothing}
    if columns and "adj close" not in columns:  # yfinance's closes are adjusted for them already
        found["dividends"] = attributes.get("dividends")
    return Actions(datetime.min, found["splits"], found["dividends"])


def _columns(symbol: str, history: Any) -> dict[str, pd.Series]:
    """Return the ticker's columns by lower-case name, if the frame is indexed by time."""
    if not isinstance(history, pd.DataFrame) or not isinstance(history.index, pd.DatetimeIndex):
        return {}
    if isinstance(history.columns, pd.MultiIndex):
        level = next((i for i in (0, 1) if symbol in history.columns.get_level_values(i)), None)
        if level is None:
            return {}
        history = history.xs(symbol, axis=1, level=level)
    return {str(name).lower(): history[name] for name in history.columns}


def _adjusted(bars: pd.DataFrame, first: int, ratio: float) -> pd.DataFrame:
    """Adjust the bars before position `first` for a split."""
    before = bars.index[:first]
    bars = bars.copy()
    bars.loc[before, PRICES] /= ratio
    if "volume" in bars:
        bars.loc[before, "volume"] *= ratio
    return bars
