"""Client for forecasts and health of one Space. It sends batches of requests, several at a time."""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self

from tradingbot.errors import KronosError, SpaceUnavailable
from tradingbot.forecast import Forecast
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.concurrency import in_background
from tradingbot.runtime.retry import growing, poll
from tradingbot.space.address import SpaceAddress
from tradingbot.space.decoding import answer_bytes, decode
from tradingbot.space.transport import SpaceHTTP
from tradingbot.space.wire import SeriesRequest, Unsendable, envelope

if TYPE_CHECKING:
    from concurrent.futures import Future

    import requests

BATCH_SERIES = 16  # the most that a crash can lose, and the step of a progress bar
BATCH_BYTES = 4_000_000
IN_FLIGHT = 2  # batches in progress: while one is computed, the next waits in the Space's queue
POLL_INTERVAL = growing(0.1, 5.0)  # seconds between polls of a starting Space

Answer = tuple[str, Forecast | KronosError]  # (ticker, forecast or error)


class SpaceClient:
    """Client of the Space at an address. No connection is opened before the first call.

    `http` is your own session. Other threads will use it, and it is not closed here.
    """

    def __init__(self, address: SpaceAddress, *, http: "requests.Session | None" = None) -> None:
        self.url = address.url
        self._http = SpaceHTTP(address, http=http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the Space."""
        self._http.close()

    # the Space's state -------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """Return the Space's health: model, boot_id, version …

        Raises:
            SpaceError: Nothing responds at the address, or it is not a Space.
        """
        return self._http.health()

    def check(self) -> None:
        """Check all that a request needs, without using the network.

        Raises:
            ConfigError: The address, a proxy or a certificate file cannot be used.
        """
        self._http.check()

    def check_key(self) -> None:
        """Check that the Space accepts our API key.

        Raises:
            ConfigError: The key is missing or wrong.
            SpaceError: The Space does not respond.
        """
        self._http.check_key()

    def is_healthy(self) -> bool:
        """Return whether the Space can forecast now."""
        try:
            return self.health().get("status") == "ok"
        except KronosError:
            return False

    def wait_until_ready(
        self, timeout: float = 900.0, *, other_than: str | None = None
    ) -> dict[str, Any]:
        """Poll /health until it is ok with a boot_id other than `other_than`, and return it.

        Raises:
            SpaceUnavailable: After `timeout` seconds.
            SpaceRejected: At once, if the address is not a Space.
        """
        seen = Readiness(self.url, other_than)

        def look() -> dict[str, Any] | None:
            try:
                return seen.ready(self.health())
            except SpaceUnavailable as error:
                seen.state = str(error)
                return None

        until = time.monotonic() + timeout
        return poll(look, until=until, wait=POLL_INTERVAL) or seen.never(timeout)

    # forecasts ---------------------------------------------------------------------------

    def forecast_batches(
        self, requests: Iterable[SeriesRequest | Unsendable]
    ) -> Generator[list[Answer]]:
        """Yield the answers to each batch of requests, in order.

        IN_FLIGHT batches are in progress at a time; meanwhile the next requests are read from
        `requests`. An item that could not be prepared is yielded as its own batch. The bands are
        the model's own. Close the generator to stop sending.
        """
        flight = _InFlight(self)
        try:
            for item in in_batches(requests):
                if isinstance(item, tuple):
                    yield [item]
                else:
                    yield from flight.send(item)
            yield from flight.rest()
        finally:
            flight.stop()

    def _ask(self, batch: list[SeriesRequest], stopped: threading.Event) -> list[Answer]:
        results = self._http.predict_batch(
            envelope(batch), limit=answer_bytes(batch), stopped=stopped
        )
        return answers(self.url, batch, results)


def answers(url: str, batch: list[SeriesRequest], results: list[Any]) -> list[Answer]:
    """Return the Space's answer to each request of a batch."""
    if len(results) != len(batch):
        raise SpaceUnavailable(f"{url} answered {len(results)} results to {len(batch)} requests")
    made_at = utcnow()
    return [
        (request.symbol, decode(request, result, made_at=made_at))
        for request, result in zip(batch, results, strict=True)
    ]


class Readiness:
    """The state of a Space while waiting for its health to be ok with a new boot_id."""

    def __init__(self, url: str, other_than: str | None) -> None:
        self.state = "nothing yet"
        self._url, self._other_than = url, other_than

    def ready(self, health: dict[str, Any]) -> dict[str, Any] | None:
        """Return the health if the Space is ready, else None."""
        status, boot = health.get("status"), health.get("boot_id")
        self.state = f"status {status!r}, boot {boot!r}"
        return health if status == "ok" and boot != self._other_than else None

    def never(self, timeout: float) -> NoReturn:
        """Raise SpaceUnavailable with the last state."""
        raise SpaceUnavailable(f"{self._url} was not ready within {timeout:g} s: {self.state}")


class _InFlight:
    """The batches of one call that are in progress, oldest first."""

    def __init__(self, client: SpaceClient) -> None:
        self._client = client
        self._batches: deque[tuple[list[SeriesRequest], Future[list[Answer]]]] = deque()
        self._stopped = threading.Event()
        # set if the Space is unavailable; then nothing more is sent
        self._outage: SpaceUnavailable | None = None

    def send(self, batch: list[SeriesRequest]) -> list[list[Answer]]:
        """Send a batch once fewer than IN_FLIGHT are in progress.

        Return the answers that arrived.
        """
        arrived = [self._receive()] if len(self._batches) == IN_FLIGHT else []
        if self._outage is None:
            ask = partial(self._client._ask, batch, self._stopped)
            self._batches.append((batch, in_background(ask)))
            return arrived
        return [*arrived, *self.rest(), [(request.symbol, self._outage) for request in batch]]

    def rest(self) -> Iterator[list[Answer]]:
        """Yield the answers to the batches in progress."""
        while self._batches:
            yield self._receive()

    def stop(self) -> None:
        """Stop retrying the batches in progress."""
        self._stopped.set()

    def _receive(self) -> list[Answer]:
        """Wait for the oldest batch. An error is the answer to each of its requests."""
        batch, future = self._batches.popleft()
        try:
            return future.result()
        except SpaceUnavailable as error:
            if self._outage is None and not self._client.is_healthy():
                self._outage = error  # the other batches would only run into the same outage
                self.stop()
            return [(request.symbol, error) for request in batch]
        except KronosError as error:
            return [(request.symbol, error) for request in batch]


def in_batches(
    requests: Iterable[SeriesRequest | Unsendable],
) -> Iterator[list[SeriesRequest] | Unsendable]:
    """Group requests by BATCH_SERIES and BATCH_BYTES. Unsendable items are passed on unchanged."""
    batch: list[SeriesRequest] = []
    for request in requests:
        if isinstance(request, tuple):
            yield request
            continue
        size = sum(other.weight for other in batch) + request.weight
        if batch and (len(batch) == BATCH_SERIES or size > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch
