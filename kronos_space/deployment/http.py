"""HTTP client of the deployment, with bounds on the time and size of every answer."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar, cast

import httpx2

CALL_TIMEOUT = 30.0  # seconds; huggingface_hub itself has none
ANSWER_BYTES = 4_000_000

T = TypeVar("T")


def client() -> httpx2.Client:
    """Return a client that bounds the size of answers and follows no redirect to another host."""
    return httpx2.Client(
        timeout=CALL_TIMEOUT,
        follow_redirects=True,
        event_hooks={"request": [_ask_for_plain], "response": [_bound]},
    )


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return the result of `work`. Raise httpx2.ReadTimeout if it takes more than `seconds`."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        raise httpx2.ReadTimeout(f"no complete answer within {seconds:g} s") from None


def _ask_for_plain(request: httpx2.Request) -> None:
    request.headers["Accept-Encoding"] = "identity"


def _bound(response: httpx2.Response) -> None:
    """Raise httpx2.RemoteProtocolError for an answer that is too large or redirects elsewhere."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise httpx2.RemoteProtocolError("the answer is compressed, which was not asked for")
    if response.has_redirect_location:  # a secret in the request's body would be sent there too
        asked = response.request.url
        other = asked.join(response.headers["Location"])
        upgraded = (asked.scheme, other.scheme) == ("http", "https")
        same_host = (other.host, other.port) == (asked.host, asked.port)
        if not (same_host and (upgraded or other.scheme == asked.scheme)):
            raise httpx2.RemoteProtocolError("the answer is a redirect to another host")
    response.stream = _Bounded(cast("httpx2.SyncByteStream", response.stream))


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._stream:
            size += len(piece)
            if size > ANSWER_BYTES:
                raise httpx2.RemoteProtocolError(f"the answer has more than {ANSWER_BYTES} bytes")
            yield piece

    def close(self) -> None:
        self._stream.close()
