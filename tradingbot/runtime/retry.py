"""Retries, by tenacity: which outcomes are tried again, for how long, and what ends a wait."""

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
    """Call `work`, and again while its outcome is one for `again` and `stop` does not say no.

    The last outcome is returned or raised as it is. `wait` and `stop` are asked once an attempt
    has ended, in this order. Between two attempts `sleep(wait)` is called; what a signal's handler
    raises in there gets through. The event `stopped` ends the wait and everything with it; `sleep`
    is then the event's.
    """
    outcome: Future | None = None  # of the newest attempt, while the next is waited for

    def rest(seconds: float) -> None:
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
        sleep=rest,
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
    """As `retry`, for an event loop: what cancels the task ends the wait."""
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
    """Call `look` until it returns something; return that, or None once it is too late.

    Between two calls `wait` seconds pass. The last call is at `until`, of time.monotonic(). What
    `look` raises, and what a signal's handler raises, gets through.
    """

    return retry(look, **_looking(until, wait), before_sleep=before_sleep)


async def poll_async(
    look: Callable[[], Awaitable[Result | None]],
    *,
    until: float,
    wait: Callable[[RetryCallState], float],
) -> Result | None:
    """As `poll`, for an event loop."""
    return await retry_async(look, **_looking(until, wait))


def _looking(until: float, wait: Callable[[RetryCallState], float]) -> dict[str, Any]:
    """When to look again for what is not there yet."""

    def left() -> float:
        return until - time.monotonic()

    return {
        "again": retry_if_result(lambda found: found is None),
        "wait": lambda state: max(0.0, min(wait(state), left())),
        "stop": lambda _: left() <= 0,
    }


class _StoppedWaiting(Exception):
    """The event was set before the next attempt."""


def growing(first: float, longest: float) -> wait_exponential:
    """`first` seconds after the first look, then half as long again each time, up to `longest`."""
    return wait_exponential(multiplier=first, exp_base=1.5, max=longest)


def doubling(first: float, longest: float) -> wait_exponential:
    """`first` seconds after the first attempt, then twice as long each time, up to `longest`."""
    return wait_exponential(multiplier=first, max=longest)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that an answer asks its caller to wait, by a number or a date; 0 for none."""
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
    """What the newest attempt raised; None if it returned."""
    return None if state.outcome is None else state.outcome.exception()


def answer_of(state: RetryCallState) -> Any:
    """What the newest attempt returned; None if it raised."""
    return None if error_of(state) or state.outcome is None else state.outcome.result()


def _outcome(state: RetryCallState) -> Any:
    """What the last attempt returned; raises what it raised."""
    assert state.outcome is not None
    return state.outcome.result()
