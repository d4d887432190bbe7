"""Candles supplied by a caller: read in any form, then cleaned and checked like a source's."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd

from tradingbot.errors import DataError
from tradingbot.markets.candles import checked, clean
from tradingbot.markets.data_quality import check_quality
from tradingbot.markets.quality_findings import Caller

logger = logging.getLogger(__name__)


def supplied_candles(
    symbol: str,
    history: Any,
    interval: str,
    *,
    now: datetime,
    max_jump: float,
    caller: Caller = Caller.OWN,
    adjusted: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Return the bars of `history`, a frame that `checked` reads, that are complete at `now`.

    Corrections and findings are logged. `adjusted` may restate the prices before the check.

    Raises:
        DataError: The candles cannot be used.
    """
    raw = checked(symbol, history, interval)
    bars, corrections = clean(raw, symbol)
    dropped = pd.DatetimeIndex(raw.index).difference(pd.DatetimeIndex(bars.index))
    bars, findings = check_quality(
        bars if adjusted is None else adjusted(bars),
        symbol,
        interval,
        caller,
        now=now,
        max_jump=max_jump,
        dropped=dropped,
    )
    if bars.empty:
        raise DataError("; ".join(["no bar can be used", *corrections, *findings]), symbol=symbol)
    for warning in [*corrections, *findings]:
        logger.warning("%s: %s", symbol, warning, extra={"symbol": symbol})
    return bars
