"""One Space as the Hugging Face Hub shows it: its stage, restart, pause and log."""

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any

from tenacity import RetryCallState, retry_if_exception, retry_if_result

from tradingbot.errors import HubError, HubRefused
from tradingbot.runtime.concurrency import in_background
from tradingbot.runtime.retry import answer_of, doubling, error_of, retry, retry_after
from tradingbot.runtime.signals import asked_to_stop, asked_to_stop_at
from tradingbot.settings import Timeouts, default_timeouts, hub_endpoint

logger = logging.getLogger(__name__)

ATTEMPTS = 4  # of one call, while it fails for a reason that may pass
LOG_LINES = 12

# SLEEPING is missing from huggingface_hub's enum, so stages are compared as strings.
RUNS = ("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING")
FAILED = ("BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE")
STILL = ("PAUSED", "STOPPED", "SLEEPING", "DELETING")

_RUNS_ON = retry_if_result(lambda stage: stage not in STILL)


class HubSpace:
    """One Space as the Hub's API sees it. The token goes to the Hub and nowhere else.

    Calls have a time-out, and are repeated while the Hub fails for a reason that may pass;
    HubRefused for 401, 403 and 404, HubError for the rest.
    """

    deadline = math.inf  # on time.monotonic(): nothing is tried again after it
    stops_early = False  # a signal brings the deadline to hub_pause_after_signal from then

    def __init__(
        self,
        repo: str,
        token: str,
        *,
        endpoint: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        from huggingface_hub import HfApi

        self.timeouts = timeouts or default_timeouts()
        _set_timeouts(self.timeouts.hub_answer, self.timeouts.hub_connect)
        self.repo = repo
        self._api = HfApi(endpoint=endpoint or hub_endpoint(), token=token)

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

    def pause(self, patience: float | None = None) -> None:
        """Pause it and see that the Hub shows it paused.

        Takes `patience` seconds at most (`timeouts.hub_pause`), and one call's time-out; less if a
        signal comes meanwhile.
        """
        patience = self.timeouts.hub_pause if patience is None else patience
        hub = self.until(time.monotonic() + patience)
        hub.stops_early = not asked_to_stop()

        def pause_and_look() -> str:
            hub._call("pause", lambda: self._api.pause_space(self.repo))
            seen_by = time.monotonic() + self.timeouts.hub_pause_shown
            return retry(
                hub.stage,
                again=_RUNS_ON,
                wait=lambda _: self.timeouts.hub_backoff,
                stop=lambda _: time.monotonic() >= seen_by or hub._left() <= 0,
            )

        def warn(state: RetryCallState) -> None:
            shown = answer_of(state)
            logger.warning("Space %s was told to pause but still shows %s", self.repo, shown)

        stage = retry(
            pause_and_look,
            again=_RUNS_ON,
            wait=lambda _: 0.0,  # it has been looked for long enough
            stop=lambda _: hub._left() <= 0,
            before_sleep=warn,
        )
        if stage not in STILL:
            raise HubError(f"Space {self.repo} was told to pause but still shows {stage}")

    def info(self) -> Any:
        # this one call has a time-out of its own, which is none unless it is given
        limit = self.timeouts.hub_answer
        return self._call("describe", lambda: self._api.space_info(self.repo, timeout=limit))

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
        with suppress(TimeoutError):
            in_background(read).result(self.timeouts.hub_answer)
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines[-LOG_LINES:])

    def _call(self, verb: str, call: Callable[[], Any]) -> Any:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        what = f"The Hub could not {verb} Space {self.repo}"
        made = 0

        def attempt() -> Any:
            nonlocal made
            made += 1
            return call()

        try:
            return retry(
                attempt,
                again=retry_if_exception(_may_pass),
                wait=self._pause_before_next,
                stop=lambda state: state.attempt_number == ATTEMPTS or self._left() <= 0,
                sleep=self._sleep,
            )
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403, 404):
                raise HubRefused(f"{what}: {_refusal(status)}") from error
            if not _may_pass(error):
                raise HubError(f"{what}: it answered {status}") from error
            cause = f"it answered {status}"
        except httpx2.HTTPError as error:
            cause = f"{type(error).__name__}: {error}".rstrip(": ")
        except HFValidationError as error:
            raise HubRefused(f"HF_SPACE_REPO={self.repo!r}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            cause = f"its answer makes no sense ({type(error).__name__})"
        attempts = "1 attempt" if made == 1 else f"{made} attempts"
        raise HubError(f"{what} in {attempts}: {cause}; try again later")

    def _pause_before_next(self, state: RetryCallState) -> float:
        response = getattr(error_of(state), "response", None)
        asked = 0.0 if response is None else retry_after(response.headers)
        longest = self.timeouts.hub_retry_after
        return min(max(asked, doubling(self.timeouts.hub_backoff, longest)(state)), longest)

    def _sleep(self, seconds: float) -> None:
        """Wait, but not beyond the deadline, which a signal may bring nearer."""
        again = time.monotonic() + seconds
        while (rest := min(again - time.monotonic(), self._left())) > 0:
            time.sleep(min(rest, self.timeouts.signal_noticed))

    def _left(self) -> float:
        """Seconds until nothing is tried again."""
        stopped = math.inf
        if self.stops_early:
            stopped = asked_to_stop_at() + self.timeouts.hub_pause_after_signal
        return min(self.deadline, stopped) - time.monotonic()


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return status >= 500 or status in (408, 429)
    if isinstance(error, HFValidationError):
        return False
    return isinstance(error, httpx2.HTTPError | ValueError | KeyError | TypeError)


def is_private_space(repo: str, host: str, *, token: str, timeouts: Timeouts | None = None) -> bool:
    """True when the Hub says that `repo` is private and served at `host`: it may see the token."""
    hub = HubSpace(repo, token, timeouts=timeouts)
    try:
        info = hub.until(time.monotonic() + hub.timeouts.hub_answer).info()
    except HubError as error:
        logger.debug("cannot tell whether %s is private: %s", repo, error)
        return False
    return bool(info.private) and host == f"{info.subdomain}.hf.space"


_client_timeouts: tuple[float, float] | None = None  # of the whole process's client, set by us
_timeout_lock = threading.Lock()


def _set_timeouts(answer: float, connect: float) -> None:
    """Give huggingface_hub's client, the whole process's, these time-outs in seconds."""
    import httpx2
    from huggingface_hub import set_client_factory

    def client() -> httpx2.Client:
        timeout = httpx2.Timeout(answer, connect=min(connect, answer))
        return httpx2.Client(timeout=timeout, follow_redirects=True)

    global _client_timeouts
    with _timeout_lock:
        if _client_timeouts != (answer, connect):  # else another thread's client would be closed
            _client_timeouts = answer, connect
            set_client_factory(client)


def _refusal(status: int) -> str:
    if status == 401:
        return "HF_TOKEN is not valid (401); make a new write token in the Hub's settings"
    if status == 403:
        return "HF_TOKEN may not do this (403); it needs write access to this Space"
    return "there is no such Space, or HF_TOKEN cannot see it (404); check HF_SPACE_REPO"
