"""Errors as one JSON body: {"error": {"code", "message", "fields"?}}. /mcp uses JSON-RPC's."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from kronos_space.exceptions import (
    InvalidHistory,
    InvalidRequest,
    QueueFull,
    ShuttingDown,
    TooMuchWork,
)
from kronos_space.schemas import ErrorBody, ErrorResponse, FieldError

logger = logging.getLogger(__name__)

MCP = "/mcp"
_CODES = {404: "not_found", 405: "method_not_allowed"}


class ApiError(Exception):
    """An HTTP answer that is an error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        fields: list[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(code=code, message=message, fields=fields)
        self.headers = headers

    def response(self, path: str = "") -> Response:
        """Return the response for a request to `path`. At /mcp it is a JSON-RPC error."""
        body = ErrorResponse(error=self.body).model_dump_json(exclude_none=True).encode()
        if path == MCP:
            code = -32600 if self.status < 500 else -32603  # invalid request; internal error
            error = {"code": code, "message": self.body.message, "data": {"code": self.body.code}}
            body = to_json({"jsonrpc": "2.0", "id": None, "error": error})
        return Response(body, self.status, self.headers, media_type="application/json")


def api_error(error: Exception) -> ApiError:
    """Return the HTTP error for an exception; unexpected exceptions reveal no details."""
    match error:
        case ApiError():
            return error
        case InvalidRequest():
            fields = [FieldError(field=path, message=text) for path, text in error.fields or ()]
            return ApiError(422, "invalid_input", str(error), fields=fields or None)
        case InvalidHistory():
            return ApiError(422, "invalid_input", str(error))
        case TooMuchWork():
            return ApiError(413, "too_much_work", str(error))
        case QueueFull():
            headers = {"Retry-After": str(error.retry_after)}
            return ApiError(429, "queue_full", str(error), headers=headers)
        case ShuttingDown():
            return ApiError(503, "shutting_down", str(error), headers={"Retry-After": "30"})
        case HTTPException():
            code = _CODES.get(error.status_code, "error")
            message = f"{error.detail}; GET /docs lists the routes"
            return ApiError(error.status_code, code, message, headers=error.headers)
        case _:
            return ApiError(500, "internal_error", "the service failed; its log says why")


def item_error(symbol: str | None, error: Exception) -> dict[str, Any]:
    """Return the result for a failed item of a batch; log unexpected exceptions."""
    answer = api_error(error)
    if answer.status == 500:
        logger.error("the forecast of %r failed", symbol, exc_info=error)
    body = answer.body.model_dump(exclude_none=True)
    return {"ok": False, "symbol": symbol, "error": body}


def install(app: FastAPI) -> None:
    """Register handlers for the service's own exceptions. The middleware handles all others."""

    async def handle(request: Request, error: Exception) -> Response:
        return api_error(error).response(request.url.path)

    for kind in (
        ApiError,
        InvalidRequest,
        InvalidHistory,
        TooMuchWork,
        QueueFull,
        ShuttingDown,
        HTTPException,
    ):
        app.add_exception_handler(kind, handle)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI entries for these errors, each with an example."""
    return {status: _documented(*_ABOUT[status]) for status in statuses}


def unauthorized() -> ApiError:
    return ApiError(401, "unauthorized", "X-API-Key is missing or wrong")


def _documented(about: str, error: Exception) -> dict[str, Any]:
    answer = api_error(error)
    example = {"error": answer.body.model_dump(exclude_none=True)}
    headers = {
        name: {"description": "seconds", "schema": {"type": "integer"}}
        for name in answer.headers or ()
    }
    return {
        "model": ErrorResponse,
        "description": about,
        "content": {"application/json": {"example": example}},
        **({"headers": headers} if headers else {}),
    }


_ABOUT: dict[int, tuple[str, Exception]] = {
    401: ("The API key is missing or wrong", unauthorized()),
    408: (
        "The body did not arrive in time",
        ApiError(408, "request_timeout", "the body did not arrive within 60 s"),
    ),
    413: (
        "The body is too large, or the request is too much work",
        ApiError(
            413, "body_too_large", "the body is larger than 32 MiB: send fewer tickers at once"
        ),
    ),
    415: (
        "The body is not JSON by its Content-Type",
        ApiError(
            415,
            "unsupported_media_type",
            "Content-Type: 'text/plain': expected application/json "
            "(curl: -H 'Content-Type: application/json')",
        ),
    ),
    422: (
        "The input is invalid; the message names the row and the reason",
        InvalidRequest(
            "row 17: close: Field required",
            [("ohlcv.17.close", "Field required")],
        ),
    ),
    429: ("The queue is full; Retry-After says when to try again", QueueFull(retry_after=7)),
    500: ("The service failed", Exception()),
    503: ("The service is shutting down", ShuttingDown("the service is shutting down")),
}
