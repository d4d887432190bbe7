"""Trading bots with forecasts of Kronos: the nightly job, the client and the tools.

Kronos is a model that forecasts price candles. This package does not need torch, because a Space (a
web app on the Hugging Face Hub) runs the model.

  from tradingbot import Bot, KronosClient, kronos_forecast

Each name is imported on first use, so that one name does not load the dependencies of the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tradingbot.ai.agent import run_ai_with_tools, run_ai_with_tools_async
    from tradingbot.ai.forecast_tool import kronos_forecast
    from tradingbot.bots.bot import Bot
    from tradingbot.bots.forecast_columns import forecasts_as_of
    from tradingbot.client import AsyncKronosClient, KronosClient
    from tradingbot.persistence.engine import get_db_session

__version__ = "0.1.0"

__all__ = [
    "AsyncKronosClient",
    "Bot",
    "KronosClient",
    "forecasts_as_of",
    "get_db_session",
    "kronos_forecast",
    "run_ai_with_tools",
    "run_ai_with_tools_async",
]

_MODULES = {
    "AsyncKronosClient": "tradingbot.client",
    "Bot": "tradingbot.bots.bot",
    "KronosClient": "tradingbot.client",
    "forecasts_as_of": "tradingbot.bots.forecast_columns",
    "get_db_session": "tradingbot.persistence.engine",
    "kronos_forecast": "tradingbot.ai.forecast_tool",
    "run_ai_with_tools": "tradingbot.ai.agent",
    "run_ai_with_tools_async": "tradingbot.ai.agent",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
