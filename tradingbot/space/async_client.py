"""Forecasts and health of one Space for programs with an event loop. As `client`, awaited."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from tradingbot.errors import KronosError, SpaceUnavailable
from tradingbot.runtime.retry import poll_async
from tradingbot.space.address import SpaceAddress
from tradingbot.space.async_transport import AsyncSpaceHTTP
from tradingbot.space.client import IN_FLIGHT, LOOKS, Answer, Readiness, answers, in_batches
from tradingbot.space.decoding import answer_bytes
from tradingbot.space.wire import SeriesRequest, Unsendable, envelope

if TYPE_CHECKING:
    import httpx2


class AsyncSpaceClient:
    """As `SpaceClient`, awaited. `http` is an httpx2.AsyncClient of your own."""

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
        """What the Space says about itself: model, boot_id, version …; SpaceError otherwise."""
        return await self._http.health()

    async def is_healthy(self) -> bool:
        """Whether a forecast could be asked for now."""
        try:
            return (await self.health()).get("status") == "ok"
        except KronosError:
            return False

    async def wait_until_ready(
        self, timeout: float = 900.0, *, other_than: str | None = None
    ) -> dict[str, Any]:
        """Ask /health until it is ok and its boot_id is not `other_than`; return its answer.

        SpaceUnavailable after `timeout` seconds; an address that is no Space is refused at once.
        """
        seen = Readiness(self.url, other_than)

        async def look() -> dict[str, Any] | None:
            try:
                return seen.ready(await self.health())
            except SpaceUnavailable as error:
                seen.state = str(error)
                return None

        until = time.monotonic() + timeout
        return await poll_async(look, until=until, wait=LOOKS) or seen.never(timeout)

    async def forecast_batches(
        self, requests: Iterable[SeriesRequest | Unsendable]
    ) -> AsyncGenerator[list[Answer]]:
        """Yield the answers to each batch of requests, in order; IN_FLIGHT are under way at a time.

        `requests` is read in a thread: it looks up candles.
        """
        batches = in_batches(requests)
        under_way: deque[asyncio.Task[list[Answer]]] = deque()
        gone: list[SpaceUnavailable] = []
        try:
            while (item := await asyncio.to_thread(_next, batches)) is not None:
                if len(under_way) == IN_FLIGHT:
                    yield await under_way.popleft()
                under_way.append(asyncio.create_task(self._answers(item, gone)))
            while under_way:
                yield await under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()

    async def _answers(
        self, item: list[SeriesRequest] | Unsendable, gone: list[SpaceUnavailable]
    ) -> list[Answer]:
        """One batch's. Its error is the answer to each of its requests; `gone` ends the sending."""
        if isinstance(item, tuple):
            return [item]
        if not gone:
            try:
                results = await self._http.predict_batch(envelope(item), limit=answer_bytes(item))
                return answers(self.url, item, results)
            except KronosError as error:
                if isinstance(error, SpaceUnavailable) and not await self.is_healthy():
                    gone.append(error)  # the other batches would only wait for the same end
                return [(request.symbol, error) for request in item]
        return [(request.symbol, gone[0]) for request in item]


def _next(
    batches: Iterator[list[SeriesRequest] | Unsendable],
) -> list[SeriesRequest] | Unsendable | None:
    return next(batches, None)
