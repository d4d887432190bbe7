"""What the job has left in the database: forecasts to fall back to, and calibrations."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tradingbot.errors import KronosError
from tradingbot.forecast import Forecast

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tradingbot.utils.calibration import Calibration, Key

logger = logging.getLogger(__name__)

Sessions = Callable[[], "AbstractContextManager[Session]"]


def stored_forecast(
    symbol: str, *, horizon: int, now: datetime, sessions: Sessions | None = None
) -> Forecast | None:
    """All `horizon` daily bars as of the latest session that is complete at `now`, or None.

    A database that cannot be read counts as empty: this is the fallback already. By default it
    is the configured one.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from tradingbot.markets.calendars import latest_complete_session
    from tradingbot.utils.db import database_url, get_db_session
    from tradingbot.utils.predictions import latest_stored

    try:
        if sessions is None and not database_exists(database_url()):
            return None
        as_of = latest_complete_session(symbol, now)
        # a bot that only looks must not be the one who upgrades the schema
        with (sessions or partial(get_db_session, create=False))() as session:
            return latest_stored(session, symbol, interval="1d", horizon=horizon, as_of=as_of)
    except (KronosError, SQLAlchemyError) as error:
        logger.debug("%s: no stored forecast: %s", symbol, error)
        return None


class StoredCalibrations:
    """The calibrations of the database, by default the configured one; each is read once.

    A database that is not there or cannot be read has none: the bands stay raw, and say so.
    """

    def __init__(self, sessions: Sessions | None = None) -> None:
        self._sessions = sessions
        self._read: dict[Key, Calibration | None] = {}

    def apply(self, forecast: Forecast) -> Forecast:
        from tradingbot.utils.calibration import key_of

        key = key_of(forecast)
        if key not in self._read:
            self._read[key] = self._stored(key)
        calibration = self._read[key]
        return forecast if calibration is None else calibration.apply(forecast)

    def _stored(self, key: "Key") -> "Calibration | None":
        from sqlalchemy.exc import SQLAlchemyError

        from tradingbot.utils.calibration import load
        from tradingbot.utils.db import database_url, get_db_session

        try:
            if self._sessions is None and not database_exists(database_url()):
                return None
            with (self._sessions or partial(get_db_session, create=False))() as session:
                return load(session, key)
        except (KronosError, SQLAlchemyError) as error:
            logger.debug("%s: no stored calibration: %s", key[0], error)
            return None


def database_exists(url: str) -> bool:
    """False for a SQLite file that nobody has made yet: looking into it would make it."""
    from sqlalchemy import make_url

    address = make_url(url)
    if address.get_backend_name() != "sqlite" or not address.database:
        return True
    return address.database.startswith((":memory:", "file:")) or Path(address.database).exists()
