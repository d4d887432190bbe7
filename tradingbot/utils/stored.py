"""What the job has left in the database: forecasts to fall back to, and calibrations."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from tradingbot.errors import KronosError
from tradingbot.forecast import Forecast
from tradingbot.persistence.url import database_exists

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tradingbot.utils.calibration import Calibration, Key


logger = logging.getLogger(__name__)

Sessions = Callable[[], "AbstractContextManager[Session]"]


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

        from tradingbot.persistence.engine import database_url, get_db_session
        from tradingbot.utils.calibration import load

        try:
            if self._sessions is None and not database_exists(database_url()):
                return None
            with (self._sessions or partial(get_db_session, create=False))() as session:
                return load(session, key)
        except (KronosError, SQLAlchemyError) as error:
            logger.debug("%s: no stored calibration: %s", key[0], error)
            return None
