"""The version of the schema, and its upgrade by the migrations."""

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from tradingbot.errors import DatabaseError
from tradingbot.persistence.models import SCHEMA_VERSION
from tradingbot.persistence.url import redact
from tradingbot.settings import default_timeouts

MIGRATION_LOCK = 0x6B726F6E6F73  # "kronos": the advisory lock held by an upgrading process

VERSION_TABLE = "kronos_schema_version"
# Alembic's default name; another application may have such a table
ALEMBIC_TABLE = "alembic_version"
IN_ALEMBIC_TABLE = ("0001", "0002", "0003")  # versions of this program that used that table
OUR_TABLES = {"bots", "historic_data", "kronos_forecasts", "kronos_predictions", "run_logs"}


def schema_version(connection: Connection, *, database: str = "") -> str | None:
    """Return the version of the schema, or None if no migration has run yet.

    Args:
        connection: A connection to the database.
        database: The database's name in errors. Default: its URL without the password.

    Raises:
        DatabaseError: The schema is newer than this program.
    """
    found = _version_in(connection, VERSION_TABLE) or _version_of_before(connection)
    if found is not None and found > SCHEMA_VERSION:
        database = database or redact(connection.engine.url)
        raise DatabaseError(
            f"{database} has schema {found}, newer than {SCHEMA_VERSION},"
            " which this program knows: upgrade the program"
        )
    return found


def is_current(connection: Connection) -> bool:
    """Return whether the schema is up to date. Raise DatabaseError if it is newer."""
    schema_version(connection)
    return _version_in(connection, VERSION_TABLE) == SCHEMA_VERSION


def take_over_version(connection: Connection) -> None:
    """Move the schema's version from Alembic's default table to a table of this program.

    Earlier versions of this program used the default table. It is dropped, so that another
    application in the same database can create a table of that name.
    """
    found = _version_of_before(connection)
    if found is None:
        return
    connection.execute(
        text(
            f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL, "
            f"CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
        )
    )
    insert = text(f"INSERT INTO {VERSION_TABLE} (version_num) VALUES (:found)")
    connection.execute(insert, {"found": found})
    connection.execute(text(f"DROP TABLE {ALEMBIC_TABLE}"))


def _version_of_before(connection: Connection) -> str | None:
    """Return the version in Alembic's default table, if this program wrote it."""
    tables = table_names(connection)
    if VERSION_TABLE in tables or not tables >= OUR_TABLES:
        return None  # Alembic's default table, if any, belongs to another application
    found = _version_in(connection, ALEMBIC_TABLE)
    return found if found in IN_ALEMBIC_TABLE else None


def _version_in(connection: Connection, table: str) -> str | None:
    if not inspect(connection).has_table(table):
        return None
    versions = connection.scalars(text(f"SELECT version_num FROM {table}")).all()
    return str(versions[0]) if len(versions) == 1 else None


def table_names(connection: Connection) -> set[str]:
    """Return the names of the existing tables."""
    return set(inspect(connection).get_table_names())


def lock_out_other_processes(connection: Connection) -> None:
    """Wait for the schema's lock, and hold it until the transaction ends.

    Read the version again afterwards: another process may have changed it in the meantime.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        limit = default_timeouts().database_lock
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{limit}s'")
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})


def upgrade(connection: Connection) -> None:
    from alembic import command  # slow import, and rarely needed
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)  # its steps do not interest the user
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
