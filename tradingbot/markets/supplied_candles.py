"""Candles that a caller hands over: read in any form, then judged like those of a source."""

import logging
from datetime import datetime
from typing import Any

import pandas as pd

from tradingbot.markets.candles import checked
from tradingbot.markets.data_quality import judged
from tradingbot.markets.quality_findings import Caller

logger = logging.getLogger(__name__)


def supplied_candles(
    symbol: str, history: Any, interval: str, *, now: datetime, max_jump: float
) -> pd.DataFrame:
    """Return the bars of `history`, a frame that `checked` reads, that are complete at `now`.

    What is odd about them is logged. Raises DataError where they cannot be forecast from.
    """
    bars, warnings = judged(
        checked(symbol, history, interval),
        symbol,
        interval,
        Caller.OWN,
        now=now,
        max_jump=max_jump,
    )
    for warning in warnings:
        logger.warning("%s: %s", symbol, warning, extra={"symbol": symbol})
    return bars
