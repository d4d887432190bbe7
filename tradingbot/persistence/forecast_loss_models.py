"""The tables of matured forecasts, which the nightly scores reuse.

The tables are a cache: missing rows are recomputed from `kronos_forecasts`.
"""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from tradingbot.persistence.columns import BarTime, Base, JsonObject


class KronosMaturedPart(Base):
    """Which forecasts of one ticker by one model `kronos_matured` covers."""

    __tablename__ = "kronos_matured_parts"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]  # version of the code that computed the losses
    first_as_of: Mapped[datetime] = mapped_column(BarTime)  # the oldest `as_of` in the ledger
    until: Mapped[datetime] = mapped_column(BarTime)  # forecasts with an earlier as_of are covered
    forecasts: Mapped[int]  # number of forecasts
    # the closes that the forecasts were compared with, in the period in which candles may still
    # change: int64 seconds, then float64 prices
    closes: Mapped[bytes]
    left_out: Mapped[dict[str, int]] = mapped_column(JsonObject)  # reason -> number of forecasts


class KronosMatured(Base):
    """The losses of one ticker's forecasts with an outcome, for the targets of one quarter.

    `forecasts` is `MaturedForecasts.packed()`. With the symbol "*" it is `Correlations.packed()`.
    """

    __tablename__ = "kronos_matured"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" if unknown
    quarter: Mapped[datetime] = mapped_column(BarTime, primary_key=True)  # its first day
    forecasts: Mapped[bytes]
