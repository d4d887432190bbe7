"""Asynchronous client for forecasts and health of one Space, like `client`."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from tradingbot.errors import KronosError, SpaceUnavailable
from tradingbot.runtime.retry import poll_async
from tradingbot.space.address import SpaceAddress
from tradingbot.space.async_transport import AsyncSpaceHTTP
from tradingbot.space.client import IN_FLIGHT, POLL_INTERVAL, Answer, Readiness, answers, in_batches
from tradingbot.space.decoding import answer_bytes
from tradingbot.space.wire import SeriesRequest, Unsendable, envelope

if TYPE_CHECKING:
    import httpx2


class AsyncSpaceClient:
    """Client like `SpaceClient`, with coroutines. `http` is your own httpx2.AsyncClient."""

    def __init__(self, address: SpaceAddress, *, http: "httpx2.AsyncClient | None" = None) -> None:
        self._http = AsyncSpaceHTTP(address, http=http)
        self.url = self._http.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the Space."""
        await self._http.close()

    async def health(self) -> dict[str, Any]:
        """Return the Space's health: model, boot_id, version … Raises SpaceError."""
        return await self._http.health()

    async def is_healthy(self) -> bool:
        """Return whether the Space can forecast now."""
        try:
            return (await self.health()).get("status") == "ok"
        except KronosError:
            return False

    async def wait_until_ready(
        self, timeout: float = 900.0, *, other_than: str | None = None
    ) -> dict[str, Any]:
        """Poll /health until it is ok with a boot_id other than `other_than`, and return it.

        Raises:
            SpaceUnavailable: After `timeout` seconds.
            SpaceRejected: At once, if the address is not a Space.
        """
        seen = Readiness(self.url, other_than)

        async def look() -> dict[str, Any] | None:
            try:
                return seen.ready(await self.health())
            except SpaceUnavailable as error:
                seen.state = str(error)
                return None

        until = time.monotonic() + timeout
        return await poll_async(look, until=until, wait=POLL_INTERVAL) or seen.never(timeout)

    async def forecast_batches(
        self, requests: Iterable[SeriesRequest | Unsendable]
    ) -> AsyncGenerator[list[Answer]]:
        """Yield the answers to each batch of requests in order; IN_FLIGHT batches are in progress.

        `requests` is read in a thread, because reading it fetches candles.
        """
        batches = in_batches(requests)
        under_way: deque[asyncio.Task[list[Answer]]] = deque()
        outages: list[SpaceUnavailable] = []
        try:
            while (item := await asyncio.to_thread(_next, batches)) is not None:
                if len(under_way) == IN_FLIGHT:
                    yield await under_way.popleft()
                under_way.append(asyncio.create_task(self._answers(item, outages)))
            while under_way:
                yield await under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()

    async def _answers(
        self, item: list[SeriesRequest] | Unsendable, outages: list[SpaceUnavailable]
    ) -> list[Answer]:
        """Return the answers to one batch. An error is the answer to each of its requests.

        `outages` holds an outage, after which nothing more is sent.
        """
        if isinstance(item, tuple):
            return [item]
        if not outages:
            try:
                results = await self._http.predict_batch(envelope(item), limit=answer_bytes(item))
                return answers(self.url, item, results)
            except KronosError as error:
                if isinstance(error, SpaceUnavailable) and not await self.is_healthy():
                    outages.append(error)  # the other batches would only run into the same outage
                return [(request.symbol, error) for request in item]
        return [(request.symbol, outages[0]) for request in item]


def _next(
    batches: Iterator[list[SeriesRequest] | Unsendable],
) -> list[SeriesRequest] | Unsendable | None:
    return next(batches, None)
