"""The newest forecast of a ticker for a language model, as text and as a document.

The stored forecast is read first, because the Space, which computes forecasts, is paused most of
the day. The tools for LangChain and for MCP use this module, which needs neither library.
"""

import logging
import re
from datetime import datetime
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from tradingbot.ai.forecast_document import (
    ForecastDocument,
    NoForecast,
    forecast_document,
    no_forecast,
)
from tradingbot.ai.forecast_text import forecast_text
from tradingbot.ai.sanitising import MOST_NAME
from tradingbot.client import KronosClient
from tradingbot.data.adjusted_close import adjusted_close
from tradingbot.data.service import DataService
from tradingbot.errors import KronosError, UnknownSymbol
from tradingbot.evaluation.track_record import describe_track_record
from tradingbot.forecast import Forecast
from tradingbot.formatting import quoted
from tradingbot.markets.calendars import latest_complete_session, sessions_between
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.events import with_stored_events
from tradingbot.persistence.forecast_queries import newest_ahead
from tradingbot.persistence.url import database_exists, database_url
from tradingbot.settings import Settings, default_timeouts
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

MAX_DAYS = 30  # longer forecasts confuse language models


def forecast_answer(
    symbol: str,
    horizon: int | str,
    *,
    settings: Settings | None = None,
    sessions: SessionFactory | None = None,
) -> tuple[str, ForecastDocument | NoForecast]:
    """Return the newest forecast of the next `horizon` days, or why there is none. Never raises.

    Args:
        symbol: The ticker as written by a model, such as '$aapl'.
        horizon: The number of days as written by a model, such as '5 days'.
        settings: Default: from the environment.
        sessions: Database sessions; default: from the environment.
    """
    ticker, days = as_ticker(symbol), _days(horizon)
    if ticker is None:
        return _none(
            None,
            "invalid_symbol",
            f"No forecast: {quoted(symbol, MOST_NAME)!r} is not a ticker. Ask again with the "
            "ticker symbol as on Yahoo Finance: AAPL for Apple, 7203.T for Toyota in Tokyo, "
            "BTC-USD for Bitcoin.",
        )
    if days is None:
        return _none(
            ticker,
            "invalid_horizon",
            f"No forecast: horizon={_shown(horizon)} is not a number of trading days. Ask again "
            f"with a whole number from 1 to {MAX_DAYS}, such as 5.",
        )
    try:
        document = _newest(ticker, days, settings or Settings.from_env(), sessions)
    except KronosError as error:
        hint = (
            " If that is a company's name, ask again with its ticker."
            if isinstance(error, UnknownSymbol)
            else ""
        )
        return _none(
            ticker,
            error,
            f"No forecast of {ticker} is available: {quoted(error)}.{hint} Do not make one up: say "
            "that there is none.",
        )
    return forecast_text(document), document


def as_ticker(symbol: str) -> str | None:
    """Return the ticker in `symbol`, or None: ' $aapl ' -> AAPL, NASDAQ:AAPL -> AAPL."""
    text = re.sub(r"^[A-Z]+:", "", symbol.strip().strip("'\"`$").upper())
    return text if re.fullmatch(r"\^?[A-Z0-9][A-Z0-9.=-]{0,19}", text) else None


def _none(symbol: str | None, code: str | KronosError, text: str) -> tuple[str, NoForecast]:
    return text, no_forecast(symbol, code, text)


def _shown(horizon: int | str) -> str:
    """Return the horizon as text, unless it is too long."""
    if isinstance(horizon, str):
        return repr(quoted(horizon, MOST_NAME))
    return str(horizon) if abs(horizon) < 10**12 else "so large a number"


def _days(horizon: int | str) -> int | None:
    """Return the number in 5, '5', '5 days' or '5 trading days'; None for anything else."""
    if isinstance(horizon, str):
        match = re.fullmatch(
            r"\s*(\d{1,3})\s*(?:(?:trading|business)?\s*(?:days?|bars?|sessions?))?\s*",
            horizon,
            re.IGNORECASE | re.ASCII,
        )
        days = int(match[1]) if match else 0
    else:
        days = horizon
    return days if 1 <= days <= MAX_DAYS else None


def _newest(
    ticker: str, days: int, settings: Settings, sessions: SessionFactory | None
) -> ForecastDocument:
    """Return the newest forecast available. Raise KronosError if there is none."""
    record = partial(describe_track_record, sessions=sessions)
    data = DataService(
        settings.data_source,
        horizon=settings.horizon,
        timeouts=settings.timeouts,
        max_jump=settings.max_jump,
    )
    latest = latest_complete_session(ticker, data.now())
    stored = _stored(ticker, days, latest, data, sessions)
    if stored is not None and (stored.as_of, stored.horizon) == (latest, days):
        return forecast_document(stored, latest, "stored", record=record(stored))
    try:
        patience = default_timeouts().ai_space
        with KronosClient(
            data=data, settings=settings, sessions=sessions, timeout=patience
        ) as client:
            [(_, answer)] = client.forecast_many([ticker], days)
        if isinstance(answer, KronosError):
            raise answer
        return forecast_document(answer, latest, "space", record=record(answer))
    except KronosError as error:
        if (
            stored is None
            or sessions_between(ticker, stored.as_of, latest) > settings.max_staleness
        ):
            raise
        reason = quoted(error.reason, 200)
        note = f"You asked for {days} days. A newer or longer forecast is not available: {reason}."
        return forecast_document(stored, latest, "stored", note=note, record=record(stored))


def _stored(
    ticker: str,
    days: int,
    latest: datetime,
    data: DataService,
    sessions: SessionFactory | None,
) -> Forecast | None:
    """Return the newest stored forecast of the `days` after `latest`.

    A database that cannot be read counts as empty, because the Space can still forecast.
    """
    try:
        if sessions is None and not database_exists(database_url()):
            return None
        with (sessions or partial(get_db_session, create=False))() as session:
            found = newest_ahead(
                session, ticker, days, latest, close_at=adjusted_close(data, ticker)
            )
            return found and with_stored_events(session, [found])[0]
    except (KronosError, SQLAlchemyError) as error:
        logger.debug("%s: no stored forecast: %s", ticker, error)
        return None
