"""How far back a bot looks: how many bars to ask for, and which of them its period has."""

import math
from datetime import timedelta

import pandas as pd

from tradingbot.markets.data_quality import bar_length

MOST_BARS = 20_000  # 80 years of sessions
FEWEST_BARS = 64  # are asked for: a DataService may refuse a history that is short for a forecast


def bars_wanted(days: float | None, interval: str) -> int:
    """How many bars may lie in `days`; None is all there are."""
    if days is None:
        return MOST_BARS
    a_day = timedelta(days=1) / bar_length(interval)
    return min(MOST_BARS, max(FEWEST_BARS, math.ceil(days * a_day) + 1))


def in_period(frame: pd.DataFrame, days: float | None) -> pd.DataFrame:
    """The bars of the last `days`."""
    if days is None:
        return frame
    within: pd.DataFrame = frame[frame.index > frame.index[-1] - pd.Timedelta(days=days)]
    return within
