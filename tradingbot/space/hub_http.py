"""Time and size limits for huggingface_hub's HTTP client.

The client is shared by the whole process, which may also load models with it, so a response is
limited only inside `bounded`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tradingbot.errors import ConfigError
from tradingbot.formatting import quoted
from tradingbot.runtime.concurrency import within
from tradingbot.settings import Timeouts
from tradingbot.settings.variables import check_secret, check_url

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi

Result = TypeVar("Result")

ANSWER_BYTES = 1_000_000


class UnexpectedAnswer(Exception):
    """A response of a kind that the Hub never sends."""


@dataclass(frozen=True)
class _Bounds:
    deadline: float  # a time of time.monotonic()
    size: int
    connections: list[Any] = field(default_factory=list)  # connections opened by this work

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Called by the HTTP client for each step of a request."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.connections.append(info["return_value"])
        if event.endswith(".send_request_headers.started") and time.monotonic() > self.deadline:
            raise TimeoutError

    def cut(self) -> None:
        """Close connections that are still being read, such as endless "100 Continue" responses."""
        for connection in self.connections:
            with suppress(OSError):
                connection.get_extra_info("socket").shutdown(SHUT_RDWR)


_bounds: ContextVar[_Bounds | None] = ContextVar("bounds", default=None)
_client_timeouts: tuple[float, float] | None = None  # of the process-wide client, if we set it
_timeout_lock = threading.Lock()


def hub_api(endpoint: str | None, token: str | None, timeouts: Timeouts) -> "HfApi":
    """Return the Hub's API at `endpoint`, by default HF_ENDPOINT or huggingface.co.

    Raises:
        ConfigError: Requests are impossible: a wrong address, proxy or certificate file.
    """
    try:
        from huggingface_hub import HfApi, get_session

        allowed = False if token is None else check_secret("HF_TOKEN", token)
        api = HfApi(endpoint=endpoint, token=allowed)
        _set_client(timeouts.hub_answer, timeouts.hub_connect)
        session = get_session()
    except ImportError as error:  # for a SOCKS proxy, whose package may be missing
        raise ConfigError(f"the Hub cannot be asked: {quoted(error)}") from error
    except OSError as error:
        raise ConfigError(
            f"the Hub cannot be asked: SSL_CERT_FILE or SSL_CERT_DIR names no certificates "
            f"({quoted(error)})"
        ) from error
    except ConfigError:
        raise
    except Exception as error:  # the text may contain the password of a proxy
        raise ConfigError(
            "the Hub cannot be asked: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or an HF_… variable has "
            f"a wrong value ({type(error).__name__})"
        ) from error
    url = check_url("HF_ENDPOINT", api.endpoint)
    try:
        session.build_request("GET", url).url.host.encode("idna")
    except Exception as error:
        raise ConfigError(
            f"HF_ENDPOINT={url!r}: expected an address such as https://huggingface.co; "
            f"{quoted(error)}"
        ) from error
    return api


def bounded(work: Callable[[], Result], *, seconds: float, size: int = ANSWER_BYTES) -> Result:
    """Call `work`, whose Hub responses are limited to `size` bytes.

    Raises:
        TimeoutError: `work` is not done after `seconds`.
        UnexpectedAnswer: A response is too large, compressed, or a redirect to another host.
    """
    bounds = _Bounds(time.monotonic() + seconds, size)
    try:
        return within(seconds, partial(_with_bounds, bounds, work))
    finally:
        bounds.cut()


def _with_bounds(bounds: _Bounds, work: Callable[[], Result]) -> Result:
    _bounds.set(bounds)  # never reset: the thread is used for this work only
    return work()


def _set_client(answer: float, connect: float) -> None:
    """Give huggingface_hub a client with these time-outs, in seconds, and the limits."""
    import httpx2
    from huggingface_hub import set_client_factory

    def client() -> httpx2.Client:
        return httpx2.Client(
            timeout=httpx2.Timeout(answer, connect=min(connect, answer)),
            follow_redirects=True,
            event_hooks={"request": [_ask_for_plain], "response": [_bound]},
        )

    global _client_timeouts
    with _timeout_lock:
        # otherwise another thread's client would be closed
        if _client_timeouts != (answer, connect):
            set_client_factory(client)
            _client_timeouts = answer, connect


def _ask_for_plain(request: "httpx2.Request") -> None:
    if bounds := _bounds.get():
        request.headers["Accept-Encoding"] = "identity"
        request.headers["Connection"] = "close"  # each request gets its own connection
        request.extensions["trace"] = bounds.trace


def _bound(response: "httpx2.Response") -> None:
    if bounds := _bounds.get():
        _check_head(response)
        if warning := response.headers.get("X-HF-Warning"):  # huggingface_hub logs it unfiltered
            response.headers["X-HF-Warning"] = quoted(warning)
        response.stream = _bounded_stream(response, bounds)


def _bounded_stream(response: "httpx2.Response", bounds: _Bounds) -> "httpx2.SyncByteStream":
    """Return the body of a response, checked against the limits."""
    import httpx2

    stream = cast("httpx2.SyncByteStream", response.stream)

    class Stream(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for piece in stream:
                size += len(piece)
                if size > bounds.size:
                    raise UnexpectedAnswer(f"more than {bounds.size} bytes")
                if time.monotonic() > bounds.deadline:
                    raise TimeoutError
                yield piece

        def close(self) -> None:
            stream.close()

    return Stream()


def _check_head(response: "httpx2.Response") -> None:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnexpectedAnswer("compressed, which was not asked for")
    if response.has_redirect_location:
        asked = response.request.url
        other = asked.join(response.headers["Location"])
        secure = {asked.scheme, other.scheme} == {"http", "https"} and other.scheme == "https"
        same_host = (asked.host, asked.port) == (other.host, other.port)
        if not (same_host and (secure or asked.scheme == other.scheme)):
            raise UnexpectedAnswer(f"a redirect to another host, {quoted(other.host, 100)}")
