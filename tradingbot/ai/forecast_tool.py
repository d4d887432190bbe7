"""`kronos_forecast`, the LangChain tool for forecasts.

The tool always returns text for the model: a forecast with its age and limits, or why there is none
and what to ask instead. Programs read the same content as a document, the `artifact` of LangChain's
ToolMessage.
"""

from typing import Any

from langchain_core.tools import tool
from pydantic import ValidationError

from tradingbot.ai.forecast_answer import MAX_DAYS, forecast_answer
from tradingbot.runtime.lookahead import refuse_in_backtest


@tool(parse_docstring=True, response_format="content_and_artifact")
def kronos_forecast(symbol: str, horizon: int | str = 5) -> tuple[str, dict[str, Any]]:
    """Forecast the next daily prices of one ticker with Kronos, a model of price candles.

    Gives for each trading day the expected close, the range that should hold four closes of
    five, and P(up), with the forecast's age and limits. Says so when there is no forecast.

    Args:
        symbol: Ticker as on Yahoo Finance, such as AAPL, 7203.T or BTC-USD; not a company's name.
        horizon: Trading days ahead, a whole number from 1 to 30.
    """
    refuse_in_backtest("kronos_forecast")
    text, document = forecast_answer(symbol, horizon)
    return text, document.model_dump(mode="json")


def _unreadable(error: ValidationError) -> str:
    """Return the answer for arguments of a wrong type. An exception would end the agent."""
    names = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors()}))
    return (
        f"No forecast: {names} missing or of the wrong kind. Ask again with symbol (text, such as "
        f"'AAPL') and horizon (a whole number from 1 to {MAX_DAYS})."
    )


kronos_forecast.handle_validation_error = _unreadable  # type: ignore[assignment]
