"""Locks between processes that share a database. One vanishes with the process that holds it.

On Postgres an advisory lock of a session of its own, beside a SQLite database a locked file. Nobody
waits in here: a lock is had or not.
"""

import fcntl
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Self

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradingbot.errors import DatabaseError, RunOvertaken
from tradingbot.persistence.engine import get_engine
from tradingbot.persistence.failures import unreachable
from tradingbot.persistence.url import in_memory
from tradingbot.runtime.clock import now
from tradingbot.runtime.locking import Holder, Lock, Mode, NoLock
from tradingbot.runtime.signals import signals_held
from tradingbot.typing import SessionFactory


def open_lock(url: str, name: str, *, who: str = "kronosbot") -> Lock:
    """The lock of this name for all who use the database `url`. It is not taken yet.

    `who` is what others are told while it is held, with this process and its machine.
    """
    engine = get_engine(url)
    if engine.dialect.name != "sqlite":
        return PostgresLock(engine, name, who)
    path = engine.url.database or ""
    if in_memory(engine.url) or path.startswith("file:"):
        return NoLock()
    return FileLock(Path(f"{path}.{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.lock"), who)


@contextmanager
def locked(sessions: SessionFactory, run: Lock, space: Lock) -> Iterator[Session]:
    """A transaction of a run that has its lock, or has it again: a restart of the database ends the
    session that held it. RunOvertaken if another run has it by now."""
    if not run.renew():
        raise RunOvertaken(
            "this run's lock got lost with its connection to the database, and now another run is "
            f"at work, {run.held_by()}: the rest is left to it"
        )
    space.renew()
    with sessions() as session:
        yield session


class PostgresLock:
    """Has a connection to itself, whose application_name tells the others whose it is.

    It survives whatever becomes of that: a lost server, and also a signal that cuts short what is
    asked, after which SQLAlchemy refuses all but a rollback (PendingRollbackError).
    """

    def __init__(self, engine: Engine, name: str, who: str) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        digest = hashlib.sha256(f"kronosbot {name}".encode()).digest()
        self._key = int.from_bytes(digest[:8], signed=True)
        self._settings = {
            "application_name": str(_this_process(who))[:63],
            "idle_session_timeout": "0",
            # the server too shall notice when the other end is gone: a node without power, say
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        }
        self._connection: Connection | None = None
        self._mode: Mode | None = None  # as taken
        self._held = False  # in this mode; not any more once the connection is lost
        self._lost = False

    def try_exclusive(self) -> bool:
        with signals_held():  # one between the answer and `_held` would make it a lie
            if not self._ask("SELECT pg_try_advisory_lock(:key)"):
                return False
            self._mode, self._held = "exclusive", True
            return True

    def try_shared(self) -> bool:
        with signals_held():
            exclusively = self._mode == "exclusive" and self._held
            if not self._ask("SELECT pg_try_advisory_lock_shared(:key)"):
                return False
            if exclusively:  # only now: nobody else gets it in between
                self._ask("SELECT pg_advisory_unlock(:key)")
            self._mode, self._held = "shared", True
            return True

    def renew(self) -> bool:
        if self._mode is None:
            return False
        if self._held and self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
                return True
            except SQLAlchemyError:
                self._lose_connection()
        return self.try_exclusive() if self._mode == "exclusive" else self.try_shared()

    def release(self) -> None:
        with signals_held():
            self._mode = None
            if self._connection is not None:
                try:
                    self._connection.execute(text("SELECT pg_advisory_unlock_all()"))
                    self._held = False
                except SQLAlchemyError:
                    self._lose_connection()

    def held_by(self) -> Holder:
        rows = self._holders()
        if not rows:
            return Holder("a run that has just ended")
        # its name says process and host too; hidden where the user is another, as is `since`
        name, since = rows[0]
        return Holder(name or "another user of the database", since=since, others=len(rows) - 1)

    def is_held(self) -> bool | None:
        return bool(self._holders())

    def got_lost(self) -> bool:
        return self._lost

    def _holders(self) -> Sequence[Any]:
        # a key of 64 bits is shown as two halves
        query = (
            "SELECT a.application_name, a.backend_start"
            " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (l.classid::bigint << 32 | l.objid::bigint) = :key"
            " ORDER BY a.backend_start"
        )
        try:
            return self._connected().execute(text(query), {"key": self._key}).all()
        except SQLAlchemyError as error:
            self._lose_connection()
            raise unreachable(self._engine.url, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()
        self._lose_connection()

    def _ask(self, statement: str) -> Any:
        """The statement's answer, from a new connection if the old one turns out to be dead."""
        while True:
            fresh = self._connection is None
            try:
                return self._connected().scalar(text(statement), {"key": self._key})
            except SQLAlchemyError as error:
                self._lose_connection()
                if fresh:
                    raise unreachable(self._engine.url, error) from error

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._engine.connect()
            connection.detach()  # from the pool: closing it ends the session, and so the lock
            setting = text(
                "SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name"
            )
            for name, value in self._settings.items():  # those that this server knows
                connection.execute(setting, {"name": name, "value": value})
            self._connection = connection
        return self._connection

    def _lose_connection(self) -> None:
        self._lost |= self._held
        self._held = False
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None


class FileLock:
    """A file with flock(2). It says who had it last, and stays when nobody has it.

    Its text is one JSON object: {"who": …, "process": 7, "host": …, "since": "2026-11-22T…"}
    Version 0.1 wrote a sentence; what cannot be read as such an object is taken for a name.
    """

    def __init__(self, path: Path, who: str) -> None:
        self._path = path
        self._who = who
        self._file: IO[str] | None = None

    def try_exclusive(self) -> bool:
        return self._flock(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        return self._flock(fcntl.LOCK_SH)

    def renew(self) -> bool:
        return self._file is not None

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def held_by(self) -> Holder:
        try:
            text = self._path.read_text(errors="replace").strip()
        except OSError:
            text = ""
        return _holder_from(text) if text else Holder("another process")

    def is_held(self) -> bool | None:
        # to try would be to have it for a moment, in which a run would find it taken
        if not self._path.exists():
            return False
        holder = self.held_by()
        if holder.process is None or holder.host != socket.gethostname():
            return None
        try:
            os.kill(holder.process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:  # it is another user's
            pass
        return True

    def got_lost(self) -> bool:
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def _flock(self, operation: int) -> bool:
        with signals_held():
            try:
                if self._file is None:
                    self._file = self._path.open("a+")
                fcntl.flock(self._file, operation | fcntl.LOCK_NB)
                self._file.truncate(0)
                self._file.write(_text_of(_this_process(self._who, since=now())))
                self._file.flush()
                return True
            except BlockingIOError:  # a lock that was to be changed into another kind is gone too
                self.release()
                return False
            except OSError as error:
                self.release()
                raise DatabaseError(f"{self._path} cannot be locked: {error.strerror}") from error


def _this_process(who: str, since: datetime | None = None) -> Holder:
    return Holder(who, os.getpid(), socket.gethostname(), since)


def _text_of(holder: Holder) -> str:
    """What a lock file says."""
    since = None if holder.since is None else holder.since.isoformat(timespec="seconds")
    facts = {"who": holder.who, "process": holder.process, "host": holder.host, "since": since}
    return json.dumps(facts, ensure_ascii=False) + "\n"


def _holder_from(text: str) -> Holder:
    """What a lock file said; its whole text is a name where that is not what we write."""
    try:
        match json.loads(text):
            case {"who": str(who), "process": int(process), "host": str(host), "since": str(since)}:
                return Holder(who, process, host, datetime.fromisoformat(since))
    except ValueError:
        pass
    return Holder(text)
