"""The simple forecasters that Kronos is combined with, computed from a ticker's candles."""

from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.combination_shares import EWMA_WALK, KRONOS, RANDOM_WALK, RANGE_WALK
from tradingbot.evaluation.baselines import (
    ewma_walk_quantiles,
    random_walk_quantiles,
    range_walk_quantiles,
)
from tradingbot.markets.candles import PRICES
from tradingbot.typing import Floats, Times

PAST = timedelta(days=800)  # period of candles before a forecast that contains LOOKBACK bars

EXPERTS = (RANDOM_WALK, EWMA_WALK, RANGE_WALK)
FORECASTERS = (KRONOS, *EXPERTS)  # in the order of a state's gains

_LOW, _HIGH = 2, 16  # indices in the 19 quantiles; about two thirds of outcomes are between them


def expert_quantiles(
    bars: pd.DataFrame, as_of: Times, step: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Return the forecast of each of EXPERTS, using bars up to `as_of` only.

    Args:
        bars: The ticker's candles, indexed by naive times. If the only column is `close`, the range
            walk gives no forecast.
        as_of: (n,) the newest bar that a forecast was made from.
        step: (n,) bars ahead.

    Returns:
        Two arrays. The first, (n, 3, 19), has quantiles of log(close ÷ last close), with NaN for an
        expert with too little history. The second, (n,), has the expected move: half the width of
        the EWMA walk's central two thirds.
    """
    walks = [
        walk(bars["close"], as_of, step) for walk in (random_walk_quantiles, ewma_walk_quantiles)
    ]
    known = {*PRICES} <= {*bars.columns}
    by_range = range_walk_quantiles(bars, as_of, step) if known else np.full_like(walks[0], np.nan)
    quantiles = np.log(np.stack([*walks, by_range], axis=1))
    scale: Floats = (quantiles[:, 1, _HIGH] - quantiles[:, 1, _LOW]) / 2
    return quantiles, scale
