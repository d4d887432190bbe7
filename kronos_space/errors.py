"""Every error as the same JSON: {"error": {"code", "message", "fields"?}}."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from kronos_space.batching import QueueFull, ShuttingDown
from kronos_space.frames import InvalidHistory
from kronos_space.schemas import ErrorBody, ErrorResponse, FieldError, InvalidRequest

_CODES = {404: "not_found", 405: "method_not_allowed"}


class ApiError(Exception):
    """An answer other than success."""

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

    def response(self) -> Response:
        body = ErrorResponse(error=self.body).model_dump_json(exclude_none=True)
        return Response(body, self.status, self.headers, media_type="application/json")


def api_error(error: Exception) -> ApiError:
    """How an exception of the service is told to its caller; nothing of the inside for others."""
    match error:
        case ApiError():
            return error
        case InvalidRequest():
            return ApiError(422, "invalid_input", str(error), fields=error.fields)
        case InvalidHistory():
            return ApiError(422, "invalid_input", str(error))
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


def install(app: FastAPI) -> None:
    """Answer the exceptions that routes raise on purpose. The middleware answers all others."""

    async def handle(request: Request, error: Exception) -> Response:
        return api_error(error).response()

    for kind in (ApiError, InvalidRequest, InvalidHistory, QueueFull, ShuttingDown, HTTPException):
        app.add_exception_handler(kind, handle)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of these errors."""
    return {status: {"model": ErrorResponse, "description": _ABOUT[status]} for status in statuses}


_ABOUT = {
    401: "The API key is missing or wrong",
    408: "The body did not arrive in time",
    413: "The body is too large",
    422: "The input is invalid; the message names the row and the reason",
    429: "The queue is full; Retry-After says when to try again",
    500: "The service failed",
    503: "The service is shutting down",
}
