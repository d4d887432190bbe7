"""A bot's period: how many bars to request, and which of them are in it."""

import math
from datetime import timedelta

import pandas as pd

from tradingbot.markets.data_quality import bar_length

MOST_BARS = 20_000  # 80 years of sessions
FEWEST_BARS = 64  # minimum to request: a DataService may refuse histories too short for a forecast


def bars_wanted(days: float | None, interval: str) -> int:
    """Return how many bars `days` can contain; None requests all bars."""
    if days is None:
        return MOST_BARS
    a_day = timedelta(days=1) / bar_length(interval)
    return min(MOST_BARS, max(FEWEST_BARS, math.ceil(days * a_day) + 1))


def in_period(frame: pd.DataFrame, days: float | None) -> pd.DataFrame:
    """Return the bars of the last `days`."""
    if days is None:
        return frame
    within: pd.DataFrame = frame[frame.index > frame.index[-1] - pd.Timedelta(days=days)]
    return within
