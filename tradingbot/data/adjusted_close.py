"""Closes in the source's current scale. After a split they differ from earlier closes."""

import logging
from datetime import datetime

from tradingbot.data.service import DataService
from tradingbot.errors import DataError
from tradingbot.persistence.forecasts import CloseAt

logger = logging.getLogger(__name__)


def adjusted_close(data: DataService, symbol: str, interval: str = "1d") -> CloseAt:
    """Return a function that restates stored forecasts to today's prices.

    The function returns the close of a bar, or None if the source is unavailable or has no such
    bar.
    """

    def close_at(time: datetime) -> float | None:
        try:
            closes = data.closes(symbol, interval=interval, since=time)
        except DataError as error:
            logger.debug("%s: its close of %s is not known: %s", symbol, time, error.reason)
            return None
        return float(closes[time]) if time in closes.index else None

    return close_at
