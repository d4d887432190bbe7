"""`KronosClient` for asyncio programs: the same methods as coroutines."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self, Unpack

from tradingbot.client.base import Asked, ClientBase, ForecastOptions
from tradingbot.client.frames import ForecastFrame
from tradingbot.client.long_frames import LongFrame
from tradingbot.client.validation import (
    bars,
    is_combined,
    path_events,
    quantile_levels,
    sampling,
    ticker,
)
from tradingbot.errors import KronosError
from tradingbot.forecast import LEVELS
from tradingbot.runtime.lookahead import refuse_in_backtest
from tradingbot.settings import TEMPERATURE, TOP_P
from tradingbot.space.async_client import AsyncSpaceClient
from tradingbot.space.client import Answer

if TYPE_CHECKING:
    import httpx2  # noqa: F401 - it is named in a string
    import pandas as pd

logger = logging.getLogger(__name__)


class AsyncKronosClient(ClientBase["httpx2.AsyncClient", AsyncSpaceClient]):
    """Asyncio version of `KronosClient`. `http` may be your own httpx2.AsyncClient.

    Candles and the database are read in threads. Requests to the Space are awaited, and end when
    they are cancelled.

    >>> async with AsyncKronosClient("http://127.0.0.1:7860") as client:
    ...     forecast = await client.predict("AAPL", horizon=5)  # a DataFrame, or None
    """

    _kind = AsyncSpaceClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the Space."""
        if self._space:
            await self._space.close()

    async def predict(
        self, symbol: str, horizon: int = 5, *, forecast: str = "combined"
    ) -> ForecastFrame | None:
        """Return the forecast, or None after one warning, as `KronosClient.predict` does."""
        refuse_in_backtest("AsyncKronosClient")
        symbol, horizon, combined = ticker(symbol), bars(horizon), is_combined(forecast)
        try:
            return await self.forecast(symbol, horizon, forecast=forecast)
        except KronosError as error:
            stored = await asyncio.to_thread(self._stored, symbol, horizon, combined=combined)
            if stored is not None:
                logger.info("%s: using the stored forecast: %s", symbol, error)
                return await asyncio.to_thread(self._frame, stored, "stored", LEVELS)
            logger.warning("No Kronos forecast of %s: %s", symbol, error.reason)
            return None

    async def forecast(
        self,
        symbol: str,
        horizon: int = 5,
        *,
        history: Any = None,
        levels: Iterable[float] = LEVELS,
        **options: Unpack[ForecastOptions],
    ) -> ForecastFrame:
        """Return a forecast as `KronosClient.forecast` does. `options`: see `forecast_many`."""
        symbol, levels = ticker(symbol), quantile_levels(levels)
        asked = [symbol] if history is None else {symbol: history}
        async with aclosing(self.forecast_many(asked, horizon, **options)) as answers:
            answer = (await anext(answers))[1]
        if isinstance(answer, KronosError):
            raise answer
        return await asyncio.to_thread(self._frame, answer, "space", levels)

    def forecast_many(
        self,
        symbols: "Iterable[str] | Mapping[str, Any]",
        horizon: int = 5,
        *,
        interval: str = "1d",
        samples: int | None = None,
        temperature: float = TEMPERATURE,
        top_p: float = TOP_P,
        seed: int | None = None,
        paths: bool = False,
        events: str | Iterable[str] = (),
        forecast: str = "combined",
    ) -> AsyncGenerator[Answer]:
        """Yield forecasts as `KronosClient.forecast_many` does, for `async for`."""
        refuse_in_backtest("AsyncKronosClient")
        drawn = sampling(
            samples=self.samples if samples is None else samples,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            paths=paths,
        )
        asked = self._asked(
            symbols,
            bars(horizon),
            interval=interval,
            sampling=drawn,
            combined=is_combined(forecast),
            events=path_events(events),
        )
        return self._served(self.space.forecast_batches(asked.requests), asked)

    async def forecast_frame(
        self,
        frame: Any,
        horizon: int = 5,
        *,
        id_column: str | None = None,
        timestamp_column: str | None = None,
        levels: Iterable[float] = LEVELS,
        nixtla: bool = False,
        **options: Unpack[ForecastOptions],
    ) -> "pd.DataFrame":
        """Return forecasts as `KronosClient.forecast_frame` does."""
        levels = quantile_levels(levels)
        asked = LongFrame.of(frame, id_column, timestamp_column)
        batches = self.forecast_many(asked.histories, horizon, **options)
        answers = {symbol: answer async for symbol, answer in batches}
        return asked.answer(answers, levels=levels, nixtla=nixtla)

    async def health(self) -> dict[str, Any]:
        """Return the Space's /health: model, boot_id, version … Raises SpaceError."""
        return await self.space.health()

    async def is_healthy(self) -> bool:
        """Return whether a forecast can be requested now."""
        return self._space is not None and await self._space.is_healthy()

    async def wait_until_ready(
        self, timeout: float = 900.0, *, other_than: str | None = None
    ) -> dict[str, Any]:
        """Wait as `KronosClient.wait_until_ready` does."""
        return await self.space.wait_until_ready(timeout, other_than=other_than)

    async def _served(
        self, batches: AsyncGenerator[list[Answer]], asked: Asked
    ) -> AsyncGenerator[Answer]:
        async with aclosing(batches):
            async for batch in batches:
                for symbol, answer in batch:
                    yield symbol, await asyncio.to_thread(asked.served, symbol, answer)
