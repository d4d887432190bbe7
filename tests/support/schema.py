"""Create test databases fast: replay the schema, and compile each statement once a worker.

Alembic takes about 50 ms to create the schema, and half of all tests create a database. This module
records the statements that the migrations execute on an empty database, and repeats them. A
database with tables in it is upgraded by the migrations themselves, as is every database of a test
with the marker `migrations`.

SQLAlchemy compiles statements for each engine, and each test creates an engine. Engines of
`compiling_once` share the compiled statements.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, event

from tradingbot.persistence.schema import table_names, upgrade


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


_kept: dict[str, list[tuple[str, Any]]] = {}  # dialect -> statements and their parameters


def upgrade_at_once(connection: Connection) -> None:
    """Create the same schema as `tradingbot.persistence.schema.upgrade`, faster."""
    dialect = connection.dialect.name
    if table_names(connection):
        upgrade(connection)
    elif dialect in _kept:
        with closing(connection.connection.cursor()) as cursor:
            for statement, parameters in _kept[dialect]:
                cursor.execute(statement, parameters)
    else:
        _kept[dialect] = _executed_by_upgrade(connection)


def _executed_by_upgrade(connection: Connection) -> list[tuple[str, Any]]:
    executed: list[tuple[str, Any]] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.lstrip().startswith(("SELECT", "PRAGMA")):
            executed.append((statement, parameters))

    event.listen(connection, "after_cursor_execute", keep)
    try:
        upgrade(connection)
    finally:
        event.remove(connection, "after_cursor_execute", keep)
    return executed
