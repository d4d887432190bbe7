"""Engines and sessions. The tables are in `models.py`.

  with get_db_session() as session:       # one transaction
      session.query(KronosPrediction).filter_by(symbol="SPY").all()

Production uses Postgres; the default is an embedded SQLite file. The first session of a process
upgrades the schema, so no other call is needed before it.
"""

import atexit
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, NullPool, StaticPool, create_engine, event
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.orm import Session

from tradingbot.errors import ConfigError, DatabaseError
from tradingbot.persistence.columns import json_or_none, to_json
from tradingbot.persistence.damage import leave_out_damaged
from tradingbot.persistence.failures import REFUSED, lacks_something, sqlstate, unreachable
from tradingbot.persistence.schema import (
    is_current,
    lock_out_other_processes,
    schema_version,
    upgrade,
)
from tradingbot.persistence.sqlite_file import TEXT, check_regular, is_read_only, open_for_reading
from tradingbot.persistence.url import (
    anchored,
    check_options,
    database_exists,
    database_url,
    in_memory,
    parsed,
    redact,
    without_password,
)
from tradingbot.settings import default_timeouts
from tradingbot.typing import SessionFactory

KEEPALIVES = {  # libpq options: detect a lost connection within half a minute
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}

UTF8 = {
    "client_encoding": "utf8"
}  # also of a database in SQL_ASCII, as initdb makes without a locale

STAND_IN = "sqlite:///:memory:"


class _Session(Session):
    """A session that does not see damaged rows."""


event.listen(_Session, "do_orm_execute", leave_out_damaged)


@contextmanager
def get_db_session(url: str | None = None, *, create: bool = True) -> Iterator[Session]:
    """Open a session on the configured database. Commit at the end, roll back on an exception.

    Objects stay readable after the block. With `create=False`, for readers, the schema is not
    upgraded, and tables may be missing.

    Raises:
        DatabaseUnavailable: The database is temporarily out of reach, at the start or in the block.
        DatabaseError: The database is out of reach for another reason, or lacks a table or column.
    """
    engine = get_engine(url)
    if create and engine not in _ready:
        init_db(url)
    try:
        with _Session(engine, expire_on_commit=False) as session:
            yield session
            session.commit()
    except DBAPIError as error:
        lost = isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
        if lost or lacks_something(error) or sqlstate(error) in REFUSED:
            raise unreachable(engine.url, error) from error
        raise


def has_one_connection(session: Session) -> bool:
    """Return whether all sessions share one connection, as in memory.

    Threads then have to take turns.
    """
    return isinstance(session.get_bind().engine.pool, StaticPool)


@contextmanager
def read_only_session(url: str) -> Iterator[Session]:
    """Open a session that cannot write, creates no database and upgrades no schema.

    Raises:
        DatabaseError: The database is out of reach, or the block wrote.
    """
    engine = _read_only_engine(url)
    try:
        with _Session(engine) as session:
            yield session
    except DBAPIError as error:
        raise unreachable(engine.url, error) from error
    finally:
        engine.dispose()


@contextmanager
def rehearsal_session(url: str | None = None) -> Iterator[Session]:
    """Open a session whose writes are rolled back. It creates no database and upgrades no schema.

    If the database is missing or empty, an in-memory database is used instead.

    Raises:
        DatabaseError: The schema is older, or as in `get_db_session`.
    """
    address = url or database_url()
    if not database_exists(address):
        address = STAND_IN
    elif (engine := get_engine(address)) not in _ready and not in_memory(engine.url):
        with read_only_session(address) as session:
            found = schema_version(session.connection(), database=redact(address))
            current = found is not None and is_current(session.connection())
        if found is None:
            address = STAND_IN
        elif not current:
            raise DatabaseError(
                f"{redact(address)} has an older schema, and a dry run does not upgrade it: "
                "the next round or `kronosbot run` does"
            )
    create = in_memory(get_engine(address).url)
    with get_db_session(address, create=create) as session:
        yield session
        session.expunge_all()  # objects stay readable
        session.rollback()


@contextmanager
def undone(sessions: SessionFactory) -> Iterator[Session]:
    """Open a session of this factory whose writes are rolled back at the end."""
    with sessions() as session:
        yield session
        session.expunge_all()  # objects stay readable
        session.rollback()


def init_db(url: str | None = None) -> Engine:
    """Create or upgrade the schema. Fast if it is current.

    Several processes may call this function at once: one process upgrades, and the others wait. A
    failed upgrade leaves the database unchanged.
    """
    engine = get_engine(url)
    try:
        if not _is_current(engine):
            with _process_lock, engine.begin() as connection:
                lock_out_other_processes(connection)
                upgrade(connection)
    except SQLAlchemyError as error:
        raise unreachable(engine.url, error) from error
    _ready.add(engine)
    return engine


def _is_current(engine: Engine) -> bool:
    try:
        with engine.connect() as connection:
            return is_current(connection)
    except DBAPIError as error:
        if lacks_something(error):  # another process is upgrading it
            return False
        raise


def get_engine(url: str | None = None) -> Engine:
    """Return this process's engine for a URL, by default the configured one, without connecting."""
    address = anchored(parsed(url or database_url(), "the database URL"))
    # the process is in the key, because a fork must not use its parent's engine
    key = (os.getpid(), address.render_as_string(hide_password=False))
    with _process_lock:
        if key not in _engines:
            _engines[key] = _create_engine(address)
        return _engines[key]


def dispose_engines() -> None:
    """Close all connections of this process. The next use opens new ones."""
    with _process_lock:
        for (pid, _), engine in _engines.items():
            engine.dispose(close=pid == os.getpid())  # a fork's parent still needs its connections
        _engines.clear()
        _ready.clear()


_engines: dict[tuple[int, str], Engine] = {}
_ready: set[Engine] = set()  # engines whose schema this process has found to be current
_process_lock = threading.RLock()  # also needed because Alembic keeps its state in globals
atexit.register(dispose_engines)  # otherwise Python 3.13 warns about SQLite's connections


def _create_engine(address: URL) -> Engine:
    backend, driver = address.get_backend_name(), address.drivername
    if backend not in ("postgresql", "sqlite"):
        raise ConfigError(
            f"{redact(address)}: databases of the kind {driver!r} are not supported;"
            " use a postgresql:// or sqlite:/// URL"
        )
    timeouts = default_timeouts()  # all callers share the engine, so none can pass time-outs
    options: dict[str, Any] = {"json_deserializer": json_or_none, "json_serializer": to_json}
    check_options(address)
    if backend == "sqlite":
        check_regular(address)
        options["connect_args"] = {"timeout": timeouts.database_file_lock}
        if in_memory(address):  # otherwise every thread would get its own database
            options["poolclass"] = StaticPool
            options["connect_args"]["check_same_thread"] = False
        elif is_read_only(Path(address.database or "")):
            options["poolclass"] = NullPool  # another process may write to it later
            options["creator"] = lambda: open_for_reading(Path(address.database or ""))
    else:
        options["pool_pre_ping"] = True  # a run is long, and the database may restart
        if "psycopg" in driver:
            defaults = {"connect_timeout": timeouts.database_connect, **KEEPALIVES, **UTF8}
            options["connect_args"] = {
                name: value for name, value in defaults.items() if name not in address.query
            }
    try:
        engine = create_engine(address, **options)
        engine.dialect.create_connect_args(address)
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"{redact(address)}: there is no driver {driver!r} here;"
            f" install it, or use a plain {backend}:// URL"
        ) from error
    except (ArgumentError, ValueError) as error:  # such as a wrong port or path
        message, *_ = without_password(address, str(error)).splitlines()
        raise ConfigError(f"database {redact(address)}: {message}") from error
    if backend == "sqlite":
        event.listen(engine, "connect", partial(_set_up_sqlite, timeouts.database_file_lock))
    return engine


def _read_only_engine(url: str) -> Engine:
    engine = get_engine(url)
    path = engine.url.database or ""
    if engine.dialect.name != "sqlite":
        return engine.execution_options(postgresql_readonly=True)
    if in_memory(engine.url) or path.startswith("file:"):
        return engine

    # not get_engine, which creates the file and changes its journal mode
    return create_engine(
        engine.url,
        creator=lambda: open_for_reading(Path(path)),
        json_deserializer=json_or_none,
    )


def _set_up_sqlite(patience: float, connection: Any, _record: Any) -> None:
    connection.text_factory = TEXT
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")
    # with WAL, readers do not wait for the writer; optional, because another process may be
    # switching modes or hold the file, or the file may be read-only
    cursor.execute("PRAGMA busy_timeout = 0")
    with suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute(f"PRAGMA busy_timeout = {round(1000 * patience)}")
    cursor.close()
