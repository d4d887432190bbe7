"""Locks between processes, on SQLite files and on a real Postgres."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.pgbouncer import pooled
from tradingbot.errors import ConfigError, DatabaseError
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import get_engine
from tradingbot.runtime.lock_interface import Lock

RUN = "run 0/1"


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_lock_has_one_holder_that_others_can_see(database: str) -> None:
    with open_lock(database, RUN) as first, open_lock(database, RUN) as second:
        assert first.try_exclusive()
        assert not second.try_exclusive()
        assert not second.try_shared()
        message = str(second.held_by())
        assert f"process {os.getpid()} on {os.uname().nodename}"[:40] in message
        assert f"since {time.strftime('%Y-%m-%d', time.gmtime())}" in message
        first.release()
        assert second.try_exclusive()


def test_a_lock_is_released_at_the_end_of_its_context(database: str) -> None:
    with open_lock(database, RUN) as first:
        assert first.try_exclusive()
    with open_lock(database, RUN) as second:
        assert second.try_exclusive()


def test_a_shared_lock_prevents_an_exclusive_one_until_all_release_it(database: str) -> None:
    with (
        open_lock(database, RUN) as first,
        open_lock(database, RUN) as second,
        open_lock(database, RUN) as third,
    ):
        assert first.try_shared()
        assert second.try_shared()
        assert not third.try_exclusive()
        first.release()
        assert not third.try_exclusive()
        second.release()
        assert third.try_exclusive()


def test_an_exclusive_holder_can_downgrade_to_shared(database: str) -> None:
    with open_lock(database, RUN) as first, open_lock(database, RUN) as second:
        assert first.try_exclusive()
        assert first.try_shared()
        assert second.try_shared()
        first.release()
        second.release()
        assert first.try_exclusive(), "nothing of the first lock is left"


def test_one_of_two_simultaneous_releases_gets_the_exclusive_lock(database: str) -> None:
    """When two runs end at the same time, one of them must pause the Space."""

    def finish(lock: Lock, barrier: threading.Barrier, alone: list[Lock]) -> None:
        barrier.wait()
        lock.release()
        if lock.try_exclusive():
            alone.append(lock)

    with open_lock(database, RUN) as first, open_lock(database, RUN) as second:
        for _ in range(50):
            assert first.try_shared()
            assert second.try_shared()
            alone: list[Lock] = []
            barrier = threading.Barrier(2)
            threads = [
                threading.Thread(target=finish, args=(lock, barrier, alone))
                for lock in (first, second)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(alone) == 1
            alone[0].release()


def test_a_lock_file_contains_its_holder_as_data(sqlite_url: str) -> None:
    with open_lock(sqlite_url, RUN, who="kronosbot 0/1") as first:
        assert open_lock(sqlite_url, RUN).is_held() is False
        assert first.try_exclusive()
        other = open_lock(sqlite_url, RUN)
        holder = other.held_by()
        assert (holder.who, holder.process) == ("kronosbot 0/1", os.getpid())
        assert holder.host == os.uname().nodename
        assert holder.since is not None
        assert datetime.now(UTC) - holder.since < timedelta(minutes=5)
        assert other.is_held()


OLD = "kronosbot 0/1, process 12 on pod-7, since 2026-11-22 21:41:56 UTC"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (OLD, OLD),
        ("", "another process"),
        ('{"who": "kronosbot"}', '{"who": "kronosbot"}'),
        ('{"who": "a", "process": 1, "host": "b", "since": "?"}', None),
        ('{"who": "a", "process": -1, "host": "b", "since": "2026-11-22"}', None),
        ("\x1b[31mred\x9b" + "x" * 5000, "[31mred " + "x" * 491 + "…"),
    ],
)
def test_a_lock_file_of_another_version_is_accepted(
    sqlite_url: str, text: str, shown: str | None
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///") + ".run-0-1.lock")
    path.write_text(text)
    with open_lock(sqlite_url, RUN) as lock:
        assert str(lock.held_by()) == (text if shown is None else shown)
        assert lock.is_held() is None, "that is unknown"
        assert lock.try_exclusive()
        assert lock.held_by().process == os.getpid()


def test_locks_with_other_names_or_databases_are_independent(database: str, tmp_path: Path) -> None:
    with (
        open_lock(database, RUN) as run,
        open_lock(database, "run 1/2") as shard,
        open_lock(database, "Space me/kronos") as space,
        open_lock(f"sqlite:///{tmp_path / 'other.db'}", RUN) as elsewhere,
    ):
        assert all(lock.try_exclusive() for lock in (run, shard, space, elsewhere))


@pytest.mark.integration
def test_the_lock_of_a_killed_process_vanishes(database: str) -> None:
    program = (
        "import sys, time; from tradingbot.persistence.database_locks import open_lock\n"
        f"lock = open_lock({database!r}, {RUN!r})\n"
        "assert lock.try_exclusive()\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with holder, open_lock(database, RUN) as lock:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert not lock.try_exclusive()
        assert f"process {holder.pid} on" in str(lock.held_by())
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        wait_until(lock.try_exclusive)


def test_a_lock_that_is_held_stays_held_when_renewed(database: str) -> None:
    with open_lock(database, RUN) as first, open_lock(database, RUN) as second:
        assert first.try_exclusive()
        assert first.renew()
        assert not second.try_exclusive()
        assert not second.renew(), "what was never had is not taken"


def end_sessions(url: str) -> None:
    """End the sessions of all lock holders, as a restart of the server does."""
    with get_engine(url).connect() as connection:
        ended = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name LIKE 'kronosbot%' AND datname = current_database()"
            )
        )
        assert len(ended.all()) == 1


@pytest.mark.parametrize("shared", [True, False])
def test_a_lock_with_a_lost_connection_is_acquired_again(postgres_url: str, shared: bool) -> None:
    with open_lock(postgres_url, RUN) as first, open_lock(postgres_url, RUN) as second:
        assert first.try_shared() if shared else first.try_exclusive()
        end_sessions(postgres_url)
        assert first.renew()
        assert second.try_shared() is shared
        assert not second.try_exclusive()


def test_a_lost_lock_taken_by_another_stays_lost(postgres_url: str) -> None:
    with open_lock(postgres_url, RUN) as first, open_lock(postgres_url, RUN) as second:
        assert first.try_exclusive()
        end_sessions(postgres_url)
        assert second.try_exclusive()
        assert not first.renew()
        assert not first.renew(), "nor later"
        second.release()
        assert first.renew()


def test_releasing_and_trying_a_lock_tolerate_a_lost_connection(postgres_url: str) -> None:
    with open_lock(postgres_url, RUN) as first:
        assert first.try_shared()
        end_sessions(postgres_url)
        first.release()
        assert first.try_exclusive()
        end_sessions(postgres_url)
        assert first.try_exclusive(), "over a new connection"


def test_a_database_in_memory_needs_no_lock_and_a_missing_folder_is_reported(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        locks = [stack.enter_context(open_lock("sqlite://", RUN)) for _ in range(2)]
        assert all(lock.try_exclusive() for lock in locks)
    missing = f"sqlite:///{tmp_path}/nowhere/kronos.db"
    with (
        open_lock(missing, RUN) as lock,
        pytest.raises(DatabaseError, match=r"nowhere/kronos.db.run-0-1.lock cannot be locked: No"),
    ):
        lock.try_exclusive()


@pytest.mark.integration
@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("busy", [False, True])
def test_a_transaction_pooler_is_refused_and_keeps_no_lock(
    postgres_url: str, size: int, busy: bool
) -> None:
    with pooled(postgres_url, size=size) as url, ExitStack() as stack:
        if busy:  # other sessions, whose transactions begin and end
            stack.enter_context(in_transactions(url, 3))
        lock = stack.enter_context(open_lock(url, RUN))
        with pytest.raises(ConfigError, match=r"pool_mode=session, or the server's own port"):
            lock.try_exclusive()
        with open_lock(postgres_url, RUN) as direct:
            assert direct.try_exclusive()
            assert direct.renew()


@contextmanager
def in_transactions(url: str, count: int) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with get_engine(url).connect() as connection:
                connection.execute(text("SELECT 1"))

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.integration
def test_a_session_pooler_works_like_the_server(postgres_url: str) -> None:
    with (
        pooled(postgres_url, mode="session") as url,
        open_lock(url, RUN) as first,
        open_lock(postgres_url, RUN) as second,
    ):
        assert first.try_exclusive()
        assert first.renew()
        assert not second.try_exclusive()


def test_a_holder_can_check_that_it_still_has_the_lock(postgres_url: str) -> None:
    with open_lock(postgres_url, RUN) as first, open_lock(postgres_url, RUN) as second:
        assert first.try_exclusive()
        connection = first._connection  # type: ignore[attr-defined]
        connection.execute(text("SELECT pg_advisory_unlock_all()"))  # as a pooler's reset does
        assert second.try_exclusive()
        assert not first.renew()


SOMEBODY = 12345


@pytest.mark.parametrize("what", ["link", "hard link", "pipe", "folder", "device", "another's"])
def test_a_foreign_file_in_place_of_a_lock_file_is_not_changed(
    tmp_path: Path, sqlite_url: str, what: str
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "kronos.db.run-0-1.lock"
    victim.write_text("precious")
    match what:
        case "link":
            path.symlink_to(victim)
        case "hard link":
            path.hardlink_to(victim)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/null")
        case _:
            path.write_text("precious")
            if os.geteuid() != 0:
                pytest.skip("only root can give a file away")
            os.chown(path, SOMEBODY, SOMEBODY)
    with open_lock(sqlite_url, RUN) as lock:
        with pytest.raises(DatabaseError, match=r"run-0-1.lock cannot be locked: "):
            lock.try_exclusive()
        assert str(lock.held_by()) == "another process"
    assert victim.read_text() == "precious"
    if what == "another's":
        assert path.read_text() == "precious"


def test_a_lock_file_created_by_the_databases_owner_works(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path, database = tmp_path / "kronos.db.run-0-1.lock", tmp_path / "kronos.db"
    for file in (path, database):
        file.touch()
        os.chown(file, SOMEBODY, SOMEBODY)
    with open_lock(f"sqlite:///{database}", RUN) as lock:
        assert lock.try_exclusive()


def test_a_lock_shows_the_last_activity_of_its_holder(database: str) -> None:
    with open_lock(database, RUN) as lock, open_lock(database, RUN) as other:
        assert lock.try_exclusive()
        before = other.held_by().active
        assert before is not None
        time.sleep(0.02)
        assert lock.renew()
        after = other.held_by().active
        assert after is not None
        assert before < after <= datetime.now(UTC)
