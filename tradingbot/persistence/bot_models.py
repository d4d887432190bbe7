"""The tables of the bots: what they own, in which shares, what it was worth, what they traded."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, mapped_column

from tradingbot.persistence.columns import BarTime, Base, JsonOfMoney, JsonOrNull, UtcDateTime
from tradingbot.runtime.clock import utcnow


class BotRow(Base):
    """What a bot owns, `{"USD": cash, "AAPL": quantity}`; quantity 0 is a ticker it watches."""

    __tablename__ = "bots"

    name: Mapped[str] = mapped_column(primary_key=True)
    portfolio: Mapped[dict[str, float]] = mapped_column(
        MutableDict.as_mutable(JsonOfMoney), default=dict
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow, onupdate=utcnow)


class BotPosition(Base):
    """What a bot's quantity of a ticker is counted in: shares as they were at the bar `as_of`.

    A split after that bar changes the quantity; one before it is already in there.
    """

    __tablename__ = "bot_positions"

    bot_name: Mapped[str] = mapped_column(ForeignKey("bots.name"), primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[float]  # in bots.portfolio it is another one after an edit by hand
    as_of: Mapped[datetime] = mapped_column(BarTime)
    interval: Mapped[str]
    closes: Mapped[dict[str, float]] = mapped_column(JsonOrNull)  # bar -> close, as known then


class BotValue(Base):
    """What a bot was worth at the close of a bar that it looked at."""

    __tablename__ = "bot_values"

    bot_name: Mapped[str] = mapped_column(ForeignKey("bots.name"), primary_key=True)
    at: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    cash: Mapped[float]
    value: Mapped[float]  # cash and positions, USD


class Trade(Base):
    """One paper trade, or what was done to a position without one.

    Cash changes by quantity x price, less for "buy", more for the others, and less by the costs.
    """

    __tablename__ = "trades"
    __table_args__ = (Index(None, "bot_name", "executed_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    bot_name: Mapped[str] = mapped_column(ForeignKey("bots.name"))
    symbol: Mapped[str]
    side: Mapped[str]  # "buy", "sell", or "dividend": `price` a share, and the shares stay
    quantity: Mapped[float]  # always positive
    price: Mapped[float]  # per unit, before costs
    costs: Mapped[float]
    executed_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    note: Mapped[str | None]  # "split", "delisted" and the like; None: the bot's own trade
