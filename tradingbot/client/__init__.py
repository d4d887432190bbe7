"""Clients of a Space for Python programs: `KronosClient` and `AsyncKronosClient`."""

from tradingbot.client.awaitable import AsyncKronosClient
from tradingbot.client.blocking import KronosClient
from tradingbot.client.frames import ForecastFrame

__all__ = ["AsyncKronosClient", "ForecastFrame", "KronosClient"]
