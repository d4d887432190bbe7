"""Calls to the Hub about one Space, retried until a deadline."""

import math
import re
import time
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from tenacity import RetryCallState, retry_if_exception

from tradingbot.errors import HubError, HubRefused
from tradingbot.formatting import cause_text, quoted
from tradingbot.runtime.retry import doubling, error_of, retry, retry_after
from tradingbot.runtime.signals import asked_to_stop_at
from tradingbot.settings import Timeouts, default_timeouts, hub_endpoint
from tradingbot.space.hub_http import UnexpectedAnswer, bounded, hub_api

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

ATTEMPTS = 4  # attempts of one call while its failures are transient


class HubCalls:
    """Calls to the Hub's API about `repo`.

    A call takes at most `hub_connect` and `hub_answer` seconds, and is retried after transient
    failures.

    Raises:
        ConfigError: In the constructor, if requests are impossible.
        HubRefused: The Hub responds with 401, 402, 403 or 404.
        HubError: Any other failure.
    """

    deadline = math.inf  # time.monotonic() after which nothing is retried
    stops_early = False  # after a signal the deadline is at most hub_pause_after_signal away
    # also retry 4xx responses, because a Space that keeps running costs more
    refusals_may_pass = False

    def __init__(
        self,
        repo: str,
        token: str | None,
        *,
        endpoint: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.timeouts = timeouts or default_timeouts()
        self.repo = repo
        self._api = hub_api(endpoint or hub_endpoint(), token, self.timeouts)

    def until(self, deadline: float) -> Self:
        """Return the same Space with a deadline for its calls, exceeded by at most one time-out."""
        other = copy(self)
        other.deadline = min(self.deadline, deadline)
        return other

    def _call(self, verb: str, call: Callable[[], Any]) -> Any:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        failure = f"The Hub could not {verb} Space {self.repo}"
        longest = self.timeouts.hub_connect + self.timeouts.hub_answer
        made = 0

        def attempt() -> Any:
            nonlocal made
            made += 1
            # an attempt that starts late must not end later than one started at the deadline
            return bounded(call, seconds=min(longest, self._left() + longest))

        try:
            return retry(
                attempt,
                again=retry_if_exception(self._may_pass),
                wait=self._pause_before_next,
                stop=lambda state: state.attempt_number == ATTEMPTS or self._left() <= 0,
                sleep=self._sleep,
            )
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 402, 403, 404):
                raise HubRefused(f"{failure}: {_refusal(status, _words(error))}") from error
            cause = f"it answered {status}{_words(error)}"
            if not self._may_pass(error):
                raise HubError(f"{failure}: {cause}") from error
        except HFValidationError as error:
            raise HubRefused(f"HF_SPACE_REPO={self.repo!r}: {quoted(error)}") from error
        except Exception as error:
            cause = _cause(error, longest)
        attempts = "1 attempt" if made == 1 else f"{made} attempts"
        raise HubError(f"{failure} in {attempts}: {cause}; try again later")

    def _may_pass(self, error: BaseException) -> bool:
        """Return whether another attempt may succeed."""
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        if isinstance(error, HfHubHTTPError):
            status = error.response.status_code
            return status >= 500 or status in (408, 429) or self.refusals_may_pass
        return isinstance(error, Exception) and not isinstance(error, HFValidationError)

    def _pause_before_next(self, state: RetryCallState) -> float:
        response = getattr(error_of(state), "response", None)
        asked = 0.0 if response is None else retry_after(response.headers)
        longest = self.timeouts.hub_retry_after
        return min(max(asked, doubling(self.timeouts.hub_backoff, longest)(state)), longest)

    def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the deadline, which a signal can shorten."""
        again = time.monotonic() + seconds
        while (remaining := min(again - time.monotonic(), self._left())) > 0:
            time.sleep(min(remaining, self.timeouts.signal_noticed))

    def _left(self) -> float:
        """Return the seconds until nothing is retried."""
        stopped = math.inf
        if self.stops_early:
            stopped = asked_to_stop_at() + self.timeouts.hub_pause_after_signal
        return min(self.deadline, stopped) - time.monotonic()


# Words in the Hub's message when the account may not run the Space.
_QUOTA = re.compile(
    r"quota|limit|maximum|exceed|too many|plan|upgrade|\bpro\b|billing|payment|credit|subscri|free",
    re.IGNORECASE,
)


def _words(error: "HfHubHTTPError") -> str:
    """Return ': ' and the Hub's message, or ''."""
    return f": {quoted(error.server_message)}" if error.server_message else ""


def _refusal(status: int, words: str) -> str:
    """Describe a refusal: the Hub's message, and what to do."""
    if status == 401:
        return f"HF_TOKEN is not valid (401){words}; make a new write token in the Hub's settings"
    if status == 404:
        return (
            f"there is no such Space, or HF_TOKEN cannot see it (404){words}; check HF_SPACE_REPO"
        )
    elsewhere = (
        "run the Space in your cluster (space.enabled) or on this machine (--local): "
        "docs/operations/runbook.md"
    )
    if status == 402 or _QUOTA.search(words):
        return f"it answered {status}{words}; this is about the account, not HF_TOKEN: {elsewhere}"
    if not words:
        return "HF_TOKEN may not do this (403); it needs write access to this Space"
    return f"it answered 403{words}; HF_TOKEN needs write access to this Space. Else {elsewhere}"


def _cause(error: Exception, seconds: float) -> str:
    import httpx2

    if isinstance(error, UnexpectedAnswer):
        return f"its answer is {error}"
    if isinstance(error, TimeoutError):
        return f"it did not answer within {seconds:g} s"
    if isinstance(error, httpx2.HTTPError | OSError):
        return cause_text(error, 500)
    return f"its answer makes no sense ({type(error).__name__})"
