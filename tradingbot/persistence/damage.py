"""Damaged rows: they hold what no version of this program can have written, and nobody reads them.

An edit by hand, a faulty disk or another program can leave a row whose date is no date or whose
price is NaN. Such a row affects only itself: the sessions of `get_db_session` leave it out
(`leave_out_damaged`), `damaged_rows` tells of it, and a row that is stored with its key replaces
it. What stands in columns of JSON is checked by its reader.
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
    String,
    and_,
    case,
    false,
    func,
    inspect,
    not_,
    or_,
    select,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import LoaderCriteriaOption, ORMExecuteState, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import ExtendedInternalTraversal

from tradingbot.formatting import quoted
from tradingbot.persistence.columns import Base
from tradingbot.persistence.models import KronosForecast, KronosPrediction, Trade
from tradingbot.persistence.row_ranges import NEWER, NUMBER, RANGES, SIDES, YEARS

logger = logging.getLogger(__name__)

EVERY_ROW = "damaged_rows_too"  # the execution option of who reads the damaged ones as well
_LONGEST = 500  # characters of a text in a key
_OPTIONAL = ("model_revision", "bars_hash")  # of a key: "" where they are not known
_SHOWN = 5  # names in a sentence
_LARGE = 2_000_000  # rows; counting the damaged ones takes a second for each million
_FARTHEST = 1e9  # times the last close


def intact(table: type[Base]) -> ColumnElement[bool]:
    """Return the condition under which a row of this table is not damaged; NULL where it is."""
    return and_(*_conditions(table).values())


def damaged(table: type[Base]) -> ColumnElement[bool]:
    """Return the condition under which a row of this table is damaged; never NULL."""
    return not_(func.coalesce(intact(table), false()))


def leave_out_damaged(state: ORMExecuteState) -> None:
    """Make a session's SELECT skip the damaged rows of each table that it reads."""
    if state.is_select and not state.execution_options.get(EVERY_ROW):
        state.statement = state.statement.options(*_criteria())


def damaged_rows(session: Session, tables: Iterable[type[Base]] = RANGES) -> Iterator[str]:
    """Yield a sentence for each table with damaged rows.

    Tables of an older schema are skipped, and those too large to be read each time.
    """
    found = inspect(session.connection())
    there = {
        name: {one["name"] for one in found.get_columns(name)} for name in found.get_table_names()
    }
    for table in tables:
        if not there.get(table.__tablename__, set()) >= {*table.__table__.columns.keys()}:
            continue
        if _rows(session, table) > _LARGE:
            continue
        if count := count_damaged(session, table):
            columns = _some(_damaged_columns(session, table))
            rows = "1 row is" if count == 1 else f"{count} rows are"
            yield (
                f"{table.__tablename__}: {rows} damaged ({columns}){_tickers(session, table)} and "
                "left out; correct or delete what no later run replaces"
            )


def warn_of_damaged_rows(session: Session, tables: Iterable[type[Base]] = RANGES) -> None:
    """Log a warning for each table with damaged rows."""
    for sentence in damaged_rows(session, tables):
        logger.warning(sentence)


def count_damaged(session: Session, table: type[Base], *matching: ColumnElement[bool]) -> int:
    """Return how many rows of this table are damaged, of those that match."""
    query = select(func.count()).select_from(table).where(damaged(table), *matching)
    return session.scalar(query, execution_options={EVERY_ROW: True}) or 0


def _rows(session: Session, table: type[Base]) -> int:
    """How many rows Postgres estimates, its partitions' too; 0 on SQLite, where files are small."""
    if session.connection().dialect.name != "postgresql":
        return 0
    estimate = text(
        "SELECT sum(greatest(reltuples, 0)) FROM pg_class WHERE oid = to_regclass(:name)"
        " OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(:name))"
    )
    return int(session.scalar(estimate, {"name": table.__tablename__}) or 0)


# what a row must be -------------------------------------------------------------------------


class _on_sqlite(FunctionElement[bool]):
    """Its condition on SQLite, where a column takes a value of any type; true elsewhere."""

    type = Boolean()
    inherit_cache = True


@compiles(_on_sqlite)
def _true(*_: Any, **__: Any) -> str:
    return "true"


@compiles(_on_sqlite, "sqlite")
def _condition(element: "_on_sqlite", compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)})"


class _Criterion(LoaderCriteriaOption):
    """with_loader_criteria, for a condition that never changes.

    The key of a compiled statement holds only its table. With the 500 values of all conditions in
    it, making that key takes longer than everything else a small SELECT does.
    """

    _cache_key_traversal = [  # noqa: RUF012 - SQLAlchemy declares it so
        ("entity", ExtendedInternalTraversal.dp_has_cache_key)
    ]


@cache
def _criteria() -> tuple[_Criterion, ...]:
    return tuple(_Criterion(table, intact(table)) for table in RANGES)


@cache
def _conditions(table: type[Base]) -> dict[str, ColumnElement[bool]]:
    """What must be true of a row, by the column that is at fault where it is not."""
    conditions = {}
    for column in table.__table__.columns:
        attribute = getattr(table, column.name)
        condition = _of_column(attribute, RANGES[table].get(column.name))
        if condition is not None and column.name not in NEWER.get(table, ()):
            nullable = column.nullable
            conditions[column.name] = or_(attribute.is_(None), condition) if nullable else condition
    return conditions | _intervals(table) | _of_forecasts(table) | _of_trades(table)


def _of_column(column: Any, bounds: tuple[float, float] | None) -> ColumnElement[bool] | None:
    """That a value is of the column's type and within the bounds; None: of JSON nothing is said."""
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
            func.datetime(day_and_time, "+0 days") == day_and_time,  # no 30th of February
            or_(fraction == "", fraction.op("GLOB")(f".{'[0-9]' * 6}")),
        )
        return and_(column.between(*YEARS), _on_sqlite(is_time))
    return None


def _intervals(table: type[Base]) -> dict[str, ColumnElement[bool]]:
    """That an interval has both ends or none, in their order."""
    conditions = {}
    for column in table.__table__.columns:
        name = column.name.removesuffix("low")
        if name not in (column.name, "predicted_"):
            low, high = getattr(table, f"{name}low"), getattr(table, f"{name}high")
            both = or_(and_(low.is_(None), high.is_(None)), low <= high)
            conditions[f"{name}low beside {name}high"] = both
    return conditions


def _of_forecasts(table: type[Base]) -> dict[str, ColumnElement[bool]]:
    """What the columns of a forecast say together."""
    if not issubclass(table, KronosPrediction | KronosForecast):
        return {}
    close, last = table.predicted_close, table.last_close
    like = and_(close <= last * _FARTHEST, last <= close * _FARTHEST)
    return {
        "target_date before as_of": or_(table.as_of.is_(None), table.target_date > table.as_of),
        "predicted_close far from last_close": or_(last.is_(None), like),
    }


def _of_trades(table: type[Base]) -> dict[str, ColumnElement[bool]]:
    return {"side": Trade.side.in_(SIDES)} if table is Trade else {}


# what is said of them -----------------------------------------------------------------------


def _damaged_columns(session: Session, table: type[Base]) -> list[str]:
    every = _conditions(table)
    counts = [
        func.sum(case((not_(func.coalesce(one, false())), 1), else_=0)) for one in every.values()
    ]
    found = session.execute(
        select(*counts).where(damaged(table)), execution_options={EVERY_ROW: True}
    ).one()
    return [name for name, count in zip(every, found, strict=True) if count]


def _tickers(session: Session, table: type[Base]) -> str:
    """' of AAPL, MSFT', where the table has tickers."""
    symbol: Any = getattr(table, "symbol", None)
    if symbol is None:
        return ""
    query = select(symbol).distinct().where(damaged(table)).order_by(symbol).limit(_SHOWN + 1)
    found = session.scalars(query, execution_options={EVERY_ROW: True}).all()
    return f" of {_some([quoted(name, 20) for name in found])}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" and others" if names[_SHOWN:] else "")
