"""An HTTP session for one Space, with limits on the time and size of responses.

requests only has a time-out per read, so that a server which sends a byte per second never times
out, and it reads bodies of any size. Here the head and the body of a response share one deadline,
and the body is read in pieces. This holds for sessions of `space_session`. In a caller's own
session, the head has the time-outs of requests.
"""

import io
import ipaddress
import pickle
import ssl
import time
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPResponse
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from tradingbot.errors import ConfigError
from tradingbot.formatting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 65_536
ENCODINGS = ("", "identity", "gzip", "deflate")  # urllib3 decompresses these within limits

_deadline: ContextVar[float] = ContextVar("deadline")  # time.monotonic() of this thread's call


class TooLarge(Exception):
    """A response is larger than expected."""


class NoAuth(AuthBase):
    """Prevents requests from reading a login from ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def space_session(url: str) -> requests.Session:
    """Return a session whose responses end at the deadline of `answers_by`."""
    session = requests.Session()
    session.auth = NoAuth()
    session.trust_env = not is_loopback(url)  # a proxy cannot reach this machine's loopback
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


def reopen(session: requests.Session) -> None:
    """Drop a session's connections without closing them."""
    for adapter in session.adapters.values():
        if isinstance(adapter, HTTPAdapter):
            vars(adapter).update(
                vars(pickle.loads(pickle.dumps(adapter)))
            )  # pickling drops the connections


@contextmanager
def answers_by(deadline: float) -> "Iterator[None]":
    """Raise TimeoutError in this thread's responses after `deadline` (time.monotonic())."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def read_body(response: requests.Response, *, limit: int, deadline: float) -> bytes:
    """Return the decompressed body of a streamed response.

    Raises:
        TooLarge: The body has more than `limit` bytes.
        TimeoutError: The body did not end by `deadline`, a time of time.monotonic().
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ENCODINGS:
        raise TooLarge(f"it is packed with {quoted(encoding, 60)}, which was not asked for")
    body = bytearray()
    while piece := response.raw.read1(PIECE, decode_content=True):
        body += piece
        if len(body) > limit:
            raise TooLarge(f"it has more than {limit} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(body)


def check_reachable(session: requests.Session, url: str, headers: Mapping[str, str]) -> None:
    """Check everything that a request to `url` needs, without using the network.

    Raises:
        ConfigError: The address, headers, proxy or certificates make requests impossible.
    """
    with _wrong(f"KRONOS_SPACE_URL={url!r}", "an address such as https://owner.hf.space"):
        if not url.isprintable() or " " in url:
            raise ValueError("it has a space or a control character")
        prepared = session.prepare_request(requests.Request("GET", url, auth=NoAuth()))
        assert prepared.url is not None
        _encodable(urlsplit(prepared.url).hostname)
    try:
        session.prepare_request(requests.Request("GET", url, headers, auth=NoAuth()))
        for value in headers.values():
            value.encode("latin-1")
    except (OSError, ValueError):  # their text contains the key
        raise ConfigError("KRONOS_API_KEY has characters that no HTTP header carries") from None
    options = session.merge_environment_settings(prepared.url, {}, True, None, None)
    verify = options["verify"]
    if prepared.url.startswith("https:") and isinstance(verify, str):
        with _wrong(f"REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE) {verify}", "a file of certificates"):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
                **{"capath" if Path(verify).is_dir() else "cafile": verify}
            )
    adapter = session.get_adapter(prepared.url)
    if isinstance(adapter, HTTPAdapter):
        with _wrong("HTTP_PROXY, HTTPS_PROXY or ALL_PROXY", "a proxy such as http://host:3128"):
            _check_proxy(adapter, prepared, options["proxies"])


def _check_proxy(adapter: HTTPAdapter, request: requests.PreparedRequest, proxies: Any) -> None:
    """Raise ValueError for an unusable proxy, without showing it: it may contain a password."""
    try:
        pool: Any = adapter.get_connection_with_tls_context(request, True, proxies=proxies)
        _encodable(pool.proxy and pool.proxy.host)
    except requests.exceptions.InvalidSchema as error:  # SOCKS, without its package
        raise ValueError(f"{error} pip install pysocks") from None
    except (HTTPError, OSError, ValueError) as error:
        raise ValueError(type(error).__name__) from None


@contextmanager
def _wrong(name: str, expected: str) -> "Iterator[None]":
    """Turn errors in this block into a ConfigError about `name`."""
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        raise ConfigError(quoted(f"{name}: expected {expected}; {error}")) from error


def _encodable(host: str | None) -> None:
    if host:
        host.encode("idna")  # UnicodeError for a label that is empty or longer than 63 characters


def is_loopback(url: str) -> bool:
    host = ""
    try:
        host = urlsplit(url).hostname or ""
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _UntilDeadline(io.RawIOBase):
    """Data from a socket, with a deadline."""

    def __init__(self, sock: socket, raw: io.RawIOBase, deadline: float) -> None:
        self._sock = sock
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_UntilDeadline(sock, raw, _deadline.get()))


class _Connection(HTTPConnection):
    response_class = _Response


class _TLSConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    """Connections, also through an HTTP proxy, whose responses end at the deadline."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):  # SOCKS connections are of another class
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager
