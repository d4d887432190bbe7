"""Choose tables that are small enough to be read whole."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from sqlalchemy import text
from sqlalchemy.orm import Session

from tradingbot.persistence.columns import Base


def smallest_tables(
    session: Session, tables: Sequence[type[Base]], most: float
) -> Iterator[type[Base]]:
    """Yield as many of the smallest tables as have at most `most` rows together."""
    rows = {table: _rows(session, table) for table in tables}
    totals = accumulate(sorted(rows.values()))
    small = sorted(tables, key=rows.__getitem__)[: sum(total <= most for total in totals)]
    yield from (table for table in tables if table in small)


def _rows(session: Session, table: type[Base]) -> int:
    """Return about how many rows the table has.

    On Postgres it is the server's estimate, including partitions. On SQLite it is an upper bound.
    """
    if session.connection().dialect.name != "postgresql":
        return session.scalar(text(f"SELECT max(rowid) FROM {table.__tablename__}")) or 0
    estimate = text(
        "SELECT sum(greatest(reltuples, 0)) FROM pg_class WHERE oid = to_regclass(:name)"
        " OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(:name))"
    )
    return int(session.scalar(estimate, {"name": table.__tablename__}) or 0)
