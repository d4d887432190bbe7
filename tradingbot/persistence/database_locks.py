"""Locks between processes that share a database. A lock ends with the process that holds it.

On Postgres a lock is an advisory lock of a separate session, with SQLite a locked file. An attempt
to take a lock never waits.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from tradingbot.errors import RunOvertaken
from tradingbot.persistence.engine import get_engine
from tradingbot.persistence.postgres_lock import PostgresLock
from tradingbot.persistence.sqlite_lock import FileLock
from tradingbot.persistence.url import in_memory
from tradingbot.runtime.lock_interface import Lock, NoLock
from tradingbot.typing import SessionFactory


def open_lock(url: str, name: str, *, who: str = "kronosbot") -> Lock:
    """Return the lock of this name for all users of the database `url`, without taking it.

    `who` is shown to others while the lock is held, with this process and host.
    """
    engine = get_engine(url)
    if engine.dialect.name != "sqlite":
        return PostgresLock(engine, name, who)
    path = engine.url.database or ""
    if in_memory(engine.url) or path.startswith("file:"):
        return NoLock()
    file = Path(f"{path}.{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.lock")
    return FileLock(file, who, database=Path(path))


@contextmanager
def locked(sessions: SessionFactory, run: Lock, space: Lock) -> Iterator[Session]:
    """Open a transaction of a run that holds its lock, or has retaken it after a database restart.

    Raises:
        RunOvertaken: Another run holds the lock now.
    """
    if not run.renew():
        raise RunOvertaken(
            "this run lost its lock with its connection to the database, and another run is at "
            f"work now, {run.held_by()}: it does the rest"
        )
    space.renew()
    with sessions() as session:
        yield session
