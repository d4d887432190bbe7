"""HTTP to one Space: time-outs, retries of what is transient, and errors that say what to do."""

import ipaddress
import json
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from tenacity import RetryCallState, retry_if_exception, retry_if_result
from urllib3.exceptions import ReadTimeoutError

from tradingbot.errors import ConfigError, SpaceError, SpaceRejected, SpaceUnavailable
from tradingbot.runtime.retry import answer_of, doubling, retry, retry_after
from tradingbot.settings import Timeouts, default_timeouts
from tradingbot.space.hub import is_private_space

ATTEMPTS = 4
FULL = 429  # the queue: no failure, but a reason to wait
TRANSIENT = (FULL, 502, 503, 504)  # the others: a proxy whose Space starts, sleeps or is paused


class SpaceHTTP:
    """Sends requests to the Space at `url`, from any thread; every failure is a SpaceError.

    `hf_token` goes along only after the Space asked for it, is under hf.space, and the Hub
    says that it is the private Space `hf_space_repo`. `timeout`, in seconds, is for an answer with
    forecasts, by default `timeouts.space_answer`.
    """

    def __init__(
        self,
        url: str,
        *,
        http: requests.Session | None = None,
        api_key: str | None = None,
        hf_token: str | None = None,
        hf_space_repo: str = "",
        timeout: float | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.url = url
        self.timeouts = timeouts or default_timeouts()
        self.timeout = self.timeouts.space_answer if timeout is None else timeout
        self._http = http or _session(url)
        self._owns_http = http is None
        # never changed, but replaced: another thread may be using it
        self._headers: Mapping[str, str] = {"X-API-Key": api_key} if api_key else {}
        self._hf_token = hf_token
        self._token_lock = threading.Lock()
        self._hf_space_repo = hf_space_repo

    def close(self) -> None:
        if self._owns_http:
            self._http.close()

    def health(self) -> dict[str, Any]:
        """GET /health, asked once: who waits for a Space asks again anyway."""
        health = self._json("GET", "/health", timeout=self.timeouts.space_health, attempts=1)
        if not {"status", "model", "boot_id"} <= health.keys():
            raise SpaceUnavailable(f"{self.url}/health is not a kronos_space's: check the address")
        return health

    def check_key(self) -> None:
        """ConfigError if the Space wants another API key. /metrics is guarded as forecasts are."""
        response = self._send("GET", "/metrics", self._headers, timeout=self.timeouts.space_health)
        if response.status_code == 401:
            state = "is not the Space's key" if "X-API-Key" in self._headers else "is not set"
            raise ConfigError(f"KRONOS_API_KEY {state}: {_refusal(response.url, response)}")

    def predict_batch(self, body: bytes, stopped: threading.Event | None = None) -> list[Any]:
        """POST /predict/batch. Sending it twice is harmless, so transient failures are retried.

        Until `stopped` is set; for as long as the queue is full, up to the time-out.
        """
        answer = self._json(
            "POST", "/predict/batch", body=body, timeout=self.timeout, stopped=stopped
        )
        results = answer.get("results")
        if not isinstance(results, list):
            raise SpaceUnavailable(f"{self.url}/predict/batch answered without results")
        return results

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        headers = self._headers
        response = self._send(method, path, headers, **options)
        if response.status_code in (401, 403, 404) and self._may_show_token(headers):
            response = self._send(method, path, self._headers, **options)
        url = f"{self.url}{path}"
        if response.status_code != 200:
            raise _refusal(url, response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            kind = response.headers.get("Content-Type", "no content type")
            raise SpaceUnavailable(
                f"{url} answered 200, but not with JSON ({kind}); "
                f"is KRONOS_SPACE_URL the Space's own address?"
            )
        return answer

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        body: bytes | None = None,
        attempts: int = ATTEMPTS,
        stopped: threading.Event | None = None,
    ) -> requests.Response:
        """The answer, whatever its status, after as many attempts as are worth it."""
        url = f"{self.url}{path}"
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        deadline = time.monotonic() + timeout
        backoff = doubling(self.timeouts.space_backoff, 16 * self.timeouts.space_backoff)

        def request() -> requests.Response:
            # A requests.Session may be shared by threads: but for its cookies, which have a
            # lock, nothing of it changes, and urllib3's pool below is made for it.
            # No redirects: they would carry the API key elsewhere and turn a POST into a GET.
            return self._http.request(
                method,
                url,
                data=body,
                headers=dict(headers),
                timeout=(self.timeouts.space_connect, timeout),
                allow_redirects=False,
            )

        def wait(state: RetryCallState) -> float:
            response: requests.Response | None = answer_of(state)
            asked = 0.0 if response is None else retry_after(response.headers)
            return max(min(asked, self.timeouts.space_retry_after), backoff(state))

        def enough(state: RetryCallState) -> bool:
            response: requests.Response | None = answer_of(state)
            if response is not None and response.status_code == FULL and attempts > 1:
                return time.monotonic() + state.upcoming_sleep >= deadline
            return state.attempt_number >= attempts

        try:
            return retry(
                request,
                again=retry_if_result(lambda response: response.status_code in TRANSIENT)
                | retry_if_exception(_unanswered),
                wait=wait,
                stop=enough,
                stopped=stopped or threading.Event(),
            )
        except requests.RequestException as error:
            if _timed_out(error):
                # not again: the Space would compute the same behind what it is still busy with
                raise SpaceUnavailable(
                    f"{url} did not answer within {timeout:g} s; it may be overloaded or starting"
                ) from error
            raise SpaceUnavailable(
                f"{url} is out of reach ({_cause(error)}); is the Space running?"
            ) from error

    def _may_show_token(self, refused: Mapping[str, str]) -> bool:
        """Whether the Hub's token belongs into what was refused with these headers; now it does."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        with self._token_lock:
            if self._headers is not refused:
                return True  # another thread has asked meanwhile
            if not self._hf_token or parts.scheme != "https" or not host.endswith(".hf.space"):
                return False
            private = is_private_space(
                self._hf_space_repo, host, token=self._hf_token, timeouts=self.timeouts
            )
            if not private:
                return False
            self._headers = {**self._headers, "Authorization": f"Bearer {self._hf_token}"}
            self._hf_token = None  # asked and answered: once
            return True


def _session(url: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = not _is_loopback(url)  # a proxy cannot reach this machine's loopback
    return session


def _unanswered(error: BaseException) -> bool:
    """Whether the Space was not reached, so that another attempt may reach it."""
    return isinstance(error, requests.RequestException) and not _timed_out(error)


def _timed_out(error: requests.RequestException) -> bool:
    """While reading; requests calls it another thing once the answer has begun."""
    inner = error.args[0] if error.args else None
    return isinstance(error, requests.ReadTimeout) or isinstance(inner, ReadTimeoutError)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refusal(url: str, response: requests.Response) -> SpaceError:
    """The error for an answer other than 200."""
    status = response.status_code
    message = _message(response)
    answered = f"{url} answered {status}" + (f": {message}" if message else "")
    if status in TRANSIENT:
        hint = (
            "its queue is full"
            if status == 429
            else "the Space may be paused, asleep or starting (its owner wakes it with restart)"
        )
        return SpaceUnavailable(f"{answered}; {hint}")
    if status >= 500:
        return SpaceUnavailable(f"{answered}; the Space's log says why")
    if 300 <= status < 400:
        return SpaceRejected(
            f"{answered}, a redirect to {response.headers.get('Location')}; "
            f"set KRONOS_SPACE_URL to the Space's final address"
        )
    hint = {
        401: "set KRONOS_API_KEY to the Space's key (a private Space also wants HF_TOKEN)",
        403: "a private Space wants HF_TOKEN and HF_SPACE_REPO",
        404: "there is no kronos_space here: check KRONOS_SPACE_URL "
        "(a private Space wants HF_TOKEN and HF_SPACE_REPO)",
        413: "the request is larger than the Space allows",
    }.get(status, "the Space refuses this request")
    return SpaceRejected(f"{answered}; {hint}")


def _message(response: requests.Response) -> str:
    """The message of the Space's own error shape; '' for pages of proxies."""
    try:
        error: Mapping[str, Any] = json.loads(response.content)["error"]
        return " ".join(str(error["message"]).split())
    except (ValueError, KeyError, TypeError):
        return ""


def _cause(error: BaseException) -> str:
    """The innermost reason, without object addresses: 'Connection refused'."""
    while True:
        reason = getattr(error, "reason", None)
        inner = reason if isinstance(reason, BaseException) else error.__cause__
        inner = inner or error.__context__
        if inner is None:
            break
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}".rstrip(": ")
