"""Prometheus metrics of the service, one registry per application."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SHARES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_SERIES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics, and methods that update them."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "kronos_http_requests",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "kronos_http_request_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue_series = Gauge(
            "kronos_queue_series", "Series that wait for the engine.", registry=registry
        )
        self._running_series = Gauge(
            "kronos_running_series", "Series that the engine is computing.", registry=registry
        )
        self._queue_seconds = Histogram(
            "kronos_queue_seconds",
            "Seconds that a series waited for the engine.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._engine_seconds = Histogram(
            "kronos_engine_seconds",
            "Seconds of one call of the engine.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._engine_series = Histogram(
            "kronos_engine_series",
            "Series computed together in one call of the engine.",
            buckets=_SERIES,
            registry=registry,
        )
        self._paths = Counter("kronos_paths", "Sample paths computed.", registry=registry)
        self._reconstruction = Histogram(
            "kronos_reconstruction_error",
            "Error of the tokenizer's reconstruction of the last close, as a share of it.",
            ["model"],
            buckets=_SHARES,
            registry=registry,
        )
        self._model = Gauge(
            "kronos_model_info", "Each model served: 1.", ["model", "revision"], registry=registry
        )

    def serving(
        self,
        models: Iterable[tuple[str, str | None]],
        *,
        waiting: Callable[[], int],
        running: Callable[[], int],
    ) -> None:
        """Set the names and revisions of the models, and the counter of waiting series."""
        for model, revision in models:
            self._model.labels(model, revision or "").set(1)
        self._queue_series.set_function(waiting)
        self._running_series.set_function(running)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one finished HTTP request."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def computed(self, *, waits: Sequence[float], paths: int, seconds: float) -> None:
        """Count one finished call of the engine."""
        for wait in waits:
            self._queue_seconds.observe(wait)
        self._engine_series.observe(len(waits))
        self._engine_seconds.observe(seconds)
        self._paths.inc(paths)

    def reconstructed(self, model: str, error: float) -> None:
        """Record a series' reconstruction error, |last close ÷ reconstructed close - 1|."""
        self._reconstruction.labels(model).observe(error)

    def text(self) -> bytes:
        """Return the metrics in the exposition format."""
        return generate_latest(self._registry)
