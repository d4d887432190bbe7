"""The schema at once: what the migrations execute on an empty database is kept, and repeated.

Alembic takes some 50 ms for it, and half of all tests make a database. A database with tables in it
is upgraded by the migrations themselves; so is every one where a test carries the marker
`migrations`.
"""

from contextlib import closing
from typing import Any

from sqlalchemy import Connection, event

from tradingbot.persistence.schema import table_names, upgrade

_kept: dict[str, list[tuple[str, Any]]] = {}  # statements and their parameters, by dialect


def upgrade_at_once(connection: Connection) -> None:
    """In the place of `tradingbot.persistence.schema.upgrade`: the same schema, sooner."""
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
