"""The tables of the bots: portfolios, positions, values and trades."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, mapped_column

from tradingbot.persistence.columns import BarTime, Base, JsonOfMoney, JsonOrNull, UtcDateTime
from tradingbot.runtime.clock import utcnow


class BotRow(Base):
    """A bot's portfolio, `{"USD": cash, "AAPL": quantity}`. A quantity of 0 is a watched ticker."""

    __tablename__ = "bots"

    name: Mapped[str] = mapped_column(primary_key=True)
    portfolio: Mapped[dict[str, float]] = mapped_column(
        MutableDict.as_mutable(JsonOfMoney), default=dict
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow, onupdate=utcnow)


class BotPosition(Base):
    """The quantity of a ticker that a bot held at the close of the bar `as_of`.

    Splits after `as_of` still change this quantity. Splits up to `as_of` are already included.
    """

    __tablename__ = "bot_positions"

    bot_name: Mapped[str] = mapped_column(ForeignKey("bots.name"), primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[float]  # differs from bots.portfolio after an edit of the latter by hand
    as_of: Mapped[datetime] = mapped_column(BarTime)
    interval: Mapped[str]
    closes: Mapped[dict[str, float]] = mapped_column(JsonOrNull)  # bar -> close, as known then


class BotValue(Base):
    """The value of a bot at the close of a bar."""

    __tablename__ = "bot_values"

    bot_name: Mapped[str] = mapped_column(ForeignKey("bots.name"), primary_key=True)
    at: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    cash: Mapped[float]
    value: Mapped[float]  # cash and positions, USD


class Trade(Base):
    """One paper trade, or another booking of a position.

    Cash changes by quantity x price: it falls for "buy" and rises for "sell" and "dividend". Costs
    are deducted.
    """

    __tablename__ = "trades"
    __table_args__ = (Index(None, "bot_name", "executed_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    bot_name: Mapped[str] = mapped_column(ForeignKey("bots.name"))
    symbol: Mapped[str]
    side: Mapped[str]  # "buy", "sell", or "dividend", which pays `price` per share held
    quantity: Mapped[float]  # always positive
    price: Mapped[float]  # per unit, before costs
    costs: Mapped[float]
    executed_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    note: Mapped[str | None]  # such as "split" or "delisted"; None: the bot's own trade
