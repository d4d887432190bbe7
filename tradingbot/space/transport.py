"""HTTP to one Space: time-outs, retries of transient failures, and errors that say what to do."""

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import requests
from tenacity import retry_if_exception
from urllib3.exceptions import HTTPError, ReadTimeoutError

from tradingbot.errors import ConfigError
from tradingbot.runtime.concurrency import within
from tradingbot.runtime.retry import retry
from tradingbot.space.address import SpaceAddress
from tradingbot.space.answers import HEALTH_BYTES
from tradingbot.space.attempts import MAX_ATTEMPTS, TRANSIENT_ANSWER, Attempts, request_headers
from tradingbot.space.error_responses import (
    PREDICT,
    Answer,
    health_in,
    out_of_time,
    refusal,
    results_in,
    unreachable,
)
from tradingbot.space.hub import is_private_space
from tradingbot.space.session import (
    NoAuth,
    TooLarge,
    answers_by,
    check_reachable,
    read_body,
    reopen,
    space_session,
)

REFUSAL_BYTES = 65_536  # bytes read of a response other than 200, for its message


class SpaceHTTP:
    """Send requests to a Space, from any thread. Every failure is a SpaceError.

    The Hub's token is sent only after the Space has refused a request, to an address under
    hf.space, and if the Hub confirms that it is the private Space of that address. A forked process
    opens its own connections.
    """

    def __init__(self, address: SpaceAddress, *, http: requests.Session | None = None) -> None:
        self.address, self.url = address, address.url
        self.timeouts = address.timeouts
        self._http = http or space_session(self.url)
        self._owns_http = http is None
        self._process = os.getpid()
        # never modified, only replaced, because other threads may use it
        self._headers: Mapping[str, str] = address.headers()
        self._checked = False
        self._token = address.hf_token
        self._token_lock = threading.Lock()

    def close(self) -> None:
        if self._owns_http:
            self._http.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_token_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._token_lock = threading.Lock()

    def _after_fork(self) -> None:
        """Drop the connections after a fork: parent and child would read each other's responses.

        The lock is also replaced, because another thread may have held it during the fork.
        """
        if self._process != os.getpid():
            reopen(self._http)
            self._token_lock = threading.Lock()
            self._process = os.getpid()

    def check(self) -> None:
        """Raise ConfigError if requests are impossible: a wrong host, proxy or certificate file."""
        if not self._checked:
            check_reachable(self._http, self.url, self._headers)
            self._checked = True

    def health(self) -> dict[str, Any]:
        """Get /health, without retries: callers that wait for a Space poll it."""
        answer = self._answered(
            "GET", "/health", timeout=self.timeouts.space_health, limit=HEALTH_BYTES, attempts=1
        )
        return health_in(self.url, answer)

    def check_key(self) -> None:
        """Raise ConfigError if the API key is missing or wrong. /metrics requires the same key."""
        answer = self._send(
            "GET", "/metrics", self._headers, timeout=self.timeouts.space_health, limit=0
        )
        if answer.status == 401:
            state = "is not the Space's key" if "X-API-Key" in self._headers else "is not set"
            raise ConfigError(f"KRONOS_API_KEY {state}: {refusal(f'{self.url}/metrics', answer)}")

    def predict_batch(
        self, body: bytes, *, limit: int, stopped: threading.Event | None = None
    ) -> list[Any]:
        """Post to /predict/batch. Return the unchecked results, of at most `limit` bytes.

        Sending it twice is harmless, so transient failures are retried until `stopped` is set; a
        full queue is retried up to the time-out.
        """
        answer = self._answered(
            "POST",
            PREDICT,
            body=body,
            timeout=self.address.answer_timeout,
            limit=limit,
            stopped=stopped,
        )
        return results_in(self.url, answer)

    def _answered(self, method: str, path: str, **options: Any) -> Answer:
        """Return a 200 response. Raise an error for other statuses."""
        headers = self._headers
        answer = self._send(method, path, headers, **options)
        if answer.status in (401, 403, 404) and self._may_show_token(headers):
            answer = self._send(method, path, self._headers, **options)
        if answer.status != 200:
            raise refusal(f"{self.url}{path}", answer)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        limit: int,
        body: bytes | None = None,
        attempts: int = MAX_ATTEMPTS,
        stopped: threading.Event | None = None,
    ) -> Answer:
        """Return the last response, whatever its status, after retries.

        All attempts together take at most `timeout` seconds.
        """
        self._after_fork()
        self.check()
        url = f"{self.url}{path}"
        headers = request_headers(headers, body)
        made = Attempts(self.timeouts, time.monotonic() + timeout, attempts)

        def ask() -> Answer:
            return made.record(
                self._ask(method, url, headers, body, limit=limit, deadline=made.deadline)
            )

        try:
            return retry(
                # in a thread, because nothing else limits the look-up of a host name
                lambda: within(made.deadline - time.monotonic(), ask),
                again=TRANSIENT_ANSWER | retry_if_exception(_unanswered),
                wait=made.wait,
                stop=made.should_stop,
                stopped=stopped or threading.Event(),
            )
        # any error, because an invalid address raises errors that are not the HTTP client's own
        except Exception as error:
            if _timed_out(error):
                # no retry: the Space may still be computing this request, and would then compute
                # the request a second time
                return out_of_time(url, timeout, made.answers, error)
            raise unreachable(url, error) from error

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        limit: int,
        deadline: float,
    ) -> Answer:
        """Send one request and read at most `limit` bytes of the response.

        Runs in its own thread.
        """
        # Threads may share a requests.Session: only its cookies change, which have a lock, and
        # urllib3's pool is thread-safe. No redirects, which would leak the API key and turn a POST
        # into a GET.
        left = max(0.001, deadline - time.monotonic())
        with (
            answers_by(deadline),
            self._http.request(
                method,
                url,
                data=body,
                headers=dict(headers),
                auth=self._http.auth or NoAuth(),
                timeout=(min(self.timeouts.space_connect, left), left),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            status, content = response.status_code, b""
            if status != 200:
                with suppress(TooLarge):  # a proxy's long error page is dropped
                    content = read_body(response, limit=REFUSAL_BYTES, deadline=deadline)
            elif limit:
                content = read_body(response, limit=limit, deadline=deadline)
            return Answer(status, response.headers, content)

    def _may_show_token(self, refused: Mapping[str, str]) -> bool:
        """Return whether to send the Hub's token after a request with these headers was refused."""
        with self._token_lock:
            if self._headers is not refused:
                return True  # another thread has checked meanwhile
            if self._token is None or not takes_token(self.address):
                return False
            self._headers = self.address.headers(with_token=True)
            self._token = None  # ask the Hub only once
            return True


def takes_token(address: SpaceAddress) -> bool:
    """Return whether the address is a private Space under hf.space, according to the Hub."""
    parts = urlsplit(address.url)
    host, token = parts.hostname or "", address.hf_token
    if not token or parts.scheme != "https" or not host.endswith(".hf.space"):
        return False
    return is_private_space(address.hf_space_repo, host, token=token, timeouts=address.timeouts)


def _unanswered(error: BaseException) -> bool:
    """Return whether the Space was not reached, so that a retry may succeed."""
    return isinstance(error, requests.ConnectionError | HTTPError) and not _timed_out(error)


def _timed_out(error: BaseException) -> bool:
    """Return whether reading timed out.

    requests raises another error after the response has begun.
    """
    inner = error.args[0] if error.args else None
    return isinstance(error, TimeoutError | requests.ReadTimeout | ReadTimeoutError) or isinstance(
        inner, ReadTimeoutError
    )
