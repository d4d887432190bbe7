"""Middleware around every request: id, API key, log line, metrics, and unexpected errors."""

import asyncio
import hmac
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kronos_space.exceptions import ShuttingDown
from kronos_space.server import pages
from kronos_space.server.errors import api_error, unauthorized
from kronos_space.server.metrics import Metrics

logger = logging.getLogger(__name__)

# Bytes of an answer that are sent at a time. The connection stores what the caller has not read: a
# whole file for each of a thousand callers would fill the memory.
PIECE = 2**16
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestScope:
    """The outermost middleware. Every request gets an answer and one log line."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, api_key: str | None) -> None:
        self._app = app
        self._metrics = metrics
        self._api_key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        path, headers = scope["path"], Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(
                    {"X-Request-ID": request_id, "X-Content-Type-Options": "nosniff"}
                )
            await _send_in_pieces(send, message)

        try:
            if self._may_pass(path, headers):
                await self._app(scope, receive, send_with_id)
            else:
                await unauthorized().response(path)(scope, receive, send_with_id)
        except asyncio.CancelledError:  # the shutdown time-out for running requests is over
            if not status:
                stopped = ShuttingDown("the service was stopped before this was finished")
                await api_error(stopped).response(path)(scope, receive, send_with_id)
        except Exception as error:  # no outer layer answers or logs it
            logger.exception("request %s failed", request_id)
            if status:
                raise
            await api_error(error).response(path)(scope, receive, send_with_id)
        finally:
            seconds = time.monotonic() - started
            route = getattr(scope.get("route"), "path", "other")
            # callers can invent methods, and each would add a time series
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.answered(method, route, status, seconds)
            fields = {
                "method": method,
                "route": route if route != "other" else "an unknown path",
                "status": status or "aborted",
                "ms": round(seconds * 1000),
                "request_id": request_id,
            }
            line = "%(method)s %(route)s %(status)s in %(ms)d ms, request %(request_id)s"
            logger.info(line, fields, extra=fields)

    def _may_pass(self, path: str, headers: Headers) -> bool:
        if self._api_key is None or path == "/health" or pages.is_open(path):
            return True
        given = headers.get("x-api-key", "")
        if path == "/metrics" and not given:  # Prometheus can send a bearer token only
            scheme, _, credentials = headers.get("authorization", "").partition(" ")
            given = credentials.strip() if scheme.lower() == "bearer" else ""
        return hmac.compare_digest(given.encode(), self._api_key)


async def _send_in_pieces(send: Send, message: Message) -> None:
    body = memoryview(message.get("body", b""))
    while len(body) > PIECE:
        await send({**message, "body": bytes(body[:PIECE]), "more_body": True})
        body = body[PIECE:]
        await asyncio.sleep(0)  # others' turn: a connection takes several pieces at once
    await send({**message, "body": bytes(body)} if body else message)
