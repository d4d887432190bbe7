"""The tables of matured forecasts: what the nightly scores keep of the ledger.

A cache: whatever is missing here is computed again from `kronos_forecasts`.
"""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from tradingbot.persistence.columns import BarTime, Base, JsonObject


class KronosMaturedPart(Base):
    """How much of the ledger `kronos_matured` holds: of one ticker by one model."""

    __tablename__ = "kronos_matured_parts"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]  # of the code that computed it
    first_as_of: Mapped[datetime] = mapped_column(BarTime)  # the oldest in the ledger
    until: Mapped[datetime] = mapped_column(BarTime)  # it holds all forecasts of an earlier as_of
    forecasts: Mapped[int]  # that it holds
    # the closes that they were compared with, as far as candles may still change: int64 seconds,
    # then float64 prices
    closes: Mapped[bytes]
    left_out: Mapped[dict[str, int]] = mapped_column(JsonObject)  # reason -> how many lack a score


class KronosMatured(Base):
    """The losses of one ticker's forecasts with an outcome, for the targets of one quarter.

    `forecasts` is `MaturedForecasts.packed()`. With the symbol "*" it is `Correlations.packed()`.
    """

    __tablename__ = "kronos_matured"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" where it is not known
    quarter: Mapped[datetime] = mapped_column(BarTime, primary_key=True)  # its first day
    forecasts: Mapped[bytes]
