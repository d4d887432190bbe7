"""Engines and sessions; which tables there are is in `models.py`.

    with get_db_session() as session:       # one transaction
        session.query(KronosPrediction).filter_by(symbol="SPY").all()

Postgres in production, SQLite as the embedded default. The first session of a process brings the
schema up to date, so nothing needs to be called before it.
"""

import atexit
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

KEEPALIVES = {  # of libpq: a connection whose other end is gone is noticed within half a minute
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}


STAND_IN = "sqlite:///:memory:"


class _Session(Session):
    """A session that sees no damaged rows."""


event.listen(_Session, "do_orm_execute", leave_out_damaged)


@contextmanager
def get_db_session(url: str | None = None, *, create: bool = True) -> Iterator[Session]:
    """A session on the configured database: commits at the end, rolls back on an exception.

    Objects stay readable after the block. With `create=False` the schema is left as it is, for
    readers: tables may be missing. Raises DatabaseError when the database is out of reach,
    also in the middle of the block: DatabaseUnavailable if that may pass; and when a table or
    column is not there.
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


@contextmanager
def read_only_session(url: str) -> Iterator[Session]:
    """A session that cannot write: it makes no database and upgrades no schema.

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
    """A session whose writes are undone at the end: it makes no database and upgrades no schema.

    For a database that is not there yet, or is empty, one in memory stands in. Raises DatabaseError
    for one that an older version left, and as `get_db_session` does.
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
                f"{redact(address)} has an older schema, and what writes nothing does "
                "not upgrade it: the next round or `kronosbot run` does"
            )
    create = in_memory(get_engine(address).url)
    with get_db_session(address, create=create) as session:
        yield session
        session.expunge_all()  # what was read stays readable
        session.rollback()


@contextmanager
def undone(sessions: SessionFactory) -> Iterator[Session]:
    """A session of this factory whose writes are undone at the end."""
    with sessions() as session:
        yield session
        session.expunge_all()  # what was read stays readable
        session.rollback()


def init_db(url: str | None = None) -> Engine:
    """Creates the schema, or upgrades it; quick when it is current.

    Safe to call from several processes at once: one upgrades, the others wait. All or nothing: an
    upgrade that fails leaves the database as it was.
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
        if lacks_something(error):  # another process is just upgrading it
            return False
        raise


def get_engine(url: str | None = None) -> Engine:
    """This process's one engine for a URL, by default the configured one. Connects to nothing."""
    address = anchored(parsed(url or database_url(), "the database URL"))
    key = (os.getpid(), address.render_as_string(hide_password=False))  # a fork needs its own
    with _process_lock:
        if key not in _engines:
            _engines[key] = _create_engine(address)
        return _engines[key]


def dispose_engines() -> None:
    """Closes every connection of this process; the next use opens new ones."""
    with _process_lock:
        for (pid, _), engine in _engines.items():
            engine.dispose(close=pid == os.getpid())  # a fork's parent still needs its own
        _engines.clear()
        _ready.clear()


_engines: dict[tuple[int, str], Engine] = {}
_ready: set[Engine] = set()  # those whose schema this process has seen to be current
_process_lock = threading.RLock()  # also because Alembic keeps its state in globals
atexit.register(dispose_engines)  # else Python 3.13 warns of SQLite's connections


def _create_engine(address: URL) -> Engine:
    backend, driver = address.get_backend_name(), address.drivername
    if backend not in ("postgresql", "sqlite"):
        raise ConfigError(
            f"{redact(address)}: databases of the kind {driver!r} are not supported;"
            " use a postgresql:// or sqlite:/// URL"
        )
    timeouts = default_timeouts()  # one engine a process: it has no caller of its own
    options: dict[str, Any] = {"json_deserializer": _json_or_none}
    check_options(address)
    if backend == "sqlite":
        check_regular(address)
        options["connect_args"] = {"timeout": timeouts.database_lock}
        if in_memory(address):  # else every thread would get a database of its own
            options["poolclass"] = StaticPool
            options["connect_args"]["check_same_thread"] = False
        elif is_read_only(Path(address.database or "")):
            options["poolclass"] = NullPool  # somebody else may write to it later
            options["creator"] = lambda: open_for_reading(Path(address.database or ""))
    else:
        options["pool_pre_ping"] = True  # a run is long, and a database may restart meanwhile
        if "psycopg" in driver:
            limits = {"connect_timeout": timeouts.database_connect, **KEEPALIVES}
            options["connect_args"] = {
                name: value for name, value in limits.items() if name not in address.query
            }
    try:
        engine = create_engine(address, **options)
        engine.dialect.create_connect_args(address)
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"{redact(address)}: there is no driver {driver!r} here;"
            f" install it, or use a plain {backend}:// URL"
        ) from error
    except (ArgumentError, ValueError) as error:  # of a port or a path, say
        said, *_ = without_password(address, str(error)).splitlines()
        raise ConfigError(f"database {redact(address)}: {said}") from error
    if backend == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _json_or_none(text: Any) -> Any:
    """None for what is no JSON, as a column of SQLite can hold, or is nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _read_only_engine(url: str) -> Engine:
    engine = get_engine(url)
    path = engine.url.database or ""
    if engine.dialect.name != "sqlite":
        return engine.execution_options(postgresql_readonly=True)
    if in_memory(engine.url) or path.startswith("file:"):
        return engine

    # not as get_engine does, which makes the file and changes how it is journaled
    return create_engine(
        engine.url,
        creator=lambda: open_for_reading(Path(path)),
        json_deserializer=_json_or_none,
    )


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.text_factory = TEXT
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")
    # readers do not wait for the writer; but another process may just be switching, or the file be
    # read-only, and all works without
    with suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()
