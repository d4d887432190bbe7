"""Runs that share a Space: the first wakes it, the last pauses it, and none waits for ever.

Each run is a thread with its own lock, like a pod; the locks do not depend on threads.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest
from sqlalchemy import select, text

from tests.support.hub import REPO, TOKEN, Hub
from tradingbot.client import KronosClient
from tradingbot.errors import DatabaseUnavailable, HubError
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import dispose_engines, get_db_session
from tradingbot.persistence.models import RunLog
from tradingbot.persistence.run_log import RunLogWriter
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.lock_interface import Lock
from tradingbot.settings import PausePolicy, Timeouts
from tradingbot.space.hub import HubSpace
from tradingbot.space.lifecycle import running_space

LOCK = f"Space {REPO}"


QUICK = Timeouts(hub_backoff=0.05)
# Time-outs for a hanging Hub, long enough for a slow machine.
IMPATIENT = replace(QUICK, hub_answer=0.5)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


Stay = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def stay(hub: Hub, database: str) -> Stay:
    """Use the Space as one run does; yield its /health."""
    numbers = count()

    @contextmanager
    def stay(
        *,
        pause: PausePolicy = "always",
        timeout: float = 20,
        say: Any = print,
        lock: Lock | None = None,
        timeouts: Timeouts = QUICK,
    ) -> Any:
        part = {"shard": f"{next(numbers)}/9"}  # only one run of a shard is allowed
        sessions = partial(get_db_session, database)
        log = RunLogWriter.begin(sessions, started_at=utcnow(), details=part)
        space = HubSpace(REPO, TOKEN, endpoint=hub.url, timeouts=timeouts)
        with (
            KronosClient(hub.space_url) as client,
            lock or open_lock(database, LOCK) as own,
            running_space(
                space, client, timeout=timeout, pause=pause, say=say, lock=own, wake_log=log
            ) as health,
        ):
            yield health

    return stay


def test_one_of_several_simultaneous_runs_wakes_the_space_and_the_last_pauses_it(
    hub: Hub, stay: Stay
) -> None:
    all_in, boots = threading.Barrier(5), []

    def run(number: int) -> None:
        with stay() as health:
            all_in.wait(30)
            boots.append(health["boot_id"])
            time.sleep(0.02 * number)
            assert hub.running

    with ThreadPoolExecutor(5) as pool:
        runs = [pool.submit(run, number) for number in range(5)]
        for done in as_completed(runs):
            done.result()
    assert len(boots) == 5
    assert len(set(boots)) == 1
    assert hub.starts == 1
    assert hub.actions().count("pause") == 1
    assert (hub.running, hub.stage) == (False, "PAUSED")


def test_a_later_run_joins_and_the_first_to_end_does_not_pause_the_space(
    hub: Hub, stay: Stay
) -> None:
    messages: list[str] = []
    first = stay(say=messages.append)
    health = first.__enter__()
    with stay() as joined:
        assert joined["boot_id"] == health["boot_id"]
        first.__exit__(None, None, None)
        assert hub.running
        assert messages[-1] == f"Space {REPO}: left to the runs that still use it"
    assert hub.starts == 1
    assert not hub.running


def test_when_the_start_fails_no_run_waits_for_ever(hub: Hub, stay: Stay) -> None:
    hub.ends_as = "BUILD_ERROR"
    errors: list[str] = []

    def run(_: int) -> None:
        try:
            with stay(timeout=60):
                raise AssertionError("there is no Space")
        except HubError as error:
            errors.append(str(error))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, range(3)))
    assert len(errors) == 3
    told_by_the_stage = "failed to start: BUILD_ERROR"  # the stage shows it before the deadline
    assert all(told_by_the_stage in error for error in errors)
    assert (hub.running, hub.stage) == (False, "PAUSED")


HOLDER = """
import sys, time
from tradingbot.persistence.database_locks import open_lock
lock = open_lock(sys.argv[1], sys.argv[2])
assert lock.try_exclusive()
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def waking(database: str) -> Iterator[subprocess.Popen[str]]:
    """Start another process that holds the Space exclusively and makes no progress."""
    command = [sys.executable, "-c", HOLDER, database, LOCK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_when_the_waking_run_dies_another_takes_its_place(
    hub: Hub, stay: Stay, database: str
) -> None:
    messages: list[str] = []
    with waking(database) as other:

        def kill_when_waited_for() -> None:
            while not messages:
                time.sleep(0.01)
            other.kill()

        threading.Thread(target=kill_when_waited_for).start()
        with stay(say=messages.append):
            assert hub.running
    assert messages[0].startswith(f"Space {REPO}: waiting for kronosbot")
    assert f"process {other.pid} on" in messages[0]
    assert not hub.running


def test_a_waiting_run_gives_up_at_the_deadline_and_leaves_the_space_alone(
    hub: Hub, stay: Stay, database: str
) -> None:
    with (
        waking(database),
        pytest.raises(HubError, match=r"not up within 1 s \(KRONOS_WAKE_TIMEOUT\): this run wait"),
        stay(timeout=1),
    ):
        pass
    assert hub.actions() == []


def test_a_run_does_not_join_a_space_that_died_under_others(hub: Hub, stay: Stay) -> None:
    messages: list[str] = []
    first = stay()
    first.__enter__()
    assert hub.container is not None
    hub.container.kill()

    def leave_when_waited_for() -> None:
        while not messages:
            time.sleep(0.01)
        first.__exit__(None, None, None)

    leaver = threading.Thread(target=leave_when_waited_for)
    leaver.start()
    with stay(say=messages.append):
        assert hub.running
    leaver.join()
    assert "waiting for" in messages[0]
    assert hub.starts == 2
    assert not hub.running


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_after_a_database_restart_the_first_run_to_end_lets_others_renew_their_locks(
    hub: Hub, stay: Stay, database: str
) -> None:
    messages: list[str] = []

    def say(line: str) -> None:
        messages.append(line)
        if "the database restarted" in line:
            other.renew()  # as it does after each batch

    with open_lock(database, LOCK) as other:
        first = stay(say=say)
        first.__enter__()
        # leave the row of `first` unfinished, as a killed run does
        with stay(lock=other, timeouts=replace(QUICK, space_lock_regained=0.1)):
            with get_db_session(database) as session:
                session.execute(text(END_OTHER_SESSIONS))
            first.__exit__(None, None, None)
            assert hub.running
            assert messages[-1] == f"Space {REPO}: left to the runs that still use it"
    assert (hub.starts, hub.running) == (1, False)


@pytest.mark.parametrize("joins", [False, True])
def test_a_database_outage_after_the_wake_is_waited_for(
    hub: Hub, stay: Stay, database: str, joins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        if joins:
            stack.enter_context(stay())
        lock = stack.enter_context(open_lock(database, LOCK))
        try_shared, away = lock.try_shared, iter([DatabaseUnavailable("it restarts")])

        def once_away() -> bool:
            for error in away:
                raise error
            return try_shared()

        monkeypatch.setattr(lock, "try_shared", once_away)
        with stay(lock=lock):
            assert hub.running
            assert next(away, None) is None
    assert (hub.starts, hub.running) == (1, False)


END_OTHER_SESSIONS = (
    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.mark.parametrize("ran_before", [True, False])
def test_the_policy_if_woken_pauses_a_space_that_any_of_the_runs_woke(
    hub: Hub, stay: Stay, ran_before: bool
) -> None:
    if ran_before:
        hub.start_now()
    first = stay(pause="if-woken")
    first.__enter__()
    with stay(pause="if-woken"):
        first.__exit__(None, None, None)
        assert hub.running
    assert hub.running is ran_before


def test_the_policy_if_woken_pauses_a_space_woken_by_a_killed_run(
    hub: Hub, stay: Stay, database: str
) -> None:
    with stay(pause="never"):  # leave the Space running, as a killed run does
        pass
    assert hub.running
    dispose_engines()
    with stay(pause="if-woken"):
        assert hub.starts == 2
    assert not hub.running
    # we paused it and another user started it: it is theirs now
    hub.start_now()
    with stay(pause="if-woken"):
        pass
    assert hub.running
    with get_db_session(database) as session:
        notes = [log.details["space"]["woken"] for log in session.scalars(select(RunLog))]
    assert notes == [True, False, False]


def test_the_deadline_holds_against_a_hub_that_hangs(hub: Hub, stay: Stay) -> None:
    timeouts = replace(IMPATIENT, hub_pause=0.0)
    hub.faults["runtime"] += ["hang"] * 20
    with (
        pytest.raises(HubError, match="could not report the stage"),
        stay(timeout=0.7, timeouts=timeouts),
    ):
        pass
    # each call took its time-out of 0.5 s: no third call started after the deadline; one more
    # call checked whether the Space was still running
    assert set(hub.actions()) == {"runtime"}
    assert len(hub.calls) <= 3


@pytest.mark.parametrize("action", ["pause", "runtime"])
def test_pausing_after_a_signal_takes_no_longer_than_kubernetes_allows(
    hub: Hub, action: str
) -> None:
    hub.start_now()
    hub.faults[action] += ["hang"] * 20
    timeouts = replace(IMPATIENT, hub_pause=1.0)
    space = HubSpace(REPO, TOKEN, endpoint=hub.url, timeouts=timeouts)
    with pytest.raises(HubError, match=r"could not .* ReadTimeout"):
        space.pause()
    assert hub.actions().count(action) <= 2, "none begins after the patience is at its end"
    life = Timeouts()
    allowed = life.hub_pause_after_signal + life.hub_answer + life.hub_connect
    assert allowed < 30, "the grace period of Kubernetes, unless it is set"
