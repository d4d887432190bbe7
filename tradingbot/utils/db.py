"""Where the database is, and how to reach it; what lies in it is in `tables.py`.

    with get_db_session() as session:       # one transaction
        session.query(KronosPrediction).filter_by(symbol="SPY").all()

Postgres in production, SQLite as the embedded default. The first session of a process brings the
schema up to date, so nothing needs to be called before it.
"""

import logging
import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    StaticPool,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import (
    ArgumentError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.orm import Session

from tradingbot.utils.errors import ConfigError, DatabaseError
from tradingbot.utils.tables import (
    SCHEMA_VERSION,
    Base,
    BotRow,
    HistoricData,
    KronosForecast,
    KronosPrediction,
    RunLog,
    Trade,
)

__all__ = [
    "Base",
    "BotRow",
    "HistoricData",
    "KronosForecast",
    "KronosPrediction",
    "RunLog",
    "Trade",
    "database_url",
    "dispose_engines",
    "get_db_session",
    "get_engine",
    "init_db",
    "redact",
]

DEFAULT_URL = "sqlite:///kronos.db"
CONNECT_TIMEOUT = 10  # seconds until an address that does not answer counts as out of reach
LOCK_TIMEOUT = 60  # seconds to wait for another process that writes (SQLite) or upgrades
MIGRATION_LOCK = 0x6B726F6E6F73  # "kronos": the advisory lock that one upgrading process holds


@contextmanager
def get_db_session(url: str | None = None, *, create: bool = True) -> Iterator[Session]:
    """A session on the configured database: commits at the end, rolls back on an exception.

    Objects stay readable after the block. With `create=False` the schema is left as it is, for who
    only reads: tables may be missing. Raises DatabaseError when the database is out of reach,
    also in the middle of the block.
    """
    engine = get_engine(url)
    if create and engine not in _ready:
        init_db(url)
    try:
        with Session(engine, expire_on_commit=False) as session:
            yield session
            session.commit()
    except (OperationalError, InterfaceError) as error:
        raise _unreachable(engine.url, error) from error


def init_db(url: str | None = None) -> Engine:
    """Creates the schema, or upgrades it; quick when it is current.

    Safe to call from several processes at once: one upgrades, the others wait. All or nothing: an
    upgrade that fails leaves the database as it was.
    """
    engine = get_engine(url)
    try:
        with engine.connect() as connection:
            version = _schema_version(connection)
        if version != SCHEMA_VERSION:
            with _process_lock, engine.begin() as connection:
                _lock_out_other_processes(connection)
                _upgrade(connection)
    except SQLAlchemyError as error:
        raise _unreachable(engine.url, error) from error
    _ready.add(engine)
    return engine


def database_url(environ: Mapping[str, str] = os.environ) -> str:
    """DATABASE_URL, else POSTGRES_URI, else POSTGRES_HOST and its kin, else `sqlite:///kronos.db`.

    An empty variable counts as missing. Raises ConfigError.
    """
    for name in ("DATABASE_URL", "POSTGRES_URI"):
        if given := environ.get(name, "").strip():
            return _parsed(given, name).render_as_string(hide_password=False)
    host = environ.get("POSTGRES_HOST")
    if host:
        return URL.create(
            "postgresql+psycopg2",
            host=host,
            port=_port(environ.get("POSTGRES_PORT", "")),
            username=environ.get("POSTGRES_USER") or None,
            password=environ.get("POSTGRES_PASSWORD") or None,
            database=environ.get("POSTGRES_DATABASE") or None,
        ).render_as_string(hide_password=False)
    # better no run than one that writes into a file nobody looks at
    for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DATABASE"):
        if environ.get(name):
            raise ConfigError(f"{name} is set but POSTGRES_HOST is not: set it, or DATABASE_URL")
    return DEFAULT_URL


def get_engine(url: str | None = None) -> Engine:
    """This process's one engine for a URL, by default the configured one. Connects to nothing."""
    address = _anchored(_parsed(url or database_url(), "the database URL"))
    key = (os.getpid(), address.render_as_string(hide_password=False))  # a fork needs its own
    with _process_lock:
        if key not in _engines:
            _engines[key] = _create_engine(address)
        return _engines[key]


def dispose_engines() -> None:
    """Closes every connection of this process; the next use opens new ones."""
    with _process_lock:
        for engine in _engines.values():
            engine.dispose()
        _engines.clear()
        _ready.clear()


def redact(url: str | URL) -> str:
    """The URL without its password, for messages."""
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        return "(unreadable URL)"
    if _has_stray_at(address):
        return "(unreadable URL)"
    secrets = [name for name in address.query if "password" in name]
    return address.difference_update_query(secrets).render_as_string(hide_password=True)


_engines: dict[tuple[int, str], Engine] = {}
_ready: set[Engine] = set()  # those whose schema this process has seen to be current
_process_lock = threading.RLock()  # also because Alembic keeps its state in globals


def _parsed(url: str, source: str) -> URL:
    """SQLAlchemy 2.1 would take psycopg 3 for a bare Postgres URL; here it is psycopg2."""
    try:
        address = make_url(re.sub(r"^postgres://", "postgresql://", url))
    except (ArgumentError, ValueError):  # its text would repeat the password
        raise ConfigError(
            f"{source} cannot be read: expected postgresql://user:password@host:5432/database"
            " or sqlite:///file.db (write odd characters of a password as %XX)"
        ) from None
    if _has_stray_at(address):
        raise ConfigError(f"{source} has an @ too many: write @ in a password as %40")
    if address.drivername == "postgresql":
        return address.set(drivername="postgresql+psycopg2")
    return address


def _has_stray_at(address: URL) -> bool:
    """A password with a bare @ ends there for the parser; the rest of it would pass as the host."""
    if address.get_backend_name() == "sqlite":  # a file may be called so
        return False
    return any("@" in part for part in (address.host or "", address.database or ""))


def _anchored(address: URL) -> URL:
    """An absolute path for SQLite: a later chdir must not lead to another file."""
    path = address.database or ""
    if address.get_backend_name() != "sqlite" or _in_memory(address) or path.startswith("file:"):
        return address
    return address.set(database=str(Path(path).absolute()))


def _in_memory(address: URL) -> bool:
    return address.database in (None, "", ":memory:")


def _port(value: str) -> int | None:
    # Kubernetes sets POSTGRES_PORT=tcp://10.0.0.7:5432 beside a service named postgres
    digits = value.rpartition(":")[2] if value.startswith("tcp://") else value
    if not digits:
        return None
    if not digits.isdecimal() or not 0 < int(digits) < 65536:
        raise ConfigError(f"POSTGRES_PORT={value!r}: expected a whole number from 1 to 65535")
    return int(digits)


def _create_engine(address: URL) -> Engine:
    backend, driver = address.get_backend_name(), address.drivername
    if backend not in ("postgresql", "sqlite"):
        raise ConfigError(
            f"{redact(address)}: databases of the kind {driver!r} are not supported;"
            " use a postgresql:// or sqlite:/// URL"
        )
    options: dict[str, Any] = {}
    if backend == "sqlite":
        options["connect_args"] = {"timeout": LOCK_TIMEOUT}
        if _in_memory(address):  # else every thread would get a database of its own
            options["poolclass"] = StaticPool
            options["connect_args"]["check_same_thread"] = False
    else:
        options["pool_pre_ping"] = True  # a run is long, and a database may restart meanwhile
        if "psycopg" in driver and "connect_timeout" not in address.query:
            options["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT}
    try:
        engine = create_engine(address, **options)
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"{redact(address)}: there is no driver {driver!r} here;"
            f" install it, or use a plain {backend}:// URL"
        ) from error
    if backend == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")
    # readers do not wait for the writer; but another process may just be switching, or the file be
    # read-only, and all works without
    with suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _schema_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found is not None and found > SCHEMA_VERSION:
        raise DatabaseError(
            f"{redact(connection.engine.url)} has schema {found}, newer than {SCHEMA_VERSION},"
            " which this program knows: upgrade the program"
        )
    return found


def _lock_out_other_processes(connection: Connection) -> None:
    """Until the transaction ends; the version may have changed while waiting."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})


def _upgrade(connection: Connection) -> None:
    from alembic import command  # slow to import, and seldom needed
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)  # its steps are no news to the user
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _unreachable(address: URL, error: SQLAlchemyError) -> DatabaseError:
    """One line: which database, what it said, the way out."""
    said = _without_password(address, " ".join(str(getattr(error, "orig", None) or error).split()))
    if "locked" in said or "lock timeout" in said:
        way_out = "another process holds it; try again when that is done"
    elif address.get_backend_name() == "sqlite":
        way_out = "is its folder there and writable? Else set DATABASE_URL"
    else:
        way_out = "is the server up, and is DATABASE_URL (or POSTGRES_*) right?"
    return DatabaseError(f"database {redact(address)}: {said}; {way_out}")


def _without_password(address: URL, text: str) -> str:
    text = text.replace(address.render_as_string(hide_password=False), redact(address))
    for password in (address.password, address.query.get("password")):
        # a short one is part of many a word, and hiding it there would show what it is
        if isinstance(password, str) and len(password) >= 4:
            text = re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "***", text)
    return text
