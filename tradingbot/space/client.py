"""Forecasts and health of one Space: batches of prepared requests, several under way at a time."""

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

BATCH_SERIES = 16  # what a crash can lose, and how often a progress bar moves
BATCH_BYTES = 4_000_000
IN_FLIGHT = 2  # requests at a time: while one is computed, the next one waits in the Space's queue
LOOKS = growing(0.1, 5.0)  # seconds between two looks at a Space that is waited for

Answer = tuple[str, Forecast | KronosError]  # by ticker


class SpaceClient:
    """Client of the Space at an address. Nothing is opened before the first call.

    `http` is a session of your own, which other threads will use and which is not closed here.
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
        """Return what the Space says about itself: model, boot_id, version …

        Raises:
            SpaceError: It does not answer, or is no Space.
        """
        return self._http.health()

    def check(self) -> None:
        """Do what sending a request does, but for the network.

        Raises:
            ConfigError: The address, a proxy or a file of certificates cannot be used.
        """
        self._http.check()

    def check_key(self) -> None:
        """Ask the Space whether it takes our API key.

        Raises:
            ConfigError: It wants another key.
            SpaceError: It does not answer.
        """
        self._http.check_key()

    def is_healthy(self) -> bool:
        """Return whether a forecast could be asked for now."""
        try:
            return self.health().get("status") == "ok"
        except KronosError:
            return False

    def wait_until_ready(
        self, timeout: float = 900.0, *, other_than: str | None = None
    ) -> dict[str, Any]:
        """Ask /health until it is ok and its boot_id is not `other_than`; return its answer.

        Raises:
            SpaceUnavailable: That took longer than `timeout` seconds.
            SpaceRejected: At once, from an address that is no Space.
        """
        seen = Readiness(self.url, other_than)

        def look() -> dict[str, Any] | None:
            try:
                return seen.ready(self.health())
            except SpaceUnavailable as error:
                seen.state = str(error)
                return None

        until = time.monotonic() + timeout
        return poll(look, until=until, wait=LOOKS) or seen.never(timeout)

    # forecasts ---------------------------------------------------------------------------

    def forecast_batches(
        self, requests: Iterable[SeriesRequest | Unsendable]
    ) -> Generator[list[Answer]]:
        """Yield the answers to each batch of requests, in order.

        IN_FLIGHT batches are under way at a time; the next requests are read from `requests`
        meanwhile. An item that could not be prepared is yielded as its own batch. The bands are the
        model's own, raw. Close the generator to send nothing more.
        """
        flight = _Flight(self)
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
    """What the Space at `url` answered to each request of a batch."""
    if len(results) != len(batch):
        raise SpaceUnavailable(f"{url} answered {len(results)} results to {len(batch)} requests")
    made_at = utcnow()
    return [
        (request.symbol, decode(request, result, made_at=made_at))
        for request, result in zip(batch, results, strict=True)
    ]


class Readiness:
    """What is seen of a Space until /health is ok and its boot_id is not `other_than`."""

    def __init__(self, url: str, other_than: str | None) -> None:
        self.state = "nothing yet"
        self._url, self._other_than = url, other_than

    def ready(self, health: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer of /health if it is the one that is waited for."""
        status, boot = health.get("status"), health.get("boot_id")
        self.state = f"status {status!r}, boot {boot!r}"
        return health if status == "ok" and boot != self._other_than else None

    def never(self, timeout: float) -> NoReturn:
        """Raise SpaceUnavailable, which says what was seen last."""
        raise SpaceUnavailable(f"{self._url} was not ready within {timeout:g} s: {self.state}")


class _Flight:
    """The batches of one call that are under way, oldest first."""

    def __init__(self, client: SpaceClient) -> None:
        self._client = client
        self._batches: deque[tuple[list[SeriesRequest], Future[list[Answer]]]] = deque()
        self._stopped = threading.Event()
        self._outage: SpaceUnavailable | None = None  # the Space is gone: nothing more is sent

    def send(self, batch: list[SeriesRequest]) -> list[list[Answer]]:
        """Send a batch as soon as fewer than IN_FLIGHT are under way; return what has landed."""
        landed = [self._land()] if len(self._batches) == IN_FLIGHT else []
        if self._outage is None:
            ask = partial(self._client._ask, batch, self._stopped)
            self._batches.append((batch, in_background(ask)))
            return landed
        return [*landed, *self.rest(), [(request.symbol, self._outage) for request in batch]]

    def rest(self) -> Iterator[list[Answer]]:
        """Yield the answers to what is still under way."""
        while self._batches:
            yield self._land()

    def stop(self) -> None:
        """Retry nothing more of what is under way."""
        self._stopped.set()

    def _land(self) -> list[Answer]:
        """Wait for the oldest batch. Its error is the answer to each of its requests."""
        batch, future = self._batches.popleft()
        try:
            return future.result()
        except SpaceUnavailable as error:
            if self._outage is None and not self._client.is_healthy():
                self._outage = error  # the other batches would only wait for the same end
                self.stop()
            return [(request.symbol, error) for request in batch]
        except KronosError as error:
            return [(request.symbol, error) for request in batch]


def in_batches(
    requests: Iterable[SeriesRequest | Unsendable],
) -> Iterator[list[SeriesRequest] | Unsendable]:
    """Group requests by BATCH_SERIES and BATCH_BYTES; pass the others on as they are."""
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
