"""HTTP to one Space: time-outs, retries of what is transient, and errors that say what to do."""

import ipaddress
import json
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ReadTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from tradingbot.utils.errors import ConfigError, SpaceError, SpaceRejected, SpaceUnavailable

CONNECT_TIMEOUT = 10.0  # seconds
HEALTH_TIMEOUT = 10.0
BACKOFF = 0.5  # retries wait 0, 1 and 2 s
LONGEST_RETRY_AFTER = 60.0  # a Space that asks for a longer pause is called unavailable sooner
TRANSIENT = (429, 502, 503, 504)  # a full queue; a proxy whose Space starts, sleeps or is paused


class SpaceHTTP:
    """Sends requests to the Space at `url`; every failure is a SpaceError.

    `hf_token` goes along only after the Space asked for it, is under hf.space, and the Hub
    says that it is the private Space `hf_space_repo`.
    """

    def __init__(
        self,
        url: str,
        *,
        http: requests.Session | None = None,
        api_key: str | None = None,
        hf_token: str | None = None,
        hf_space_repo: str = "",
        timeout: float = 300.0,
    ) -> None:
        self.url = url
        self.timeout = timeout
        self._http = http or _session(url)
        self._owns_http = http is None
        self._headers = {"X-API-Key": api_key} if api_key else {}
        self._hf_token = hf_token
        self._hf_space_repo = hf_space_repo

    def close(self) -> None:
        if self._owns_http:
            self._http.close()

    def health(self) -> dict[str, Any]:
        """GET /health, asked once: who waits for a Space asks again anyway."""
        health = self._json("GET", "/health", timeout=HEALTH_TIMEOUT)
        if not {"status", "model", "boot_id"} <= health.keys():
            raise SpaceUnavailable(f"{self.url}/health is not a kronos_space's: check the address")
        return health

    def check_key(self) -> None:
        """ConfigError if the Space wants another API key. /metrics is guarded as forecasts are."""
        response = self._send("GET", "/metrics", timeout=HEALTH_TIMEOUT, body=None)
        if response.status_code == 401:
            state = "is not the Space's key" if "X-API-Key" in self._headers else "is not set"
            raise ConfigError(f"KRONOS_API_KEY {state}: {_refusal(response.url, response)}")

    def predict_batch(self, body: bytes) -> list[Any]:
        """POST /predict/batch. Sending it twice is harmless, so transient failures are retried."""
        answer = self._json("POST", "/predict/batch", body=body, timeout=self.timeout)
        results = answer.get("results")
        if not isinstance(results, list):
            raise SpaceUnavailable(f"{self.url}/predict/batch answered without results")
        return results

    def _json(
        self, method: str, path: str, *, timeout: float, body: bytes | None = None
    ) -> dict[str, Any]:
        response = self._send(method, path, timeout=timeout, body=body)
        if response.status_code in (401, 403, 404) and self._may_show_token():
            self._headers["Authorization"] = f"Bearer {self._hf_token}"
            self._hf_token = None  # asked and answered: once
            response = self._send(method, path, timeout=timeout, body=body)
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
        self, method: str, path: str, *, timeout: float, body: bytes | None
    ) -> requests.Response:
        url = f"{self.url}{path}"
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            # No redirects: they would carry the API key elsewhere and turn a POST into a GET.
            return self._http.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=(CONNECT_TIMEOUT, timeout),
                allow_redirects=False,
            )
        except requests.Timeout as error:
            raise SpaceUnavailable(
                f"{url} did not answer within {timeout:g} s; it may be overloaded or starting"
            ) from error
        except requests.RequestException as error:
            raise SpaceUnavailable(
                f"{url} is out of reach ({_cause(error)}); is the Space running?"
            ) from error

    def _may_show_token(self) -> bool:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if not self._hf_token or parts.scheme != "https" or not host.endswith(".hf.space"):
            return False
        from tradingbot.utils.hf_space import is_private_space

        return is_private_space(self._hf_space_repo, host, token=self._hf_token)


class _Retry(Retry):
    """Retries refused and broken connections and transient statuses, but not a read time-out:
    the Space would compute the same batch again behind the one it is still busy with."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        seconds = super().get_retry_after(response)
        return None if seconds is None else min(seconds, LONGEST_RETRY_AFTER)


def _session(url: str) -> requests.Session:
    # urllib3 would warn at every attempt; what came of them is ours to tell, once
    logging.getLogger("urllib3.connectionpool").addFilter(_not_about_our_retries)
    session = requests.Session()
    retry = _Retry(
        total=3,
        backoff_factor=BACKOFF,
        status_forcelist=TRANSIENT,
        allowed_methods=None,  # every method, POST too
        raise_on_status=False,
    )
    session.mount(url, HTTPAdapter(max_retries=retry))
    session.mount(f"{url}/health", HTTPAdapter(max_retries=0))
    session.trust_env = not _is_loopback(url)  # a proxy cannot reach this machine's loopback
    return session


def _not_about_our_retries(record: logging.LogRecord) -> bool:
    return not any(isinstance(value, _Retry) for value in record.args or ())


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
