"""What a bar closes at by the candles that a source has now: after a split not what it once was."""

import logging
from datetime import datetime

from tradingbot.data.service import DataService
from tradingbot.errors import DataError
from tradingbot.persistence.forecasts import CloseAt

logger = logging.getLogger(__name__)


def adjusted_close(data: DataService, symbol: str, interval: str = "1d") -> CloseAt:
    """For the readers of stored forecasts, which restate them to prices of today.

    The function returns None where the source cannot be asked, or has no such bar.
    """

    def close_at(time: datetime) -> float | None:
        try:
            closes = data.closes(symbol, interval=interval, since=time)
        except DataError as error:
            logger.debug("%s: its close of %s is not known: %s", symbol, time, error.reason)
            return None
        return float(closes[time]) if time in closes.index else None

    return close_at
