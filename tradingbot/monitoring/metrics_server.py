"""Serve `/metrics` and `/healthz` over HTTP. The database is read at most every few seconds."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tradingbot.errors import ConfigError, KronosError
from tradingbot.monitoring.metrics import families
from tradingbot.monitoring.snapshot import Snapshot
from tradingbot.runtime.concurrency import in_background

if TYPE_CHECKING:
    from concurrent.futures import Future

logger = logging.getLogger(__name__)

MAX_AGE = 15.0  # seconds for which a snapshot is reused
DATABASE_TIMEOUT = 5.0  # seconds that a scrape waits for the database; Prometheus waits for ten
REQUEST_TIMEOUT = 10.0  # time-out in seconds for reading a request and sending the response


class Cached:
    """Cache of the newest snapshot.

    One background thread reads the snapshot from the database. Callers wait a limited time for it.
    """

    def __init__(
        self,
        read: Callable[[], Snapshot],
        *,
        max_age: float = MAX_AGE,
        timeout: float = DATABASE_TIMEOUT,
    ) -> None:
        self._read = read
        self._max_age = max_age
        self._timeout = timeout
        self._lock = threading.Lock()
        self._reading: Future[Snapshot] | None = None
        self._snapshot = Snapshot()
        self._read_at = float("-inf")

    def snapshot(self) -> Snapshot:
        """Return a recent snapshot, without a status if the database does not answer in time."""
        with self._lock:
            if self._reading is None and time.monotonic() - self._read_at < self._max_age:
                return self._snapshot
            if self._reading is None:
                self._reading = in_background(self._read)
            reading = self._reading
        try:
            snapshot = reading.result(self._timeout)
        except TimeoutError:
            return Snapshot(why=f"the database has not answered within {self._timeout:g} s")
        except KronosError as error:  # such as a missing folder of candles
            snapshot = Snapshot(why=str(error))
        except Exception as error:  # a bug must not stop the exporter
            logger.exception("the metrics could not be read")
            snapshot = Snapshot(why=type(error).__name__)
        with self._lock:
            if self._reading is reading:
                if snapshot.why and snapshot.why != self._snapshot.why:
                    logger.warning("kronosbot_up is 0: %s", snapshot.why)
                self._reading, self._snapshot, self._read_at = None, snapshot, time.monotonic()
        return snapshot


class _Job(Collector):
    def __init__(self, cached: Cached, version: str) -> None:
        self._cached = cached
        self._version = version

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # otherwise registering the collector would read the database

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return families(self._cached.snapshot(), self._version)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of a request, such as a client that hangs up."""


class _ServerOfIPv6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: Prometheus scrapes every few seconds."""


def make_exporter(cached: Cached, *, version: str, host: str, port: int) -> WSGIServer:
    """Return a server that already listens. Call `serve_forever` to handle requests.

    Raises:
        ConfigError: the address cannot be used.
    """
    registry = CollectorRegistry()
    registry.register(_Job(cached, version))
    server = _ServerOfIPv6 if ":" in host else _Server
    try:
        return make_server(host, port, _application(registry), server, _Handler)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {error.strerror}; give another --host or --port"
        ) from error


def _application(registry: CollectorRegistry) -> Callable[[Any, Any], Iterable[bytes]]:
    metrics: Callable[[Any, Any], Iterable[bytes]] = make_wsgi_app(registry)

    def answer(environ: Any, start_response: Any) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            status, text = "405 Method Not Allowed", b"GET only\n"
        elif path == "/metrics":
            return metrics(environ, start_response)
        # Report the health of the process only. An orchestrator restarts an unhealthy process, and
        # a restart would not repair the database.
        elif path == "/healthz":
            status, text = "200 OK", b"ok\n"
        else:
            status, text = "404 Not Found", b"/metrics or /healthz\n"
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [b"" if method == "HEAD" else text]

    return answer
