"""The HTTP service: routes over the forecaster and its queue."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json, to_json
from starlette.middleware.gzip import GZipMiddleware

from kronos_space import __version__, errors, page
from kronos_space.batching import InferenceWorker
from kronos_space.errors import ApiError, api_error, responses
from kronos_space.forecaster import Forecaster, Prepared
from kronos_space.frames import InvalidHistory
from kronos_space.metrics import Metrics
from kronos_space.middleware import RequestScope
from kronos_space.model.checkpoint import Checkpoint, load_checkpoint
from kronos_space.schemas import (
    BatchRequest,
    BatchResponse,
    ForecastRequest,
    ForecastResponse,
    HealthResponse,
    InvalidRequest,
    read_batch,
    read_request,
)
from kronos_space.settings import Settings

BODY_SECONDS = 60  # a body that takes longer to arrive is not waited for

T = TypeVar("T")
router = APIRouter()


def create_app(
    settings: Settings | None = None, *, checkpoint: Checkpoint | None = None
) -> FastAPI:
    """The service. The model is loaded in the lifespan, unless a loaded one is passed."""
    settings = settings or Settings.from_env()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        forecaster = Forecaster(checkpoint or load_checkpoint(settings.model), settings)
        app.state.service = service = Service(forecaster, settings, metrics)
        try:
            yield
        finally:
            await asyncio.to_thread(service.worker.close)

    app = FastAPI(
        title="Kronos forecasts",
        summary="Forecasts of OHLCV candles by the Kronos foundation model.",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
    )
    app.include_router(router)
    app.include_router(page.router)
    errors.install(app)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=4)
    app.add_middleware(RequestScope, metrics=metrics, api_key=settings.api_key)
    app.openapi = lambda: _openapi(app, settings)  # type: ignore[method-assign]
    return app


class Service:
    """The loaded model and its queue; new in every process."""

    def __init__(self, forecaster: Forecaster, settings: Settings, metrics: Metrics) -> None:
        self.forecaster = forecaster
        self.settings = settings
        self.metrics = metrics
        self.worker = InferenceWorker(
            forecaster.generate, max_waiting=settings.max_queue, observe=metrics.computed
        )
        self.boot_id = uuid.uuid4().hex
        self.started_at = datetime.now(UTC)
        self._started = time.monotonic()
        metrics.serving(
            forecaster.model_name, forecaster.model_revision, lambda: self.worker.waiting
        )

    @property
    def uptime(self) -> float:
        return time.monotonic() - self._started

    def prepare(self, body: bytes) -> Prepared:
        """One request's body, ready for the engine. Raises InvalidRequest, InvalidHistory."""
        return self._prepare(_json(body))

    def prepare_batch(self, body: bytes) -> list[Prepared | dict[str, Any]]:
        """A batch's body: each series ready for the engine, or the answer that it gets instead."""
        return [self._prepare_item(item) for item in read_batch(_json(body), self.settings)]

    def _prepare(self, data: Any) -> Prepared:
        return self.forecaster.prepare(read_request(data, self.settings))

    def _prepare_item(self, item: Any) -> Prepared | dict[str, Any]:
        try:
            return self._prepare(item)
        except (InvalidRequest, InvalidHistory) as error:
            symbol = item.get("symbol") if isinstance(item, dict) else None
            return {
                "ok": False,
                "symbol": symbol if isinstance(symbol, str) else None,
                "error": api_error(error).body.model_dump(exclude_none=True),
            }


def _body_of(model: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.get("/health", response_model=HealthResponse, responses=responses(500))
async def health(request: Request) -> Response:
    """Which model answers, and since when. Needs no key."""
    service: Service = request.app.state.service
    return _answer(
        {
            "status": "ok",
            "model": service.forecaster.model_name,
            "model_revision": service.forecaster.model_revision,
            "boot_id": service.boot_id,
            "started_at": service.started_at.isoformat(),
            "uptime_s": service.uptime,
            "version": __version__,
        }
    )


@router.post(
    "/predict",
    response_model=ForecastResponse,
    responses=responses(401, 408, 413, 422, 429, 500, 503),
    openapi_extra=_body_of("ForecastRequest"),
)
async def predict(request: Request) -> Response:
    """Forecast the next bars of one ticker."""
    service: Service = request.app.state.service
    body = await _read_body(request)
    with service.worker.arriving():
        prepared = await asyncio.to_thread(service.prepare, body)
        work = service.worker.submit([prepared.prompt])
    [paths] = await _unless_gone(request, work)
    return await asyncio.to_thread(lambda: _answer(prepared.answer(paths)))


@router.post(
    "/predict/batch",
    response_model=BatchResponse,
    responses=responses(401, 408, 413, 422, 429, 500, 503),
    openapi_extra=_body_of("BatchRequest"),
)
async def predict_batch(request: Request) -> Response:
    """Forecast several tickers at once; each is answered, or refused, by itself."""
    service: Service = request.app.state.service
    body = await _read_body(request)
    with service.worker.arriving():
        items = await asyncio.to_thread(service.prepare_batch, body)
        work = service.worker.submit([item.prompt for item in items if isinstance(item, Prepared)])
    paths = iter(await _unless_gone(request, work))

    def answer() -> Response:
        results = [
            {"ok": True, **item.answer(next(paths))} if isinstance(item, Prepared) else item
            for item in items
        ]
        return _answer({"results": results})

    return await asyncio.to_thread(answer)


@router.get("/metrics", response_class=Response, responses=responses(401, 500))
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _answer(content: dict[str, Any]) -> Response:
    return Response(to_json(content), media_type="application/json")


def _json(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        hint = "; NaN and Infinity are not JSON" if b"NaN" in body or b"Infinity" in body else ""
        raise InvalidRequest(f"the body is not JSON: {error}{hint}") from None


async def _read_body(request: Request) -> bytes:
    """The whole body. Refuses one that is too large, too slow, or that could not be served."""
    service: Service = request.app.state.service
    service.worker.check_open()
    limit = service.settings.max_body_mb * 2**20
    too_large = ApiError(
        413, "body_too_large", f"expected at most {service.settings.max_body_mb} MiB"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        message = f"the body did not arrive within {BODY_SECONDS} s"
        raise ApiError(408, "request_timeout", message) from None
    return bytes(body)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; if the caller hangs up first, the work is cancelled."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(499, "client_closed_request", "the caller hung up")
    finally:
        working.cancel()
        watching.cancel()


def _openapi(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """FastAPI's document, with the request models that it does not read itself, and our bounds."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    _, definitions = models_json_schema(
        [(ForecastRequest, "validation"), (BatchRequest, "validation")],
        ref_template="#/components/schemas/{model}",
    )
    schemas = definitions["$defs"]
    properties = schemas["ForecastRequest"]["properties"]
    properties["horizon"]["maximum"] = settings.max_horizon
    properties["samples"]["maximum"] = settings.max_samples
    properties["ohlcv"] |= {"minItems": settings.min_history, "maxItems": settings.max_history}
    schemas["BatchRequest"]["properties"]["requests"] |= {
        "items": {"$ref": "#/components/schemas/ForecastRequest"},
        "maxItems": settings.max_batch,
    }
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas)
    if settings.api_key is not None:
        key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        components["securitySchemes"] = {"ApiKey": key}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path == "/health" else [{"ApiKey": []}]
    app.openapi_schema = document
    return document
