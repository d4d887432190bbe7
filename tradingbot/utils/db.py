"""Public import path of the database. The code is in `tradingbot.persistence`."""

from tradingbot.persistence.engine import dispose_engines, get_db_session, get_engine, init_db
from tradingbot.persistence.models import (
    Base,
    BotRow,
    HistoricData,
    KronosCalibration,
    KronosCombination,
    KronosForecast,
    KronosPrediction,
    KronosScore,
    RunLog,
    Trade,
)
from tradingbot.persistence.url import database_url, redact

__all__ = [
    "Base",
    "BotRow",
    "HistoricData",
    "KronosCalibration",
    "KronosCombination",
    "KronosForecast",
    "KronosPrediction",
    "KronosScore",
    "RunLog",
    "Trade",
    "database_url",
    "dispose_engines",
    "get_db_session",
    "get_engine",
    "init_db",
    "redact",
]
