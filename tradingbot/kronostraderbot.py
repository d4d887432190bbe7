"""A bot that trades on the stored forecasts: run it after `kronosbot` has made them.

    python -m tradingbot.kronostraderbot --source sample

The bot is `tradingbot.bots.kronos_trader`. Exit codes: those of `Bot.main`.
"""

from tradingbot.bots.kronos_trader import KronosTraderBot, main

__all__ = ["KronosTraderBot", "main"]

if __name__ == "__main__":
    main()
