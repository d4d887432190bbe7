"""The tables of events on paths: what was believed of each, and how good that was."""

from datetime import datetime
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.orm import Mapped, mapped_column

from tradingbot.persistence.columns import BarTime, Base, Json, UtcDateTime

ALL_EVENTS = "*"  # in KronosEventScore.event


class KronosEvent(Base):
    """The ledger of events: how likely each was by the end of a bar, when its forecast was made.

    The key of `kronos_forecasts` and the event's name. Rows are added and never changed.
    """

    __tablename__ = "kronos_events"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    target_date: Mapped[datetime] = mapped_column(BarTime, primary_key=True)  # by the end of it
    bars_hash: Mapped[str] = mapped_column(primary_key=True, server_default="")
    event: Mapped[str] = mapped_column(primary_key=True)  # "touch +2%", as in path_events
    model_revision: Mapped[str | None]
    prediction_made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    horizon_days: Mapped[int]  # steps ahead: 1 = the next bar
    last_close: Mapped[float]  # from which its levels follow
    probability: Mapped[float]  # share of the paths, moved onto what was served
    low: Mapped[float]  # its 95 % interval: the Monte Carlo error alone
    high: Mapped[float]
    mean: Mapped[float | None]  # per cent: of a drawdown or range, the mean over the paths


BIN = ("from", "to", "n", "probability", "frequency", "low", "high")  # the last two may be missing


class Bins(Json):
    """A list of objects of the numbers BIN; [] for what is stored and is none."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(list)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        bins = super().process_result_value(value, dialect)
        return bins if all(map(_is_bin, bins)) else []


def _is_bin(one: object) -> bool:
    if not isinstance(one, dict):
        return False
    numbers = [*(one.get(name) for name in BIN[:-2]), one.get("low", 0.0), one.get("high", 0.0)]
    return all(isinstance(number, int | float) and abs(number) < 1e15 for number in numbers)


class KronosEventScore(Base):
    """How good the chances of one event were: of one ticker or all, one step ahead or all.

    A measure is None where too few chances stand behind it, or where it says nothing.
    """

    __tablename__ = "kronos_event_scores"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" where it is not known
    interval: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)  # or ALL_SYMBOLS
    event: Mapped[str] = mapped_column(primary_key=True)  # or ALL_EVENTS
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # or ALL_STEPS
    n: Mapped[int]  # chances with an outcome
    sessions: Mapped[int]  # distinct target dates among them
    first_target: Mapped[datetime] = mapped_column(BarTime)
    last_target: Mapped[datetime] = mapped_column(BarTime)
    mean_probability: Mapped[float | None]  # what was said
    frequency: Mapped[float | None]  # what happened
    brier: Mapped[float | None]  # mean of (probability - outcome)²
    base_brier: Mapped[float | None]  # of who always says `frequency`
    brier_skill: Mapped[float | None]  # 1 - brier ÷ base_brier
    skill_low: Mapped[float | None]  # its 95 % interval; of all steps only
    skill_high: Mapped[float | None]
    reliability: Mapped[float | None]  # of brier, what wrong chances cost: 0 is best
    resolution: Mapped[float | None]  # and what different chances gain
    bins: Mapped[list[dict[str, Any]]] = mapped_column(Bins)  # ten of BIN; [] for too few
    scored_at: Mapped[datetime] = mapped_column(UtcDateTime)
