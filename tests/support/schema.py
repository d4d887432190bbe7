"""Create test databases fast: repeat the schema, and compile each statement once per worker.

Alembic takes about 50 ms to create the schema, and half of all tests create a database. This module
executes the statements of a finished SQLite schema instead, in 2 ms. Postgres copies a database
with the schema (`postgres_url` in conftest.py). A database with tables in it is upgraded by the
migrations themselves, as is every database of a test with the marker `migrations`.

SQLAlchemy compiles statements for each engine, and each test creates an engine. Engines of
`compiling_once` share the compiled statements.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, text

from tradingbot.persistence.schema import VERSION_TABLE, table_names, upgrade


def compiling_once(create_engine: Callable[..., Engine]) -> Callable[..., Engine]:
    """Wrap `create_engine` so that its engines share compiled statements."""
    return partial(create_engine, execution_options={"compiled_cache": _CompiledOnce()})


class _CompiledOnce(dict[tuple[Any, ...], Any]):
    """A `compiled_cache` for all engines of one driver, whose dialects differ only by identity."""

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return super().get(self._of_all(key), default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        super().__setitem__(self._of_all(key), compiled)

    @staticmethod
    def _of_all(key: tuple[Any, ...]) -> tuple[Any, ...]:
        dialect, *rest = key
        return (dialect.name, dialect.driver, *rest)


_finished: list[str] = []  # statements that create a SQLite database with the current schema


def upgrade_at_once(connection: Connection) -> None:
    """Create the same schema as `tradingbot.persistence.schema.upgrade`, faster on SQLite."""
    if connection.dialect.name != "sqlite" or table_names(connection):
        upgrade(connection)
    elif _finished:
        with closing(connection.connection.cursor()) as cursor:
            for statement in _finished:
                cursor.execute(statement)
    else:
        upgrade(connection)
        _finished.extend(_statements_of_schema(connection))


def _statements_of_schema(connection: Connection) -> list[str]:
    query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    version = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return [
        *connection.scalars(text(query)),
        f"INSERT INTO {VERSION_TABLE} VALUES ('{version}')",
    ]
