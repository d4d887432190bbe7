"""INSERT … ON CONFLICT, for both databases."""

import json
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    ColumnElement,
    Dialect,
    Float,
    LargeBinary,
    Text,
    bindparam,
    cast,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tradingbot.persistence.columns import Json, UtcDateTime
from tradingbot.persistence.models import Base

Where = Callable[[Any], ColumnElement[bool]]
_Insert = sqlite.Insert | postgresql.Insert
_CHUNK = 10_000  # rows in one JSON document; Postgres accepts documents of up to 1 GB


def upsert(
    session: Session,
    model: type[Base],
    rows: Iterable[Mapping[str, Any]],
    *,
    where: Where | None = None,
) -> int:
    """Insert rows, or overwrite rows with the same primary key. Return the number of rows written.

    Args:
        session: The transaction.
        model: The table.
        rows: Column name -> value. All rows have the same columns, and only these columns are
            overwritten. At most one row per key, because Postgres refuses to write a row twice in
            one statement.
        where: Returns the condition for overwriting an existing row, given the proposed row's
            columns (`excluded`). Default: always overwrite.
    """
    ordered = _by_key(model, rows)
    if not ordered:
        return 0
    statement = _insert(session, model)
    keys = _keys(model)
    changes = {name: statement.excluded[name] for name in ordered[0] if name not in keys}
    condition = None if where is None else where(statement.excluded)
    return _execute(
        session,
        model,
        statement.on_conflict_do_update(index_elements=keys, set_=changes, where=condition),
        ordered,
    )


def insert_new(
    session: Session,
    model: type[Base],
    rows: Iterable[Mapping[str, Any]],
    *,
    over: ColumnElement[bool] | None = None,
) -> int:
    """Insert the rows whose primary key does not exist yet. Return the number of rows written.

    Args:
        session: The transaction.
        model: The table.
        rows: Column name -> value.
        over: Existing rows that match this condition are overwritten.
    """
    if over is not None:
        return upsert(session, model, rows, where=lambda _: over)
    ordered = _by_key(model, rows)
    if not ordered:
        return 0
    return _execute(session, model, _insert(session, model).on_conflict_do_nothing(), ordered)


def _insert(session: Session, model: type[Base]) -> _Insert:
    """Return the dialect's INSERT. ON CONFLICT is not standard SQL, so each dialect has its own."""
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    statement: _Insert = (sqlite if on_sqlite else postgresql).insert(model.__table__)
    return statement


def _execute(
    session: Session,
    model: type[Base],
    statement: _Insert,
    rows: list[dict[str, Any]],
) -> int:
    """Execute with RETURNING, because SQLAlchemy then packs many rows into each statement."""
    returned = statement.returning(model.__table__.c[_keys(model)[0]])
    dialect = session.get_bind().dialect
    if dialect.name == "sqlite":
        return len(session.execute(returned, rows).all())
    columns = [model.__table__.c[name] for name in rows[0]]
    parts = (rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK))
    documents = (_document(columns, part, dialect) for part in parts)
    return sum(
        len(session.execute(_from_json(columns, returned, document)).all())
        for document in documents
    )


def _from_json(columns: list[Any], statement: Any, document: str) -> Any:
    """Return the statement with all rows in one JSON document, which Postgres turns into rows.

    One parameter instead of one per value halves the CPU time of 10,000 forecasts. The stored
    values are the same: floats keep all digits, and NaN and infinity are written as text.
    """
    given = cast(bindparam(None, document, type_=Text()), postgresql.JSON)
    proposed = (
        func.json_to_recordset(given)
        .table_valued(*(column(field.name, field.type) for field in columns))
        .render_derived(name="proposed", with_types=True)
    )
    names = [field.name for field in columns]
    return statement.from_select(names, select(*(proposed.c[name] for name in names)))


def _document(columns: list[Any], rows: list[dict[str, Any]], dialect: Dialect) -> str:
    """Return the rows as JSON. Change values of `rows` in place.

    Times, bytes, NaN and infinity become text, which Postgres converts back.
    """
    for field in columns:
        if written := _written(field.type, dialect):
            for row in rows:
                if (value := row[field.name]) is not None:
                    row[field.name] = written(value)
    return orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _written(kind: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return the function that prepares a column's values for orjson, or None if none is needed."""
    if isinstance(kind, UtcDateTime):
        return lambda value: kind.process_bind_param(value, dialect).isoformat()  # type: ignore[union-attr]
    if isinstance(kind, LargeBinary):
        return lambda value: f"\\x{value.hex()}"
    if isinstance(kind, Float):
        return lambda value: value if isfinite(value) else str(value)
    if isinstance(kind, Json | JSON):  # orjson writes null for NaN, where this raises ValueError
        return lambda value: orjson.Fragment(json.dumps(value, allow_nan=False))
    return None


def _by_key(model: type[Base], rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sort by primary key. Every process locks rows in the same order, which prevents deadlocks."""
    return sorted(map(dict, rows), key=itemgetter(*_keys(model)))


def _keys(model: type[Base]) -> list[str]:
    return [column.name for column in model.__table__.primary_key]
