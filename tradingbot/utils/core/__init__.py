"""Public import path for bots, with the same names as `from tradingbot import …`."""

from typing import TYPE_CHECKING, Any

import tradingbot

if TYPE_CHECKING:
    from tradingbot import (
        AsyncKronosClient,
        Bot,
        KronosClient,
        forecasts_as_of,
        get_db_session,
        kronos_forecast,
        run_ai_with_tools,
        run_ai_with_tools_async,
    )

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


def __getattr__(name: str) -> Any:
    """Import a name on first use, so that one does not load the dependencies of all."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(tradingbot, name)


def __dir__() -> list[str]:
    return sorted(__all__)
