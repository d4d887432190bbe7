"""HTTP to one Space for programs with an event loop, by httpx2, which huggingface_hub brings.

What is retried, for how long, and what each failure is called is as in `transport`.
"""

import asyncio
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tradingbot.errors import SpaceUnavailable
from tradingbot.runtime.retry import retry_after
from tradingbot.settings import Timeouts, default_timeouts
from tradingbot.space.answers import HEALTH_BYTES
from tradingbot.space.error_responses import (
    FULL,
    PREDICT,
    TRANSIENT,
    Answer,
    cause,
    health_in,
    out_of_time,
    refusal,
    results_in,
)
from tradingbot.space.session import TooLarge, is_loopback
from tradingbot.space.transport import ATTEMPTS, REFUSAL_BYTES, takes_token

if TYPE_CHECKING:
    import httpx2


class AsyncSpaceHTTP:
    """Sends requests to the Space at `url`; every failure is a SpaceError."""

    def __init__(
        self,
        url: str,
        *,
        http: "httpx2.AsyncClient | None" = None,
        api_key: str | None = None,
        hf_token: str | None = None,
        hf_space_repo: str = "",
        timeout: float | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.url = url
        self.timeouts = timeouts or default_timeouts()
        self.timeout = self.timeouts.space_answer if timeout is None else timeout
        self._http = http
        self._owns_http = http is None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._headers: dict[str, str] = {"X-API-Key": api_key} if api_key else {}
        self._hf_token = hf_token
        self._hf_space_repo = hf_space_repo

    async def close(self) -> None:
        if self._owns_http and self._http is not None:
            await self._http.aclose()
            self._http = None

    async def health(self) -> dict[str, Any]:
        """GET /health, asked once."""
        answer = await self._answered(
            "GET", "/health", timeout=self.timeouts.space_health, limit=HEALTH_BYTES, attempts=1
        )
        return health_in(self.url, answer)

    async def predict_batch(self, body: bytes, *, limit: int) -> list[Any]:
        """POST /predict/batch; its results, of `limit` bytes at most, not yet checked."""
        answer = await self._answered(
            "POST", PREDICT, body=body, timeout=self.timeout, limit=limit, attempts=ATTEMPTS
        )
        return results_in(self.url, answer)

    async def _answered(self, method: str, path: str, **options: Any) -> Answer:
        """An answer 200; the others are errors."""
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
        attempts: int,
        body: bytes | None = None,
    ) -> Answer:
        """The answer, whatever its status, after as many attempts as are worth it."""
        url = f"{self.url}{path}"
        headers = {**self._headers, "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        answers: list[Answer] = []
        try:
            async with asyncio.timeout(timeout) as deadline:
                return await self._tried(
                    method, url, headers, body, limit, attempts, deadline, answers
                )
        except TimeoutError as error:
            # not again: the Space would compute the same behind what it is still busy with
            return out_of_time(url, timeout, answers, error)
        except TooLarge as error:
            raise SpaceUnavailable(f"{url} answered what no Space does: {error}") from error
        except Exception as error:  # not only the HTTP client's own: an address may be at fault
            raise SpaceUnavailable(
                f"{url} is out of reach ({cause(error)}); is the Space running?"
            ) from error

    async def _tried(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limit: int,
        attempts: int,
        deadline: asyncio.Timeout,
        answers: list[Answer],
    ) -> Answer:
        """The first answer that is not transient, or the outcome of the last attempt.

        Every answer is added to `answers`.
        """
        ends = deadline.when() or 0.0
        backoff = self.timeouts.space_backoff
        for attempt in itertools.count(1):
            answer, error = await self._outcome(method, url, headers, body, limit)
            if answer is not None and answer.status not in TRANSIENT:
                return answer
            asked = 0.0 if answer is None else retry_after(answer.headers)
            pause = max(min(asked, self.timeouts.space_retry_after), backoff)
            if answer is not None:
                answers.append(answer)
            waits = answer is not None and answer.status == FULL and attempts > 1
            late = asyncio.get_running_loop().time() + pause >= ends
            if late or (not waits and attempt >= attempts):
                break
            await asyncio.sleep(pause)
            backoff = min(2 * backoff, 16 * self.timeouts.space_backoff)
        if answer is None:
            assert error is not None
            raise error
        return answer

    async def _outcome(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limit: int,
    ) -> tuple[Answer | None, Exception | None]:
        """One request: its answer, or why the Space was not reached."""
        import httpx2

        try:
            # no redirects: they would carry the API key elsewhere and turn a POST into a GET
            async with self._client().stream(
                method,
                url,
                headers=dict(headers),
                content=body,
                follow_redirects=False,
                timeout=httpx2.Timeout(None, connect=self.timeouts.space_connect),
            ) as response:
                status, content = response.status_code, bytearray()
                most = limit if status == 200 else REFUSAL_BYTES
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > most:
                        if status == 200:
                            raise TooLarge(f"it has more than {most} bytes")
                        break
                return Answer(status, response.headers, bytes(content[:most])), None
        except httpx2.TransportError as error:
            return None, error

    def _client(self) -> "httpx2.AsyncClient":
        """Ours belongs to the event loop that runs: `asyncio.run` makes another one each time."""
        import httpx2

        loop = asyncio.get_running_loop()
        if self._http is None or (self._owns_http and self._loop is not loop):
            self._loop = loop
            self._http = httpx2.AsyncClient(
                # a connection that waits for the next batch could outlive its event loop
                limits=httpx2.Limits(max_keepalive_connections=0),
                trust_env=not is_loopback(self.url),
            )
        return self._http

    async def _may_show_token(self) -> bool:
        """Whether the Hub's token belongs into what was refused; from now on it is sent."""
        token, self._hf_token = self._hf_token, None  # asked once
        shown = await asyncio.to_thread(
            takes_token, self.url, token, self._hf_space_repo, self.timeouts
        )
        if shown:
            self._headers = {**self._headers, "Authorization": f"Bearer {token}"}
        return shown
