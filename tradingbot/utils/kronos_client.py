"""Public import path of the client and its LangChain tool."""

from typing import TYPE_CHECKING, Any

from tradingbot.client import KronosClient

if TYPE_CHECKING:
    from tradingbot.ai.forecast_tool import kronos_forecast

__all__ = ["KronosClient", "kronos_forecast"]


def __getattr__(name: str) -> Any:
    """Import `kronos_forecast`, and with it LangChain, on first use."""
    if name == "kronos_forecast":
        from tradingbot.ai.forecast_tool import kronos_forecast

        return kronos_forecast
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
