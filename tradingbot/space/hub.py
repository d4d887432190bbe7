"""One Space as the Hugging Face Hub shows it: its stage, restart, pause and log."""

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any

from tradingbot.errors import HubError, HubRefused
from tradingbot.runtime.signals import asked_to_stop, asked_to_stop_at

if TYPE_CHECKING:
    import httpx2


logger = logging.getLogger(__name__)

HUB_TIMEOUT = 10.0  # seconds for one call; huggingface_hub itself has none
CONNECT_TIMEOUT = 5.0  # of them for a connection
ATTEMPTS = 4  # of one call, while it fails for a reason that may pass
LONGEST_RETRY_AFTER = 60.0  # a Hub that asks for a longer wait is asked again sooner
STALE_AFTER = 60.0  # seconds after a restart during which an old error stage may still show
PAUSE_VERIFY = 10.0  # seconds for the Hub to show the pause, per attempt
PAUSE_PATIENCE = 120.0  # seconds in which a pause is tried again
# The same after a signal: with the last call's time-out less than the 30 s that Kubernetes gives.
PAUSE_PATIENCE_STOPPED = 10.0
TICK = 0.5  # seconds until it is noticed that a signal has come
LOG_LINES = 12

# SLEEPING is missing from huggingface_hub's enum, so stages are compared as strings.
RUNS = ("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING")
FAILED = ("BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE")
STILL = ("PAUSED", "STOPPED", "SLEEPING", "DELETING")


class HubSpace:
    """One Space as the Hub's API sees it. The token goes to the Hub and nowhere else.

    Calls have a time-out, and are repeated while the Hub fails for a reason that may pass;
    HubRefused for 401, 403 and 404, HubError for the rest.
    """

    deadline = math.inf  # on time.monotonic(): nothing is tried again after it
    hurries = False  # once a signal comes the deadline is PAUSE_PATIENCE_STOPPED away

    def __init__(
        self, repo: str, token: str, *, endpoint: str | None = None, backoff: float = 1.0
    ) -> None:
        from huggingface_hub import HfApi

        _set_timeouts()
        self.repo = repo
        self.backoff = backoff  # seconds before the second attempt or look, then more
        self._api = HfApi(endpoint=endpoint, token=token)  # by default HF_ENDPOINT, or the Hub

    def until(self, deadline: float) -> "HubSpace":
        """The same Space, for calls that shall come to an end by then, but for one time-out."""
        other = copy(self)
        other.deadline = min(self.deadline, deadline)
        return other

    def stage(self) -> str:
        runtime = self._call("tell the stage of", lambda: self._api.get_space_runtime(self.repo))
        return str(runtime.stage)

    def restart(self) -> None:
        self._call("restart", lambda: self._api.restart_space(self.repo))

    def pause(self, patience: float = PAUSE_PATIENCE) -> None:
        """Pause it and see that the Hub shows it paused.

        Takes `patience` seconds at most, and one call's time-out; less if a signal comes meanwhile.
        """
        hub = self.until(time.monotonic() + patience)
        hub.hurries = not asked_to_stop()
        while True:
            hub._call("pause", lambda: self._api.pause_space(self.repo))
            seen_by = time.monotonic() + PAUSE_VERIFY
            while (stage := hub.stage()) not in STILL and time.monotonic() < seen_by:
                if hub._left() <= 0:
                    break
                time.sleep(self.backoff)
            if stage in STILL:
                return
            if hub._left() <= 0:
                raise HubError(f"Space {self.repo} was told to pause but still shows {stage}")
            logger.warning("Space %s was told to pause but still shows %s", self.repo, stage)

    def info(self) -> Any:
        # this one call has a time-out of its own, which is none unless it is given
        return self._call("describe", lambda: self._api.space_info(self.repo, timeout=HUB_TIMEOUT))

    def log_tail(self, *, build: bool) -> str:
        """The newest lines of the build or run log, '' when there is none to be had in time."""
        import httpx2

        lines: list[str] = []

        def read() -> None:
            try:
                lines.extend(self._api.fetch_space_logs(self.repo, build=build))
            except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
                logger.debug("no log of %s: %s", self.repo, error)

        # a stream that is kept alive, and says nothing, would never time out
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(HUB_TIMEOUT)
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines[-LOG_LINES:])

    def _call(self, verb: str, call: Callable[[], Any]) -> Any:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        what = f"The Hub could not {verb} Space {self.repo}"
        for attempt in itertools.count():
            try:
                return call()
            except HfHubHTTPError as error:
                status = error.response.status_code
                if status in (401, 403, 404):
                    raise HubRefused(f"{what}: {_refusal(status)}") from error
                if status < 500 and status not in (408, 429):
                    raise HubError(f"{what}: it answered {status}") from error
                cause, asked = f"it answered {status}", error.response.headers.get("Retry-After")
                wait = float(asked) if asked and asked.isdecimal() else 0.0
            except httpx2.HTTPError as error:
                cause, wait = f"{type(error).__name__}: {error}".rstrip(": "), 0.0
            except HFValidationError as error:
                raise HubRefused(f"HF_SPACE_REPO={self.repo!r}: {error}") from error
            except (ValueError, KeyError, TypeError) as error:
                cause, wait = f"its answer makes no sense ({type(error).__name__})", 0.0
            if attempt + 1 == ATTEMPTS or self._left() <= 0:
                attempts = "1 attempt" if attempt == 0 else f"{attempt + 1} attempts"
                raise HubError(f"{what} in {attempts}: {cause}; try again later")
            wait = min(max(wait, self.backoff * 2**attempt), LONGEST_RETRY_AFTER)
            again = time.monotonic() + wait
            while (rest := min(again - time.monotonic(), self._left())) > 0:
                time.sleep(min(rest, TICK))
        return None

    def _left(self) -> float:
        """Seconds until nothing is tried again."""
        stopped = asked_to_stop_at() + PAUSE_PATIENCE_STOPPED if self.hurries else math.inf
        return min(self.deadline, stopped) - time.monotonic()


def is_private_space(repo: str, host: str, *, token: str) -> bool:
    """True when the Hub says that `repo` is private and served at `host`: it may see the token."""
    try:
        info = HubSpace(repo, token).until(time.monotonic() + HUB_TIMEOUT).info()
    except HubError as error:
        logger.debug("cannot tell whether %s is private: %s", repo, error)
        return False
    return bool(info.private) and host == f"{info.subdomain}.hf.space"


_timeout = 0.0  # of the client that huggingface_hub has from us; it is the whole process's
_timeout_lock = threading.Lock()


def _set_timeouts() -> None:
    from huggingface_hub import set_client_factory

    global _timeout
    with _timeout_lock:
        if _timeout != HUB_TIMEOUT:  # else it would close a client that another thread may use
            _timeout = HUB_TIMEOUT
            set_client_factory(_client_with_timeouts)


def _client_with_timeouts() -> "httpx2.Client":
    import httpx2

    timeout = httpx2.Timeout(HUB_TIMEOUT, connect=min(CONNECT_TIMEOUT, HUB_TIMEOUT))
    return httpx2.Client(timeout=timeout, follow_redirects=True)


def _refusal(status: int) -> str:
    if status == 401:
        return "HF_TOKEN is not valid (401); make a new write token in the Hub's settings"
    if status == 403:
        return "HF_TOKEN may not do this (403); it needs write access to this Space"
    return "there is no such Space, or HF_TOKEN cannot see it (404); check HF_SPACE_REPO"
