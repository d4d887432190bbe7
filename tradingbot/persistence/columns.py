"""Column types of the tables, and the base class of the models."""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, MetaData, TypeDecorator
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine


def json_or_none(text: Any) -> Any:
    """Parse JSON. Return None for JSON that is nested too deeply, or invalid (as SQLite allows)."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def to_json(value: Any) -> str:
    """Return JSON without \\uXXXX escapes, because not every database can read all of them.

    Only a half of a surrogate pair is escaped, because no encoding can represent it.
    """
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


class UtcDateTime(TypeDecorator[datetime]):
    """Naive UTC. A time with a zone is converted when it is written."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is not None and value.tzinfo is not None:
            return value.astimezone(UTC).replace(tzinfo=None)
        return value


class BarTime(UtcDateTime):
    """The time of a bar: naive UTC, truncated to the second."""

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":  # stored as text: `2024-01-02 00:00:00`
            make: Any = sqlite.DATETIME  # untyped
            kind: TypeEngine[Any] = make(truncate_microseconds=True)
            return dialect.type_descriptor(kind)
        return dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        value = super().process_bind_param(value, dialect)
        return None if value is None else value.replace(microsecond=0)


class Json(TypeDecorator[Any]):
    """A JSON object or list. A stored value of another type is read as an empty object or list."""

    impl = JSON
    cache_ok = True

    def __init__(self, kind: type[Any], *, nullable: bool = False) -> None:
        """Read an empty dict or list (`kind`) for an invalid value, or None if nullable."""
        super().__init__(none_as_null=nullable)
        self.kind = kind
        self.nullable = nullable

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        make = postgresql.JSONB if dialect.name == "postgresql" else JSON
        return dialect.type_descriptor(make(none_as_null=self.nullable))

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return value if isinstance(value, self.kind) else None if self.nullable else self.kind()


JsonOfMoney = JSON().with_variant(postgresql.JSONB(), "postgresql")  # read as stored
JsonObject = Json(dict)
JsonOrNull = Json(dict, nullable=True)


class Base(DeclarativeBase):
    # explicit names, so that migrations can refer to constraints on both databases
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )


def columns_of(table: type[Base]) -> list[Any]:
    """Return all columns, for a SELECT of plain rows."""
    return [getattr(table, column.key) for column in table.__table__.columns]


def primary_key_of(table: type[Base]) -> list[Any]:
    """Return the columns of the primary key."""
    return [getattr(table, column.key) for column in table.__table__.primary_key]
