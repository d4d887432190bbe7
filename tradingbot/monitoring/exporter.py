"""`/metrics` and `/healthz` over HTTP, read from the database at most every few seconds."""

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

KEPT = 15.0  # seconds that a snapshot serves for
PATIENCE = 5.0  # seconds that a scrape waits for the database; Prometheus waits for ten
CALLER = 10.0  # seconds that the rest of a request may take


class Cached:
    """The newest snapshot. One thread reads it, and no caller waits for long."""

    def __init__(
        self, read: Callable[[], Snapshot], *, kept: float = KEPT, patience: float = PATIENCE
    ) -> None:
        self._read = read
        self._kept_for = kept
        self._patience = patience
        self._lock = threading.Lock()
        self._reading: Future[Snapshot] | None = None
        self._kept = Snapshot()
        self._read_at = float("-inf")

    def snapshot(self) -> Snapshot:
        """One that is recent; one without a status while the database does not answer."""
        with self._lock:
            if self._reading is None and time.monotonic() - self._read_at < self._kept_for:
                return self._kept
            if self._reading is None:
                self._reading = in_background(self._read)
            reading = self._reading
        try:
            found = reading.result(self._patience)
        except TimeoutError:
            return Snapshot(why=f"the database has not answered within {self._patience:g} s")
        except KronosError as error:  # such as a folder of candles that is not there
            found = Snapshot(why=str(error))
        except Exception as error:  # a mistake of ours is no reason to be dead
            logger.exception("the metrics could not be read")
            found = Snapshot(why=type(error).__name__)
        with self._lock:
            if self._reading is reading:
                if found.why and found.why != self._kept.why:
                    logger.warning("kronosbot_up is 0: %s", found.why)
                self._reading, self._kept, self._read_at = None, found, time.monotonic()
        return found


class _Job(Collector):
    def __init__(self, cached: Cached, version: str) -> None:
        self._cached = cached
        self._version = version

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # else it would be read when it is registered

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return families(self._cached.snapshot(), self._version)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no error."""


class _ServerOfIPv6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = CALLER

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape every few seconds is nothing to log."""


def make_exporter(cached: Cached, *, version: str, host: str, port: int) -> WSGIServer:
    """The server, which listens already; `serve_forever` answers. ConfigError if it cannot."""
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
        elif path == "/healthz":  # of the process: a new one would not mend the database
            status, text = "200 OK", b"ok\n"
        else:
            status, text = "404 Not Found", b"/metrics or /healthz\n"
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [b"" if method == "HEAD" else text]

    return answer
