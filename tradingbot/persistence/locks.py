"""Locks between processes that share a database. One vanishes with the process that holds it.

On Postgres an advisory lock of a session of its own, beside a SQLite database a locked file. Nobody
waits in here: a lock is had or not.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from tradingbot.errors import RunOvertaken
from tradingbot.persistence.engine import get_engine
from tradingbot.persistence.file_lock import FileLock
from tradingbot.persistence.postgres_lock import PostgresLock
from tradingbot.persistence.url import in_memory
from tradingbot.runtime.locking import Lock, NoLock
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
    file = Path(f"{path}.{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.lock")
    return FileLock(file, who, database=Path(path))


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
