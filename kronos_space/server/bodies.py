"""Read whole request bodies, with bounds on size, time, and memory for all of them together."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from kronos_space.exceptions import QueueFull
from kronos_space.server.errors import ApiError

BODY_SECONDS = 60  # the longest time for a body to arrive
# Total bytes of received bodies that are not parsed yet; above it, new bodies are refused. Large
# bodies are refused earlier, so that callers with 32 MiB each leave room for small requests.
HELD = 256 * 2**20
LARGE_SHARE = 3 / 4
SMALL = 2**20  # bytes
_JSON = re.compile(r"application/([\w.+-]+\+)?json", re.ASCII | re.IGNORECASE)


class Bodies:
    """Reads bodies, and counts the bytes held in memory."""

    def __init__(self, max_mb: int) -> None:
        self._max_mb = max_mb
        self._held = 0

    @asynccontextmanager
    async def of(
        self, request: Request, *, max_bytes: int | None = None
    ) -> AsyncIterator[bytearray]:
        """Yield the whole body. Its bytes count as held in memory until the block ends.

        Args:
            max_bytes: Limit of its size, if below the limit of all bodies.

        Raises:
            ApiError: 408 or 413.
            QueueFull: Too many bytes are held.
        """
        body = bytearray()
        limit = self._max_mb * 2**20
        try:
            await self._read(request, body, limit if max_bytes is None else min(max_bytes, limit))
            yield body
        finally:
            self._held -= len(body)

    async def _read(self, request: Request, body: bytearray, limit: int) -> None:
        size = f"{limit / 2**20:g} MiB" if limit >= 2**20 else f"{limit / 2**10:g} KiB"
        message = f"the body is larger than {size}: send fewer tickers at once"
        too_large = ApiError(413, "body_too_large", message)
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise too_large
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > limit:
                        raise too_large
                    if self._held > HELD * (LARGE_SHARE if len(body) > SMALL else 1):
                        raise QueueFull("too many bodies are arriving", retry_after=5)
        except TimeoutError:
            message = f"the body did not arrive within {BODY_SECONDS} s"
            raise ApiError(408, "request_timeout", message) from None
        except ClientDisconnect:
            raise caller_gone() from None


def check_media_type(request: Request) -> None:
    """Raise ApiError 415 if the media type is given and is not JSON."""
    header = request.headers.get("content-type")
    if header is None or _JSON.fullmatch(header.partition(";")[0].strip()):
        return
    got = ascii(header if len(header) <= 60 else header[:60] + "…")
    raise ApiError(
        415,
        "unsupported_media_type",
        f"Content-Type: {got}: expected application/json (curl: -H 'Content-Type: "
        "application/json')",
    )


def caller_gone() -> ApiError:
    """Return the error for the log and the metrics when the caller has hung up."""
    return ApiError(499, "client_closed_request", "the caller hung up")
