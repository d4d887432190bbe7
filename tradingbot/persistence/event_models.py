"""The tables of events of sample paths: stored probabilities and their scores."""

from datetime import datetime
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.orm import Mapped, mapped_column

from tradingbot.persistence.columns import BarTime, Base, Json, UtcDateTime

ALL_EVENTS = "*"  # value of KronosEventScore.event


class KronosEvent(Base):
    """The ledger of events: the forecast probability that an event happens by the end of a bar.

    The key is that of `kronos_forecasts` plus the event's name. Rows are added and never changed.
    """

    __tablename__ = "kronos_events"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    # the event happens by the end of this bar
    target_date: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    bars_hash: Mapped[str] = mapped_column(primary_key=True, server_default="")
    event: Mapped[str] = mapped_column(primary_key=True)  # such as "touch +2%", as in path_events
    model_revision: Mapped[str | None]
    prediction_made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    horizon_days: Mapped[int]  # steps ahead: 1 = the next bar
    last_close: Mapped[float]  # the event's levels in per cent are relative to this close
    probability: Mapped[float]  # share of the paths after they are moved to the served quantiles
    low: Mapped[float]  # 95 % interval of the probability; covers only the Monte Carlo error
    high: Mapped[float]
    mean: Mapped[float | None]  # per cent: mean drawdown or range over the paths


BIN = ("from", "to", "n", "probability", "frequency", "low", "high")  # the last two may be missing


class Bins(Json):
    """A list of objects with the numbers BIN; [] for an invalid stored value."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(list)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        bins = super().process_result_value(value, dialect)
        return bins if all(map(_is_bin, bins)) else []


def _is_bin(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    numbers = [
        *(value.get(name) for name in BIN[:-2]),
        value.get("low", 0.0),
        value.get("high", 0.0),
    ]
    return all(isinstance(number, int | float) and abs(number) < 1e15 for number in numbers)


class KronosEventScore(Base):
    """Scores of one event's probabilities, for one ticker or all, at one step ahead or all.

    A score is None if there are too few probabilities, or if it is not defined.
    """

    __tablename__ = "kronos_event_scores"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" if unknown
    interval: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)  # or ALL_SYMBOLS
    event: Mapped[str] = mapped_column(primary_key=True)  # or ALL_EVENTS
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # or ALL_STEPS
    n: Mapped[int]  # probabilities with an outcome
    sessions: Mapped[int]  # number of distinct target dates
    first_target: Mapped[datetime] = mapped_column(BarTime)
    last_target: Mapped[datetime] = mapped_column(BarTime)
    mean_probability: Mapped[float | None]  # mean of the forecast probabilities
    frequency: Mapped[float | None]  # share of cases in which the event happened
    brier: Mapped[float | None]  # mean of (probability - outcome)²
    base_brier: Mapped[float | None]  # Brier score of always forecasting `frequency`
    brier_skill: Mapped[float | None]  # 1 - brier ÷ base_brier
    skill_low: Mapped[float | None]  # 95 % interval of the skill; only over all steps
    skill_high: Mapped[float | None]
    reliability: Mapped[float | None]  # loss of Brier score due to miscalibration; 0 is best
    resolution: Mapped[float | None]  # gain of Brier score due to distinguishing cases
    # ten bins with the fields BIN; [] with too few probabilities
    bins: Mapped[list[dict[str, Any]]] = mapped_column(Bins)
    scored_at: Mapped[datetime] = mapped_column(UtcDateTime)
