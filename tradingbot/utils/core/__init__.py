"""What a bot imports. Each name is loaded on first use, so that one does not cost them all."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tradingbot.ai.agent import run_ai_with_tools
    from tradingbot.ai.forecast_tool import kronos_forecast
    from tradingbot.bots.bot import Bot
    from tradingbot.client import KronosClient
    from tradingbot.persistence.engine import get_db_session

_HOME = {
    "Bot": "tradingbot.bots.bot",
    "KronosClient": "tradingbot.client",
    "get_db_session": "tradingbot.persistence.engine",
    "kronos_forecast": "tradingbot.ai.forecast_tool",
    "run_ai_with_tools": "tradingbot.ai.agent",
}

__all__ = ["Bot", "KronosClient", "get_db_session", "kronos_forecast", "run_ai_with_tools"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
