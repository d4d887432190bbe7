"""HTTP to one Space: time-outs, retries of what is transient, and errors that say what to do."""

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
from tradingbot.space.attempts import MOST, TRANSIENT_ANSWER, Attempts, request_headers
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

REFUSAL_BYTES = 65_536  # what is read of an answer other than 200, for its message


class SpaceHTTP:
    """Sends requests to a Space, from any thread; every failure is a SpaceError.

    The token of the Hub goes along only after the Space asked for it, is under hf.space, and the
    Hub says that it is the private Space of the address. A process that was forked opens
    connections of its own.
    """

    def __init__(self, address: SpaceAddress, *, http: requests.Session | None = None) -> None:
        self.address, self.url = address, address.url
        self.timeouts = address.timeouts
        self._http = http or space_session(self.url)
        self._owns_http = http is None
        self._process = os.getpid()
        # never changed, but replaced: another thread may be using it
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
        """Leave the connections to the parent: on one socket each would read the other's answers.

        The lock may have been held, when it was copied, by a thread that is not here.
        """
        if self._process != os.getpid():
            reopen(self._http)
            self._token_lock = threading.Lock()
            self._process = os.getpid()

    def check(self) -> None:
        """ConfigError if no request can even be sent: a wrong host, proxy or certificate file."""
        if not self._checked:
            check_reachable(self._http, self.url, self._headers)
            self._checked = True

    def health(self) -> dict[str, Any]:
        """GET /health, asked once: who waits for a Space asks again anyway."""
        answer = self._answered(
            "GET", "/health", timeout=self.timeouts.space_health, limit=HEALTH_BYTES, attempts=1
        )
        return health_in(self.url, answer)

    def check_key(self) -> None:
        """ConfigError if the Space wants another API key. /metrics is guarded as forecasts are."""
        answer = self._send(
            "GET", "/metrics", self._headers, timeout=self.timeouts.space_health, limit=0
        )
        if answer.status == 401:
            state = "is not the Space's key" if "X-API-Key" in self._headers else "is not set"
            raise ConfigError(f"KRONOS_API_KEY {state}: {refusal(f'{self.url}/metrics', answer)}")

    def predict_batch(
        self, body: bytes, *, limit: int, stopped: threading.Event | None = None
    ) -> list[Any]:
        """POST /predict/batch; its results, of `limit` bytes at most, not yet checked.

        Sending it twice is harmless, so transient failures are retried: until `stopped` is set,
        and for as long as the queue is full, up to the time-out.
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
        """An answer 200; the others are errors."""
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
        attempts: int = MOST,
        stopped: threading.Event | None = None,
    ) -> Answer:
        """The answer, whatever its status, after as many attempts as are worth it.

        All of them together take `timeout` seconds at most.
        """
        self._after_fork()
        self.check()
        url = f"{self.url}{path}"
        headers = request_headers(headers, body)
        made = Attempts(self.timeouts, time.monotonic() + timeout, attempts)

        def ask() -> Answer:
            return made.note(
                self._ask(method, url, headers, body, limit=limit, deadline=made.deadline)
            )

        try:
            return retry(
                # in a thread of its own: nothing else bounds the look-up of a host's name
                lambda: within(made.deadline - time.monotonic(), ask),
                again=TRANSIENT_ANSWER | retry_if_exception(_unanswered),
                wait=made.wait,
                stop=made.are_enough,
                stopped=stopped or threading.Event(),
            )
        except Exception as error:  # not only the HTTP client's own: an address may be at fault
            if _timed_out(error):
                # not again: the Space would compute the same behind what it is still busy with
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
        """One request, and its answer up to `limit` bytes; in a thread of its own."""
        # A requests.Session may be shared by threads: but for its cookies, which have a
        # lock, nothing of it changes, and urllib3's pool below is made for it.
        # No redirects: they would carry the API key elsewhere and turn a POST into a GET.
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
                with suppress(TooLarge):  # a proxy's page: its status says enough
                    content = read_body(response, limit=REFUSAL_BYTES, deadline=deadline)
            elif limit:
                content = read_body(response, limit=limit, deadline=deadline)
            return Answer(status, response.headers, content)

    def _may_show_token(self, refused: Mapping[str, str]) -> bool:
        """Whether the Hub's token belongs into what was refused with these headers; now it does."""
        with self._token_lock:
            if self._headers is not refused:
                return True  # another thread has asked meanwhile
            if self._token is None or not takes_token(self.address):
                return False
            self._headers = self.address.headers(with_token=True)
            self._token = None  # asked and answered: once
            return True


def takes_token(address: SpaceAddress) -> bool:
    """Whether it is a private Space under hf.space, as the Hub says."""
    parts = urlsplit(address.url)
    host, token = parts.hostname or "", address.hf_token
    if not token or parts.scheme != "https" or not host.endswith(".hf.space"):
        return False
    return is_private_space(address.hf_space_repo, host, token=token, timeouts=address.timeouts)


def _unanswered(error: BaseException) -> bool:
    """Whether the Space was not reached, so that another attempt may reach it."""
    return isinstance(error, requests.ConnectionError | HTTPError) and not _timed_out(error)


def _timed_out(error: BaseException) -> bool:
    """While reading; requests calls it another thing once the answer has begun."""
    inner = error.args[0] if error.args else None
    return isinstance(error, TimeoutError | requests.ReadTimeout | ReadTimeoutError) or isinstance(
        inner, ReadTimeoutError
    )
