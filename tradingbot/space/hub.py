"""A Space on the Hugging Face Hub: stage, restart, pause and log."""

import logging
import re
import time
from collections import deque
from typing import Any

from tenacity import RetryCallState, retry_if_result

from tradingbot.errors import HubError, KronosError
from tradingbot.formatting import quoted, visible
from tradingbot.runtime.retry import answer_of, retry
from tradingbot.runtime.signals import asked_to_stop, asked_to_stop_at
from tradingbot.settings import Timeouts
from tradingbot.space.hub_calls import HubCalls
from tradingbot.space.hub_http import bounded

logger = logging.getLogger(__name__)

LOG_LINES = 12
LOG_LINE = 8_000  # characters; a line may hold a stack trace
LOG_BYTES = 16_000_000

# SLEEPING is missing from huggingface_hub's enum, so stages are compared as strings.
RUNS = ("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING")
FAILED = ("BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE")
STILL = ("PAUSED", "STOPPED", "SLEEPING", "DELETING")

_RUNS_ON = retry_if_result(lambda stage: stage not in STILL)


class HubSpace(HubCalls):
    """A Space, accessed through the Hub's API. The token is sent only to the Hub.

    Without a token only the stage of a public Space can be read. Errors are those of HubCalls.
    """

    def stage(self) -> str:
        return str(self._call("report the stage of", self._shown_stage))

    def _shown_stage(self) -> str:
        stage = str(self._api.get_space_runtime(self.repo).stage)
        if not re.fullmatch("[A-Z_]{1,40}", stage):
            raise ValueError("no stage")
        return stage

    def restart(self) -> None:
        self._call("restart", lambda: self._api.restart_space(self.repo))

    def pause(self) -> None:
        """Pause the Space, and check that the Hub shows it as paused.

        Takes at most `pause_patience()` seconds plus the time-out of one call. A signal shortens
        this.
        """
        hub = self.until(time.monotonic() + self.pause_patience())
        hub.stops_early = not asked_to_stop()
        hub.refusals_may_pass = True

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
            logger.warning("Space %s was asked to pause but still shows %s", self.repo, shown)

        stage = retry(
            pause_and_look,
            again=_RUNS_ON,
            wait=lambda _: 0.0,  # the attempt itself has already waited for the stage
            stop=lambda _: hub._left() <= 0,
            before_sleep=warn,
        )
        if stage not in STILL:
            raise HubError(f"Space {self.repo} was asked to pause but still shows {stage}")

    def pause_patience(self) -> float:
        """Return the seconds for retrying a pause.

        After a signal all Spaces share these seconds, so that the last Space is also reported in
        time.
        """
        if not asked_to_stop():
            return self.timeouts.hub_pause
        longest = self.timeouts.hub_pause_after_signal
        return max(asked_to_stop_at() + longest - time.monotonic(), longest / 2)

    def info(self) -> Any:
        # space_info has a time-out parameter, and no time-out unless one is passed
        limit = self.timeouts.hub_answer
        return self._call("describe", lambda: self._api.space_info(self.repo, timeout=limit))

    def log_tail(self, *, build: bool) -> str:
        """Return the newest lines of the build or run log, or '' if it is not available in time."""
        lines: deque[str] = deque(maxlen=LOG_LINES)

        def read() -> None:
            for line in self._api.fetch_space_logs(self.repo, build=build):
                lines.append(visible(str(line).rstrip("\r\n"), LOG_LINE))

        try:
            bounded(read, seconds=self.timeouts.hub_answer, size=LOG_BYTES)
        except Exception as error:
            logger.debug("no complete log of %s: %s", self.repo, quoted(error))
        return "".join(f"{line}\n" for line in lines.copy())


def is_private_space(repo: str, host: str, *, token: str, timeouts: Timeouts | None = None) -> bool:
    """Return whether the Hub says that `repo` is private and served at `host`.

    Only then may the token be sent to it.
    """
    try:
        hub = HubSpace(repo, token, timeouts=timeouts)
        info = hub.until(time.monotonic() + hub.timeouts.hub_answer).info()
    except KronosError as error:
        logger.debug("cannot tell whether %s is private: %s", repo, error)
        return False
    return bool(info.private) and host == f"{info.subdomain}.hf.space"
