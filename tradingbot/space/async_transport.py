"""Asynchronous HTTP to one Space with httpx2, a dependency of huggingface_hub.

Retries, time-outs and errors are the same as in `transport`.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tenacity import retry_if_exception

from tradingbot.runtime.retry import retry_async
from tradingbot.space.address import SpaceAddress
from tradingbot.space.answers import HEALTH_BYTES
from tradingbot.space.attempts import MAX_ATTEMPTS, TRANSIENT_ANSWER, Attempts, request_headers
from tradingbot.space.error_responses import (
    PREDICT,
    Answer,
    health_in,
    out_of_time,
    refusal,
    results_in,
    unreachable,
)
from tradingbot.space.session import TooLarge, is_loopback
from tradingbot.space.transport import REFUSAL_BYTES, takes_token

if TYPE_CHECKING:
    import httpx2


class AsyncSpaceHTTP:
    """Send requests to a Space. Every failure is a SpaceError."""

    def __init__(self, address: SpaceAddress, *, http: "httpx2.AsyncClient | None" = None) -> None:
        self.address, self.url = address, address.url
        self.timeouts = address.timeouts
        self._http = http
        self._owns_http = http is None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._headers = address.headers()
        self._token = address.hf_token

    async def close(self) -> None:
        if self._owns_http and self._http is not None:
            await self._http.aclose()
            self._http = None

    async def health(self) -> dict[str, Any]:
        """Get /health, without retries."""
        answer = await self._answered(
            "GET", "/health", timeout=self.timeouts.space_health, limit=HEALTH_BYTES, attempts=1
        )
        return health_in(self.url, answer)

    async def predict_batch(self, body: bytes, *, limit: int) -> list[Any]:
        """Post to /predict/batch. Return the unchecked results, of at most `limit` bytes."""
        answer = await self._answered(
            "POST", PREDICT, body=body, timeout=self.address.answer_timeout, limit=limit
        )
        return results_in(self.url, answer)

    async def _answered(self, method: str, path: str, **options: Any) -> Answer:
        """Return a 200 response. Raise an error for other statuses."""
        answer = await self._send(method, path, **options)
        if answer.status in (401, 403, 404) and await self._may_show_token():
            answer = await self._send(method, path, **options)
        if answer.status != 200:
            raise refusal(f"{self.url}{path}", answer)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        *,
        timeout: float,
        limit: int,
        body: bytes | None = None,
        attempts: int = MAX_ATTEMPTS,
    ) -> Answer:
        """Return the last response, whatever its status, after retries."""
        url = f"{self.url}{path}"
        headers = request_headers(self._headers, body)
        made = Attempts(self.timeouts, time.monotonic() + timeout, attempts)

        async def ask() -> Answer:
            return made.record(await self._ask(method, url, headers, body, limit=limit))

        try:
            async with asyncio.timeout(timeout):
                return await retry_async(
                    ask,
                    again=TRANSIENT_ANSWER | retry_if_exception(_unanswered),
                    wait=made.wait,
                    stop=made.should_stop,
                )
        except TimeoutError as error:
            # no retry: the Space may still be computing this request, and would then compute the
            # request a second time
            return out_of_time(url, timeout, made.answers, error)
        # any error, because an invalid address raises errors that are not the HTTP client's own
        except Exception as error:
            raise unreachable(url, error) from error

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, limit: int
    ) -> Answer:
        """Send one request and read at most `limit` bytes of the response."""
        import httpx2

        # no redirects, which would leak the API key and turn a POST into a GET
        async with self._client().stream(
            method,
            url,
            headers=dict(headers),
            content=body,
            follow_redirects=False,
            timeout=httpx2.Timeout(None, connect=self.timeouts.space_connect),
        ) as response:
            status, content = response.status_code, bytearray()
            size_limit = limit if status == 200 else REFUSAL_BYTES
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > size_limit:
                    if status == 200:
                        raise TooLarge(f"it has more than {size_limit} bytes")
                    break
            return Answer(status, response.headers, bytes(content[:size_limit]))

    def _client(self) -> "httpx2.AsyncClient":
        """Return the client of the running event loop.

        A client that this object created is replaced when the event loop changes.
        """
        import httpx2

        loop = asyncio.get_running_loop()
        if self._http is None or (self._owns_http and self._loop is not loop):
            self._loop = loop
            self._http = httpx2.AsyncClient(
                # an idle connection could outlive its event loop
                limits=httpx2.Limits(max_keepalive_connections=0),
                trust_env=not is_loopback(self.url),
            )
        return self._http

    async def _may_show_token(self) -> bool:
        """Return whether to send the Hub's token after a refusal; if so, send it from now on."""
        token, self._token = self._token, None  # ask the Hub only once
        shown = token is not None and await asyncio.to_thread(takes_token, self.address)
        if shown:
            self._headers = self.address.headers(with_token=True)
        return shown


def _unanswered(error: BaseException) -> bool:
    """Return whether the Space was not reached, so that a retry may succeed."""
    import httpx2

    return isinstance(error, httpx2.TransportError)
