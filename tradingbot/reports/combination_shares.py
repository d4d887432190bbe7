"""What the combined forecast is made of: the share of each forecaster, by sessions ahead."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tradingbot.postprocessing.bands import ALL_CLASSES
from tradingbot.postprocessing.combination import State
from tradingbot.postprocessing.combined_forecast import suffices
from tradingbot.postprocessing.experts import FORECASTERS
from tradingbot.postprocessing.repository import load_combination

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NAMES = ("Kronos", "Random walk", "EWMA walk", "Range walk")  # of FORECASTERS


@dataclass(frozen=True)
class StepShares:
    """The shares of one step ahead, over all asset classes."""

    step: int
    shares: tuple[float, ...]  # of FORECASTERS; their sum is 1
    forecasts: int  # that they were learnt from
    sessions: int
    until: datetime
    served: bool  # whether that is enough to be given to bots


def read_shares(session: "Session", model: str, revision: str, interval: str) -> list[StepShares]:
    """Return the shares that are stored for this revision; none where nothing was learnt yet."""
    found = load_combination(session, (model, revision, interval))
    pools = {} if found is None else found.pools
    return shares_of({step: state for (kind, step), state in pools.items() if kind == ALL_CLASSES})


def shares_of(states: Mapping[int, State]) -> list[StepShares]:
    """Return one row a step ahead of what was learnt."""
    return [
        StepShares(
            step=step,
            shares=tuple(state.weights.tolist()),
            forecasts=state.forecasts,
            sessions=state.sessions,
            until=state.until.astype("M8[s]").item(),
            served=suffices(state),
        )
        for step, state in sorted(states.items())
        if state.until is not None
    ]


assert len(NAMES) == len(FORECASTERS)
