"""`kronos_forecast`, the tool that gives a language model Kronos' view of a ticker, in words.

Whatever is asked, the answer is text: a forecast with its age and its limits, or why there is none
and what to ask instead. The stored forecast is read first, for the Space is paused most of the day.
"""

import logging
import math
import re
from datetime import datetime, timedelta

from langchain_core.tools import tool
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from tradingbot.client import KronosClient
from tradingbot.data.close_now import close_now
from tradingbot.data.service import DataService
from tradingbot.errors import KronosError, UnknownSymbol
from tradingbot.evaluation.track_record import describe_track_record
from tradingbot.forecast import RAW, Forecast
from tradingbot.formatting import bar_text, price_text
from tradingbot.markets.calendars import latest_complete_session, sessions_between
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecast_queries import newest_ahead
from tradingbot.persistence.url import database_exists, database_url
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.lookahead import refuse_in_backtest
from tradingbot.settings import Settings, default_timeouts

logger = logging.getLogger(__name__)

MOST_DAYS = 30  # what a language model can make sense of


@tool(parse_docstring=True)
def kronos_forecast(symbol: str, horizon: int | str = 5) -> str:
    """Forecast the next daily prices of one ticker with Kronos, a model of price candles.

    Gives for each trading day the expected close, the range that should hold four closes of
    five, and P(up), with the forecast's age and limits. Says so when there is no forecast.

    Args:
        symbol: Ticker as on Yahoo Finance, such as AAPL, 7203.T or BTC-USD; not a company's name.
        horizon: Trading days ahead, a whole number from 1 to 30.
    """
    refuse_in_backtest("kronos_forecast")
    ticker, days = _ticker(symbol), _days(horizon)
    if ticker is None:
        return (
            f"No forecast: {symbol!r} is not a ticker. Ask again with the ticker symbol as on "
            "Yahoo Finance: AAPL for Apple, 7203.T for Toyota in Tokyo, BTC-USD for Bitcoin."
        )
    if days is None:
        return (
            f"No forecast: horizon={horizon!r} is not a number of trading days. Ask again with a "
            f"whole number from 1 to {MOST_DAYS}, such as 5."
        )
    try:
        return _answer(ticker, days)
    except KronosError as error:
        hint = (
            " If that is a company's name, ask again with its ticker."
            if isinstance(error, UnknownSymbol)
            else ""
        )
        return (
            f"No forecast of {ticker} can be had: {error}.{hint} Do not make one up: say that "
            "there is none."
        )


def _unreadable(error: ValidationError) -> str:
    """The answer to arguments of the wrong kind: an exception would end the agent."""
    names = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors()}))
    return (
        f"No forecast: {names} missing or of the wrong kind. Ask again with symbol (text, such as "
        f"'AAPL') and horizon (a whole number from 1 to {MOST_DAYS})."
    )


kronos_forecast.handle_validation_error = _unreadable  # type: ignore[assignment]


def _ticker(symbol: str) -> str | None:
    """' $aapl ' -> AAPL, NASDAQ:AAPL -> AAPL; None for what no ticker looks like."""
    text = re.sub(r"^[A-Z]+:", "", symbol.strip().strip("'\"`$").upper())
    return text if re.fullmatch(r"\^?[A-Z0-9][A-Z0-9.=-]{0,19}", text) else None


def _days(horizon: int | str) -> int | None:
    """5, '5', '5 days', '5 trading days'; None for anything else, and for what is out of bounds."""
    match = re.fullmatch(
        r"\s*(\d{1,3})\s*(?:(?:trading|business)?\s*(?:days?|bars?|sessions?))?\s*",
        str(horizon),
        re.IGNORECASE | re.ASCII,
    )
    days = int(match[1]) if match else 0
    return days if 1 <= days <= MOST_DAYS else None


def _answer(ticker: str, days: int) -> str:
    """The newest forecast there is, in words; KronosError if there is none."""
    settings = Settings.from_env()
    data = DataService(
        settings.data_source,
        horizon=settings.horizon,
        timeouts=settings.timeouts,
        max_jump=settings.max_jump,
    )
    latest = latest_complete_session(ticker, data.now())
    stored = _stored(ticker, days, latest, data)
    if stored is not None and (stored.as_of, stored.horizon) == (latest, days):
        return forecast_text(
            stored, latest, "from the database", record=describe_track_record(stored)
        )
    try:
        patience = default_timeouts().ai_space
        with KronosClient(data=data, settings=settings, timeout=patience) as client:
            [(_, answer)] = client.forecast_many([ticker], days)
        if isinstance(answer, KronosError):
            raise answer
        return forecast_text(answer, latest, "from the Space", record=describe_track_record(answer))
    except KronosError as error:
        if (
            stored is None
            or sessions_between(ticker, stored.as_of, latest) > settings.max_staleness
        ):
            raise
        note = (
            f"You asked for {days} days. A newer or longer forecast cannot be had: {error.reason}."
        )
        return forecast_text(
            stored, latest, "from the database", note, describe_track_record(stored)
        )


def _stored(ticker: str, days: int, latest: datetime, data: DataService) -> Forecast | None:
    """What the database has of the `days` after `latest`, in the newest forecast that it has.

    A database that cannot be read counts as empty: there is still the Space.
    """
    try:
        if not database_exists(database_url()):
            return None
        with get_db_session(create=False) as session:
            return newest_ahead(session, ticker, days, latest, close_at=close_now(data, ticker))
    except (KronosError, SQLAlchemyError) as error:
        logger.debug("%s: no stored forecast: %s", ticker, error)
        return None


def forecast_text(
    forecast: Forecast,
    latest: datetime,
    place: str,
    note: str | None = None,
    record: str | None = None,
) -> str:
    """For a language model: numbers with their meaning beside them, and what they do not say."""
    close = price_text(forecast.last_close)
    as_of = f"the close of {bar_text(forecast.as_of, '1d')}, which was {close}"
    late = sessions_between(forecast.symbol, forecast.as_of, latest)
    model = forecast.model_name
    if model == "kronos-nano":
        model += " (a tiny model for demonstrations, not meant for trading)"
    lines = [
        f"Kronos forecast of {forecast.symbol}, {forecast.horizon} trading days ahead.",
        f"As of: {as_of}. That is the latest complete session."
        if not late
        else f"As of: {as_of}. OLD: {late} more sessions have closed since; it knows none of them.",
        f"Model: {model}; {place}, made {_age(forecast.made_at)} ago.",
        *([] if record is None else [f"Its record: {record}."]),
        *([] if note is None else [note]),
        "",
        f"Day: expected close (move from {close}), 10-90 % range, P(up)",
    ]
    for bar in forecast.bars:
        low, high = price_text(bar.close_quantiles[0.1]), price_text(bar.close_quantiles[0.9])
        lines.append(
            f"{bar_text(bar.target_date, '1d')}: {price_text(bar.close)} "
            f"({bar.close / forecast.last_close - 1:+.1%}), {low} to {high}, {bar.prob_up:.0%}"
        )
    return "\n".join(
        [
            *lines,
            "",
            *_meaning(forecast, close),
            f"It knows the past daily candles of {forecast.symbol} and nothing else: no news, no "
            "earnings, no other market, nothing of today's trading. It is no certainty and no "
            "advice.",
        ]
    )


def _meaning(forecast: Forecast, close: str) -> list[str]:
    """What P(up) and the range say, and who says so: the model, or its record."""
    points = f"{50 / math.sqrt(forecast.samples):.0f} points or more"
    if forecast.calibration == RAW:
        return [
            f"P(up) is the share of {forecast.samples} simulated paths that close above {close}; "
            f"so few make it uncertain by {points}. The range is raw, as the model says it, not "
            "calibrated: one path in five ends outside; reality may do so more often."
        ]
    return [
        f"P(up) is the chance of a close above {close}; it comes from {forecast.samples} simulated "
        f"paths, which makes it uncertain by {points}. The range is calibrated on past forecasts "
        f"of this model and what came of them ({forecast.calibration}): about one close in five "
        "ends outside."
    ]


def _age(made_at: datetime) -> str:
    minutes = max(0, round((utcnow() - made_at) / timedelta(minutes=1)))
    for length, unit in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= 2 * length or (minutes >= length and length > 1):
            number = minutes // length
            return f"{number} {unit}" + ("" if number == 1 else "s")
    return "less than two minutes"
