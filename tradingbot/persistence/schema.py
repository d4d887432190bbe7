"""The schema: which version it has, and its upgrade by the migrations."""

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from tradingbot.errors import DatabaseError
from tradingbot.persistence.models import SCHEMA_VERSION
from tradingbot.persistence.url import redact
from tradingbot.settings import default_timeouts

MIGRATION_LOCK = 0x6B726F6E6F73  # "kronos": the advisory lock that one upgrading process holds


def schema_version(connection: Connection, *, database: str = "") -> str | None:
    """Return the version of the schema; None where no migration has run yet.

    Args:
        database: How errors call the database. Default: its URL without the password.

    Raises:
        DatabaseError: The schema is newer than this program.
    """
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found is not None and found > SCHEMA_VERSION:
        database = database or redact(connection.engine.url)
        raise DatabaseError(
            f"{database} has schema {found}, newer than {SCHEMA_VERSION},"
            " which this program knows: upgrade the program"
        )
    return found


def table_names(connection: Connection) -> set[str]:
    """Return the names of the tables that there are."""
    return set(inspect(connection).get_table_names())


def lock_out_other_processes(connection: Connection) -> None:
    """Until the transaction ends; the version may have changed while waiting."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        limit = default_timeouts().database_lock
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{limit}s'")
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})


def upgrade(connection: Connection) -> None:
    from alembic import command  # slow to import, and seldom needed
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)  # its steps are no news to the user
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
