"""Retries with tenacity: which outcomes to retry, for how long, and what ends a wait."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    Future,
    RetryCallState,
    Retrying,
    retry_if_result,
    stop_never,
    wait_exponential,
)
from tenacity.retry import retry_base

from tradingbot.runtime.clock import now

Result = TypeVar("Result")


def retry(
    work: Callable[[], Result],
    *,
    again: retry_base,
    wait: Callable[[RetryCallState], float],
    stop: Callable[[RetryCallState], bool] = stop_never,
    sleep: Callable[[float], object] = time.sleep,
    stopped: threading.Event | None = None,
    before_sleep: Callable[[RetryCallState], object] | None = None,
) -> Result:
    """Call `work`, and retry while its outcome matches `again` and `stop` returns False.

    The outcome is the result or the exception of `work`. The outcome of the last attempt is
    returned or raised unchanged.

    Args:
        work: The function to call.
        again: Condition on the outcome for a retry.
        wait: Seconds before the next attempt; called after each attempt.
        stop: Whether to give up; called after `wait`.
        sleep: Called with the seconds to wait. An exception raised during `sleep`, for example by a
            signal handler, propagates.
        stopped: Event that ends the wait and the retries. If given, `sleep` is not called.
        before_sleep: Called before each wait.
    """
    outcome: Future | None = None  # of the newest attempt, during a wait

    def pause(seconds: float) -> None:
        if stopped is None:
            sleep(seconds)
        elif stopped.wait(seconds):
            raise _StoppedWaiting

    def note(state: RetryCallState) -> None:
        nonlocal outcome
        outcome = state.outcome
        if before_sleep is not None:
            before_sleep(state)

    attempts = Retrying(
        retry=again,
        wait=wait,
        stop=stop,
        sleep=pause,
        before_sleep=note,
        retry_error_callback=_outcome,
    )
    try:
        return attempts(work)
    except _StoppedWaiting:
        pass
    assert outcome is not None
    result: Result = outcome.result()
    return result


async def retry_async(
    work: Callable[[], Awaitable[Result]],
    *,
    again: retry_base,
    wait: Callable[[RetryCallState], float],
    stop: Callable[[RetryCallState], bool] = stop_never,
) -> Result:
    """Like `retry`, for an event loop. Cancelling the task ends the wait."""
    attempts = AsyncRetrying(
        retry=again, wait=wait, stop=stop, sleep=asyncio.sleep, retry_error_callback=_outcome
    )
    return await attempts(work)


def poll(
    look: Callable[[], Result | None],
    *,
    until: float,
    wait: Callable[[RetryCallState], float],
    before_sleep: Callable[[RetryCallState], object] | None = None,
) -> Result | None:
    """Call `look` until it returns something other than None, and return that.

    Return None if `look` still returns None at `until`, a time of time.monotonic(), when the last
    call is made. `wait` seconds pass between two calls. Exceptions of `look`, or of a signal
    handler, propagate.
    """

    return retry(look, **_poll_options(until, wait), before_sleep=before_sleep)


async def poll_async(
    look: Callable[[], Awaitable[Result | None]],
    *,
    until: float,
    wait: Callable[[RetryCallState], float],
) -> Result | None:
    """Like `poll`, for an event loop."""
    return await retry_async(look, **_poll_options(until, wait))


def _poll_options(until: float, wait: Callable[[RetryCallState], float]) -> dict[str, Any]:
    """Return the arguments with which `retry` and `retry_async` poll."""

    def left() -> float:
        return until - time.monotonic()

    return {
        "again": retry_if_result(lambda found: found is None),
        "wait": lambda state: max(0.0, min(wait(state), left())),
        "stop": lambda _: left() <= 0,
    }


class _StoppedWaiting(Exception):
    """The event `stopped` of `retry` was set during a wait."""


def growing(first: float, longest: float) -> wait_exponential:
    """Return a wait of `first` seconds, then 1.5 times as long each time, up to `longest`."""
    return wait_exponential(multiplier=first, exp_base=1.5, max=longest)


def doubling(first: float, longest: float) -> wait_exponential:
    """Return a wait of `first` seconds, then twice as long each time, up to `longest`."""
    return wait_exponential(multiplier=first, max=longest)


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that the header Retry-After asks the client to wait.

    The header holds a number of seconds or a date. Return 0 without a valid header.
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - now()).total_seconds())


def error_of(state: RetryCallState) -> BaseException | None:
    """Return the exception of the newest attempt, or None."""
    return None if state.outcome is None else state.outcome.exception()


def answer_of(state: RetryCallState) -> Any:
    """Return the result of the newest attempt, or None if it raised."""
    return None if error_of(state) or state.outcome is None else state.outcome.result()


def _outcome(state: RetryCallState) -> Any:
    """Return or raise the outcome of the last attempt."""
    assert state.outcome is not None
    return state.outcome.result()
