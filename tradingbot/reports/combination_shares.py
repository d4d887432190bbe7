"""Shares (weights) of each forecaster in the combined forecast, by step and by day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tradingbot.combination_shares import rivals_of
from tradingbot.persistence.report_queries import shares_by_day
from tradingbot.postprocessing.bands import ALL_CLASSES
from tradingbot.postprocessing.combination import Course, State
from tradingbot.postprocessing.combined_forecast import suffices
from tradingbot.postprocessing.experts import FORECASTERS
from tradingbot.postprocessing.repository import load_combination

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tradingbot.typing import Floats

NAMES = ("Kronos", "Random walk", "EWMA walk", "Range walk")  # display names of FORECASTERS


@dataclass(frozen=True)
class StepShares:
    """Shares at one step ahead, for all asset classes together."""

    step: int
    shares: tuple[float, ...]  # in the order of FORECASTERS; sum 1
    forecasts: int  # number of forecasts they were learnt from
    sessions: int
    until: datetime
    served: bool  # whether they were learnt from enough outcomes to be used in served forecasts


def read_shares(session: "Session", model: str, revision: str, interval: str) -> list[StepShares]:
    """Return the stored shares of this revision, or [] if nothing is learnt yet."""
    found = load_combination(session, (model, revision, interval))
    pools = {} if found is None else found.pools
    return shares_of({step: state for (kind, step), state in pools.items() if kind == ALL_CLASSES})


def _models_together(weights: list[float]) -> tuple[float, ...]:
    """Return the shares of FORECASTERS, with challengers' shares added to Kronos'."""
    own, rivals = weights[: len(FORECASTERS)], weights[len(FORECASTERS) :]
    return own[0] + sum(rivals), *own[1:]


def shares_of(states: Mapping[int, State]) -> list[StepShares]:
    """Return the shares of each state, one row per step ahead."""
    return [
        StepShares(
            step=step,
            shares=_models_together(state.weights.tolist()),
            forecasts=state.forecasts,
            sessions=state.sessions,
            until=state.until.astype("M8[s]").item(),
            served=suffices(state),
        )
        for step, state in sorted(states.items())
        if state.until is not None
    ]


@dataclass(frozen=True)
class SharesByDay:
    """Shares over time, averaged over tickers and steps. Empty if nothing was combined."""

    days: Sequence[datetime] = ()
    shares: Sequence[tuple[float, ...]] = ()  # (days,) in the order of FORECASTERS


def read_shares_by_day(
    session: "Session", model: str, revision: str, interval: str, since: datetime
) -> SharesByDay:
    """Return the shares in forecasts made from `since` on, averaged for each day."""
    sums: dict[datetime, Floats] = {}
    for day, shares, n in shares_by_day(
        session, model=model, revision=revision, interval=interval, since=since
    ):
        try:
            of_models = sum(shares[rival] for rival in rivals_of(shares))  # added to Kronos' share
            row = n * np.array([float(shares.get(name, 0.0)) for name in FORECASTERS])
            row[0] += n * of_models
        except (AttributeError, TypeError, ValueError, ArithmeticError):
            continue  # a damaged row
        if np.isfinite(row).all() and row.sum() > 0:
            sums[day] = sums.get(day, 0.0) + row
    return SharesByDay(
        days=[*sums], shares=[tuple((row / row.sum()).tolist()) for row in sums.values()]
    )


def shares_by_day_of(courses: Mapping[int, Course]) -> SharesByDay:
    """Return the shares after each session, averaged over all steps."""
    by_step = [
        pd.DataFrame([state.weights for state in course.states[1:]], course.sessions)
        for course in courses.values()
        if len(course.sessions)
    ]
    if not by_step:
        return SharesByDay()
    means = sum(by_step[1:], by_step[0]).dropna() / len(by_step)
    return SharesByDay(
        days=[day.to_pydatetime() for day in means.index],
        shares=[tuple(row) for row in means.to_numpy().tolist()],
    )


assert len(NAMES) == len(FORECASTERS)
