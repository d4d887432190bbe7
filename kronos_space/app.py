"""The HTTP service: routes over the forecaster and its queue."""

import asyncio
import time
import uuid
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic_core import to_json
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import StreamingResponse

from kronos_space import __version__
from kronos_space.engine.batch import Paths
from kronos_space.engine.worker import InferenceWorker, Outcome
from kronos_space.forecasting.forecaster import Prepared
from kronos_space.forecasting.models import Models
from kronos_space.schemas import (
    DEFAULT_ANCHOR,
    BatchResponse,
    ForecastResponse,
    HealthResponse,
)
from kronos_space.server import errors, openapi, pages
from kronos_space.server.bodies import Bodies, caller_gone, check_media_type
from kronos_space.server.errors import item_error, responses
from kronos_space.server.mcp import Assistants
from kronos_space.server.metrics import Metrics
from kronos_space.server.middleware import RequestScope
from kronos_space.server.reader import Reader
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import Checkpoint, load_checkpoint

CHUNK = 2**20  # bytes of a batch's answer that are sent at a time

T = TypeVar("T")
Item = TypeVar("Item")
router = APIRouter()


def create_app(
    settings: Settings | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    others: Sequence[Checkpoint] = (),
) -> FastAPI:
    """Return the service. Models are loaded in the lifespan, unless loaded ones are passed.

    Args:
        settings: Default: read from the environment.
        checkpoint: The model for requests that name none.
        others: Further models.
    """
    settings = settings or Settings.from_env()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loaded = [checkpoint, *others] if checkpoint else map(load_checkpoint, settings.checkpoints)
        app.state.service = service = Service(Models([*loaded], settings), settings, metrics)
        try:
            yield
        finally:
            await service.assistants.close()
            await asyncio.to_thread(service.worker.close)
            service.reader.close()

    app = FastAPI(
        title="Kronos forecasts",
        summary="Forecasts of OHLCV candles by the Kronos foundation model.",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect behind a TLS proxy would expose key and candles
        docs_url=None,  # served by pages.py, without files from other hosts
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(router)
    app.include_router(pages.router)
    errors.install(app)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=4)
    app.add_middleware(RequestScope, metrics=metrics, api_key=settings.api_key)
    app.openapi = lambda: openapi.document(app, settings)  # type: ignore[method-assign]
    return app


class Service:
    """The loaded models and their queue; one per process."""

    def __init__(self, models: Models, settings: Settings, metrics: Metrics) -> None:
        self.models = models
        self.forecaster = models.first  # for requests that name no model
        self.settings = settings
        self.metrics = metrics
        self.worker = InferenceWorker(
            models.work,
            max_waiting=settings.max_queue,
            max_work=settings.max_work,
            observe=metrics.computed,
        )
        self.boot_id = uuid.uuid4().hex
        self.started_at = datetime.now(UTC)
        self.bodies = Bodies(settings.max_body_mb)
        self.reader = Reader(models, settings)
        self.assistants = Assistants(self, settings)
        self._started = time.monotonic()
        metrics.serving(
            [(forecaster.model_name, forecaster.model_revision) for forecaster in models.all],
            waiting=lambda: self.worker.waiting,
            running=lambda: self.worker.running,
        )

    def health(self) -> dict[str, Any]:
        """Return the body of a HealthResponse."""
        return {
            "status": "ok",
            "model": self.forecaster.model_name,
            "model_revision": self.forecaster.model_revision,
            "models": [
                {"model": forecaster.model_name, "model_revision": forecaster.model_revision}
                for forecaster in self.models.all
            ],
            "anchor": DEFAULT_ANCHOR,
            "boot_id": self.boot_id,
            "started_at": self.started_at.isoformat(),
            "uptime_s": time.monotonic() - self._started,
            "version": __version__,
        }

    def measure(self, prepared: Iterable[Prepared], outcomes: Iterable[Outcome]) -> None:
        """Record the tokenizer's reconstruction error of each last close."""
        for request, outcome in zip(prepared, outcomes, strict=True):
            if isinstance(outcome, Paths):
                self.metrics.reconstructed(
                    request.head["model"], request.reconstruction(outcome).error
                )


@router.head("/health", include_in_schema=False)  # monitors often use HEAD
@router.get(
    "/health",
    summary="See that it is up, and which model answers",
    tags=["Operation"],
    response_model=HealthResponse,
    responses=openapi.success(openapi.HEALTH) | responses(500),
)
async def health(request: Request) -> Response:
    """Return the models that answer, and the start time. Needs no key."""
    service: Service = request.app.state.service
    return _answer(service.health())


@router.post(
    "/predict",
    summary="Forecast one ticker",
    tags=["Forecasts"],
    response_model=ForecastResponse,
    responses=openapi.success(openapi.FORECAST) | responses(401, 408, 413, 415, 422, 429, 500, 503),
    openapi_extra=openapi.body_of("ForecastRequest"),
)
async def predict(request: Request) -> Response:
    """Forecast the next bars of one ticker."""
    service: Service = request.app.state.service
    [prepared], work = await _taken(request, service.reader.single)
    [outcome] = await _unless_gone(request, work)
    if isinstance(outcome, Exception):
        raise outcome
    service.measure([prepared], [outcome])
    return await asyncio.to_thread(lambda: _answer(prepared.answer(outcome)))


@router.post(
    "/predict/batch",
    summary="Forecast several tickers",
    tags=["Forecasts"],
    response_model=BatchResponse,
    responses=openapi.success(openapi.BATCH) | responses(401, 408, 413, 415, 422, 429, 500, 503),
    openapi_extra=openapi.body_of("BatchRequest"),
)
async def predict_batch(request: Request) -> Response:
    """Forecast several tickers at once; each gets its own answer or error."""
    service: Service = request.app.state.service
    items, work = await _taken(request, service.reader.batch)
    outcomes = await _unless_gone(request, work)
    service.measure((item for item in items if isinstance(item, Prepared)), outcomes)
    return StreamingResponse(batch_answer(items, outcomes), media_type="application/json")


@router.post(errors.MCP, include_in_schema=False)  # JSON-RPC, unlike the other routes
async def mcp(request: Request) -> Response:
    """Serve the same forecasts to assistants by the Model Context Protocol."""
    service: Service = request.app.state.service
    service.worker.check_open()
    return service.assistants.answer(request)


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    summary="Read the metrics for Prometheus",
    tags=["Operation"],
    response_class=Response,
    responses=openapi.success(openapi.METRICS, media_type="text/plain") | responses(401, 500),
)
async def metrics(request: Request) -> Response:
    """Return Prometheus metrics."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _answer(content: dict[str, Any]) -> Response:
    return Response(to_json(content), media_type="application/json")


def batch_answer(
    items: Iterable[Prepared | dict[str, Any]], outcomes: Iterable[Outcome]
) -> Iterator[bytes]:
    """Yield the body of a BatchResponse in pieces; with `return_paths` it may be a gigabyte."""
    remaining = iter(outcomes)
    piece = bytearray(b'{"results":[')
    for position, item in enumerate(items):
        if isinstance(item, Prepared):
            item = _item_answer(item, next(remaining))
        piece += (b"," if position else b"") + to_json(item)
        if len(piece) >= CHUNK:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + b"]}"


def _item_answer(item: Prepared, outcome: Outcome) -> dict[str, Any]:
    try:
        if isinstance(outcome, Exception):
            raise outcome
        return {"ok": True, **item.answer(outcome)}
    except Exception as error:  # an unexpected error costs this item only
        return item_error(item.head["symbol"], error)


async def _taken(
    request: Request, read: Callable[[bytearray], Awaitable[list[Item]]]
) -> tuple[list[Item], Coroutine[Any, Any, list[Outcome]]]:
    """Return the prepared series of a request, and the work on those that can be forecast.

    The body is released before waiting for the work: it is large, and the queue may be long.
    """
    service: Service = request.app.state.service
    service.worker.check_open()
    check_media_type(request)
    async with service.bodies.of(request) as body:
        with service.worker.arriving():
            items = await read(body)
            prompts = [item.prompt for item in items if isinstance(item, Prepared)]
            return items, service.worker.submit(prompts)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the work's result. If the caller hangs up first, cancel the work."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise caller_gone()
    finally:
        working.cancel()
        watching.cancel()
