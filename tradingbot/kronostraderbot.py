"""A bot that trades on the stored forecasts. Run it after `kronosbot`.

  python -m tradingbot.kronostraderbot --source sample

The bot is in `tradingbot.bots.kronos_trader`. Exit codes: those of `Bot.main`.
"""

from typing import TYPE_CHECKING, Any

from tradingbot.cli.trader_entry import main

if TYPE_CHECKING:
    from tradingbot.bots.kronos_trader import KronosTraderBot

__all__ = ["KronosTraderBot", "main"]


def __getattr__(name: str) -> Any:
    """Import the bot on first use, after `main` has installed its signal handlers."""
    if name == "KronosTraderBot":
        from tradingbot.bots.kronos_trader import KronosTraderBot

        return KronosTraderBot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if __name__ == "__main__":
    main()
