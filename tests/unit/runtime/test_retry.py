"""Transient failures are retried; the last outcome is passed on unchanged."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from tenacity import (
    RetryCallState,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_fixed,
)

from tradingbot.runtime.retry import (
    doubling,
    growing,
    poll,
    poll_async,
    retry,
    retry_after,
    retry_async,
)
from tradingbot.runtime.signals import Stopped, stop_on_signals

FULL = retry_if_result(lambda answer: answer == "full")
AWAY = retry_if_exception_type(ConnectionError)


class Server:
    """A server that answers or raises in turn and repeats the last outcome."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0

    def __call__(self) -> object:
        self.asked += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_pauses_double_up_to_a_maximum_and_the_answer_is_returned() -> None:
    server, pauses = Server(*[ConnectionError()] * 5, "full", "done"), list[float]()
    assert retry(server, again=AWAY | FULL, wait=doubling(1, 10), sleep=pauses.append) == "done"
    assert pauses == [1, 2, 4, 8, 10, 10]


def test_after_the_last_attempt_its_answer_is_returned() -> None:
    server = Server("full")
    stop = stop_after_attempt(3)
    assert retry(server, again=FULL, wait=doubling(0, 0), stop=stop) == "full"
    assert server.asked == 3


def test_the_last_error_is_raised_unchanged() -> None:
    last = ConnectionError("the second")
    server = Server(ConnectionError("the first"), last)
    with pytest.raises(ConnectionError) as caught:
        retry(server, again=AWAY, wait=doubling(0, 0), stop=stop_after_attempt(2))
    assert caught.value is last
    assert caught.value.__cause__ is None


def test_a_permanent_error_is_raised_immediately() -> None:
    server = Server(PermissionError("no"))
    with pytest.raises(PermissionError):
        retry(server, again=retry_if_exception_type(TimeoutError), wait=doubling(60, 60))
    assert server.asked == 1


@pytest.mark.parametrize("outcome", ["full", ConnectionError("away")])
def test_an_event_ends_the_wait_with_the_last_outcome(outcome: object) -> None:
    server, stopped, ended = Server(outcome), threading.Event(), list[object]()

    def ask() -> None:
        try:
            ended.append(retry(server, again=AWAY | FULL, wait=doubling(600, 600), stopped=stopped))
        except ConnectionError as error:
            ended.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while not server.asked:
        time.sleep(0.001)
    stopped.set()
    thread.join(30)
    assert ended == [outcome]
    assert server.asked == 1


def test_a_signal_is_handled_during_the_wait_for_the_next_attempt() -> None:
    server = Server(ConnectionError())

    def kill(seconds: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)

    with pytest.raises(Stopped), stop_on_signals():
        retry(server, again=AWAY, wait=doubling(600, 600), sleep=kill)
    assert server.asked == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({}, 0.0),
        ({"Retry-After": " 7 "}, 7.0),
        ({"Retry-After": "-7"}, 0.0),
        ({"Retry-After": "soon"}, 0.0),
        ({"Retry-After": "Wed, 99 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_a_retry_after_in_seconds_is_read(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize("zone", ["GMT", "-0000", "+0200"])
def test_a_retry_after_date_gives_the_time_until_then(zone: str) -> None:
    then = datetime.now(UTC) + timedelta(hours=3) + timedelta(hours=2) * (zone == "+0200")
    seconds = retry_after({"Retry-After": f"{then:%a, %d %b %Y %H:%M:%S} {zone}"})
    assert 2.9 * 3600 < seconds <= 3 * 3600


def test_each_failure_is_reported_before_the_wait() -> None:
    attempts: list[int] = []

    def note(state: RetryCallState) -> None:
        attempts.append(state.attempt_number)

    server = Server("full", "full", "done")
    retry(server, again=FULL, wait=doubling(0, 0), before_sleep=note)
    assert attempts == [1, 2]


def test_a_poll_repeats_until_there_is_a_result() -> None:
    look = Server(None, None, "here")
    assert poll(look, until=time.monotonic() + 60, wait=wait_fixed(0.001)) == "here"
    assert look.asked == 3


def test_a_poll_checks_once_even_after_the_deadline() -> None:
    look = Server(None)
    assert poll(look, until=time.monotonic(), wait=wait_fixed(60)) is None
    assert look.asked == 1


def test_a_pause_ends_with_the_poll_and_errors_of_a_check_are_raised() -> None:
    looked_at: list[float] = []
    until = time.monotonic() + 0.02
    assert (
        poll(lambda: looked_at.append(time.monotonic()), until=until, wait=wait_fixed(60)) is None
    )
    assert looked_at[-1] >= until, "the last look is at its end"
    with pytest.raises(ConnectionError):
        poll(Server(None, ConnectionError()), until=time.monotonic() + 60, wait=wait_fixed(0.001))


def test_pauses_between_checks_grow_to_a_maximum() -> None:
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    pauses = []
    for state.attempt_number in (1, 2, 3, 20, 100_000):
        pauses.append(growing(0.1, 5.0)(state))
    assert pauses == pytest.approx([0.1, 0.15, 0.225, 5.0, 5.0])


# asynchronous ------------------------------------------------------------------------------------


def awaited(server: Server) -> Callable[[], Awaitable[object]]:
    async def ask() -> object:
        return server()

    return ask


def test_asynchronous_work_is_retried_by_the_same_rules() -> None:
    server = Server(ConnectionError(), "full", "done")
    assert (
        asyncio.run(retry_async(awaited(server), again=AWAY | FULL, wait=doubling(0, 0))) == "done"
    )
    last = ConnectionError("the second")
    server, stop = Server(ConnectionError("the first"), last), stop_after_attempt(2)
    with pytest.raises(ConnectionError) as caught:
        asyncio.run(retry_async(awaited(server), again=AWAY, wait=doubling(0, 0), stop=stop))
    assert caught.value is last


def test_an_asynchronous_poll_checks_once_more_at_the_deadline() -> None:
    nothing, server = Server(None), Server(None, None, "there")
    until = time.monotonic() + 0.05
    assert asyncio.run(poll_async(awaited(nothing), until=until, wait=wait_fixed(0.02))) is None
    assert nothing.asked > 1
    until = time.monotonic() + 60
    assert asyncio.run(poll_async(awaited(server), until=until, wait=wait_fixed(0))) == "there"


def test_a_cancelled_task_ends_the_wait_between_two_attempts() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(retry_async(awaited(server), again=FULL, wait=wait_fixed(3600)))
        while not server.asked:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    server = Server("full")
    asyncio.run(scenario())
    assert server.asked == 1
