"""What a bot imports. Each name is loaded on first use, so that one does not cost them all."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tradingbot.utils.db import get_db_session as get_db_session
    from tradingbot.utils.kronos_client import KronosClient as KronosClient

_HOME = {
    "KronosClient": "tradingbot.utils.kronos_client",
    "get_db_session": "tradingbot.utils.db",
}

__all__ = ["KronosClient", "get_db_session"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
