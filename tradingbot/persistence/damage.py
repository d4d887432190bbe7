"""Find damaged rows and leave them out: rows that no version of this program can have written.

An edit by hand, a faulty disk or another program can leave a row with an invalid date or a NaN
price. Such a row does not affect other rows. The sessions of `get_db_session` skip damaged rows
(`leave_out_damaged`), `damaged_rows` reports them, and storing a row with the same key replaces a
damaged row. The code that reads a JSON column checks the column's content. `damaged_rows` also
reports invalid JSON.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    Select,
    String,
    Text,
    and_,
    case,
    false,
    func,
    inspect,
    not_,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import LoaderCriteriaOption, ORMExecuteState, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import ExtendedInternalTraversal

from tradingbot.formatting import quoted
from tradingbot.persistence.columns import Base, Json
from tradingbot.persistence.models import KronosForecast, KronosPrediction, Trade
from tradingbot.persistence.row_ranges import NEWER, NUMBER, RANGES, SIDES, YEARS
from tradingbot.persistence.table_sizes import smallest_tables

logger = logging.getLogger(__name__)

EVERY_ROW = "damaged_rows_too"  # execution option of queries that also read damaged rows
ANY = ""  # key of the total number of damaged rows, among keys that are column names
_LONGEST = 500  # maximum number of characters of a text in a primary key
_OPTIONAL = ("model_revision", "bars_hash")  # columns of a primary key that are "" if unknown
_SHOWN = 5  # maximum number of names in a message
MOST = 2_000_000  # maximum number of rows to check; a million rows take about a second
_FACTORS = (1e-290, 1e290)  # the product of a price in this range and _FARTHEST is a float
_FARTHEST = 1e9  # largest ratio of a predicted close and the last close, either way


def intact(table: type[Base]) -> ColumnElement[bool]:
    """Return the condition that a row of this table is not damaged.

    For a damaged row the condition is false or NULL.
    """
    return and_(*_conditions(table).values())


def damaged(table: type[Base]) -> ColumnElement[bool]:
    """Return the condition that a row of this table is damaged. It is never NULL."""
    return _broken(_conditions(table).values())


def _broken(conditions: Iterable[ColumnElement[bool]]) -> ColumnElement[bool]:
    """Return the condition that not all of `conditions` are true. It is never NULL."""
    return not_(func.coalesce(and_(*conditions), false()))


def leave_out_damaged(state: ORMExecuteState) -> None:
    """Make a session's SELECT skip the damaged rows of each table that it reads."""
    if state.is_select and not state.execution_options.get(EVERY_ROW):
        state.statement = state.statement.options(*_criteria())


def damaged_rows(
    session: Session, tables: Iterable[type[Base]] = RANGES, *, most: float = MOST
) -> Iterator[str]:
    """Yield a sentence for each table with damaged rows.

    Tables of an older schema are skipped. The largest tables are skipped, too, if the tables have
    more than `most` rows together.
    """
    found = inspect(session.connection())
    columns_by_table = {
        name: {column["name"] for column in found.get_columns(name)}
        for name in found.get_table_names()
    }
    current = [
        table
        for table in tables
        if {*table.__table__.columns.keys()} <= columns_by_table.get(table.__tablename__, set())
    ]
    dialect = session.connection().dialect.name
    for table in smallest_tables(session, current, most):
        counts = _faults(session, table, dialect)
        if count := counts.pop(ANY):
            names = _first_names([name for name, faults in counts.items() if faults])
            tickers = _tickers(session, table, _broken(_every_condition(table, dialect).values()))
            rows = "1 row is" if count == 1 else f"{count} rows are"
            yield (
                f"{table.__tablename__}: {rows} damaged ({names}){tickers} and "
                "left out; correct or delete what no later run replaces"
            )


def warn_of_damaged_rows(
    session: Session, tables: Iterable[type[Base]] = RANGES, *, most: float = MOST
) -> None:
    """Log a warning for each table with damaged rows. The arguments are those of `damaged_rows`."""
    for sentence in damaged_rows(session, tables, most=most):
        logger.warning(sentence)


def count_damaged(session: Session, table: type[Base], *matching: ColumnElement[bool]) -> int:
    """Count the damaged rows of this table that match the conditions `matching`."""
    query = select(func.count()).select_from(table).where(damaged(table), *matching)
    return session.scalar(query, execution_options={EVERY_ROW: True}) or 0


# conditions on a row ------------------------------------------------------------------------


class _on_sqlite(FunctionElement[bool]):
    """A condition that only SQLite checks, because its columns take values of any type."""

    type = Boolean()
    inherit_cache = True


@compiles(_on_sqlite)
def _true(*_: Any, **__: Any) -> str:
    return "true"


@compiles(_on_sqlite, "sqlite")
def _condition(element: "_on_sqlite", compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)})"


class _Criterion(LoaderCriteriaOption):
    """with_loader_criteria for a constant condition.

    The cache key of a statement contains only the table. With the 500 values of all conditions,
    computing the key would take longer than the rest of a small SELECT.
    """

    _cache_key_traversal = [  # noqa: RUF012 - SQLAlchemy declares it so
        ("entity", ExtendedInternalTraversal.dp_has_cache_key)
    ]


@cache
def _criteria() -> tuple[_Criterion, ...]:
    return tuple(_Criterion(table, intact(table)) for table in RANGES)


@cache
def _conditions(table: type[Base]) -> dict[str, ColumnElement[bool]]:
    """Return the conditions on a row. The key of a condition is the column that it checks."""
    conditions = {}
    for column in table.__table__.columns:
        attribute = getattr(table, column.name)
        condition = _of_column(attribute, RANGES[table].get(column.name))
        if condition is not None and column.name not in NEWER.get(table, ()):
            nullable = column.nullable
            conditions[column.name] = or_(attribute.is_(None), condition) if nullable else condition
    return conditions | _intervals(table) | _of_forecasts(table) | _of_trades(table)


def _of_column(column: Any, bounds: tuple[float, float] | None) -> ColumnElement[bool] | None:
    """Return the condition that a value has the column's type and bounds; None for JSON."""
    if isinstance(column.type, String):
        is_text = _on_sqlite(func.typeof(column) == "text")
        if not column.primary_key:
            return is_text
        shortest = 0 if column.key in _OPTIONAL else 1
        return and_(func.length(column).between(shortest, _LONGEST), is_text)
    if isinstance(column.type, LargeBinary):
        return and_(_on_sqlite(func.typeof(column) == "blob"))
    if isinstance(column.type, Integer):
        within = column.between(*(bounds or (-(2**31), 2**31 - 1)))
        return and_(within, _on_sqlite(func.typeof(column) == "integer"))
    if isinstance(column.type, Float):
        return and_(column.between(*(bounds or NUMBER)))
    if isinstance(getattr(column.type, "impl", column.type), DateTime):
        day_and_time, fraction = func.substr(column, 1, 19), func.substr(column, 20)
        is_time = and_(
            func.datetime(day_and_time, "+0 days") == day_and_time,  # rejects a 30th of February
            or_(fraction == "", fraction.op("GLOB")(f".{'[0-9]' * 6}")),
        )
        return and_(column.between(*YEARS), _on_sqlite(is_time))
    return None


@cache
def _every_condition(table: type[Base], dialect: str) -> dict[str, ColumnElement[bool]]:
    return _conditions(table) | _of_json(table, dialect)


def _of_json(table: type[Base], dialect: str) -> dict[str, ColumnElement[bool]]:
    """Return the conditions that JSON columns contain valid JSON of the right type."""
    on_sqlite = dialect == "sqlite"
    conditions = {}
    for column in table.__table__.columns:
        if not isinstance(column.type, Json):
            continue
        attribute = type_coerce(getattr(table, column.name), Text() if on_sqlite else JSONB())
        kind = "object" if column.type.kind is dict else "array"
        found: ColumnElement[Any]
        if on_sqlite:  # asking for the type of invalid JSON raises an error
            found = case((func.json_valid(attribute) == 1, func.json_type(attribute)), else_="none")
        else:
            found = func.jsonb_typeof(attribute)
        null = or_(attribute.is_(None), found == "null") if column.nullable else false()
        conditions[column.name] = or_(null, found == kind)
    return conditions


def _intervals(table: type[Base]) -> dict[str, ColumnElement[bool]]:
    """Return the conditions that intervals have both ends, in ascending order, or neither end."""
    conditions = {}
    for column in table.__table__.columns:
        name = column.name.removesuffix("low")
        if name not in (column.name, "predicted_"):
            low, high = getattr(table, f"{name}low"), getattr(table, f"{name}high")
            both = or_(and_(low.is_(None), high.is_(None)), low <= high)
            conditions[f"{name}low and {name}high"] = both
    return conditions


def _of_forecasts(table: type[Base]) -> dict[str, ColumnElement[bool]]:
    """Return the conditions that involve several columns of a forecast."""
    if not issubclass(table, KronosPrediction | KronosForecast):
        return {}
    close, last = table.predicted_close, table.last_close
    like = and_(close <= last * _FARTHEST, last <= close * _FARTHEST)
    # CASE, because Postgres raises an error for a product that is too large for a float
    both = and_(close.between(*_FACTORS), last.between(*_FACTORS))
    like = case((both, like), else_=true())  # other prices violate the range of their own column
    return {
        "target_date before as_of": or_(table.as_of.is_(None), table.target_date > table.as_of),
        "predicted_close far from last_close": or_(last.is_(None), like),
    }


def _of_trades(table: type[Base]) -> dict[str, ColumnElement[bool]]:
    return {"side": Trade.side.in_(SIDES)} if table is Trade else {}


# messages -----------------------------------------------------------------------------------


def _faults(session: Session, table: type[Base], dialect: str) -> dict[str, int]:
    """Count the rows that violate each condition, and under ANY the rows that violate any."""
    query = _count_of_faults(table, dialect)
    found = session.execute(query, execution_options={EVERY_ROW: True}).one()
    return dict(zip((ANY, *_every_condition(table, dialect)), map(int, found), strict=True))


@cache  # building the query takes longer than executing it
def _count_of_faults(table: type[Base], dialect: str) -> Select[Any]:
    conditions = _every_condition(table, dialect)
    anything = _broken(conditions.values())
    broken = [anything, *(_broken([condition]) for condition in conditions.values())]
    counts = [func.coalesce(func.sum(case((condition, 1), else_=0)), 0) for condition in broken]
    return select(*counts).where(anything)


def _tickers(session: Session, table: type[Base], broken: ColumnElement[bool]) -> str:
    """Return " of AAPL, MSFT" if the table has tickers."""
    symbol: Any = getattr(table, "symbol", None)
    if symbol is None:
        return ""
    query = select(symbol).distinct().where(broken).order_by(symbol).limit(_SHOWN + 1)
    found = session.scalars(query, execution_options={EVERY_ROW: True}).all()
    return f" of {_first_names([quoted(name, 20) for name in found])}"


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" and others" if names[_SHOWN:] else "")
