"""Monthly partitions of the ledger, on Postgres, for tens of millions of forecasts.

The existing rows become the first partition without being copied, so that partitioning ten million
rows takes seconds. From the next month on, each month has its own partition. A run of the job
creates these partitions in advance.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from tradingbot.errors import DatabaseError
from tradingbot.persistence.models import KronosForecast
from tradingbot.persistence.schema import lock_out_other_processes

LEDGER = KronosForecast.__tablename__
AHEAD = 3  # months whose partitions are created in advance


@dataclass(frozen=True)
class Partition:
    """One partition of the ledger, with the months of `as_of` that it holds."""

    name: str
    bound: str  # in Postgres's notation: FOR VALUES FROM (…) TO (…)
    rows: int  # Postgres's estimate


def partition_ledger(connection: Connection, now: datetime) -> None:
    """Make the ledger a partitioned table, in the transaction of `connection`.

    Do nothing if it is partitioned already.

    Raises:
        DatabaseError: The database is not Postgres, or a view reads the table.
    """
    if connection.dialect.name != "postgresql":
        raise DatabaseError("only Postgres has partitions; a SQLite file needs none")
    lock_out_other_processes(connection)  # another process may be doing the same
    if is_partitioned(connection):
        return
    if views := _views(connection):
        raise DatabaseError(
            f"{', '.join(views)} would show only the forecasts stored until now: drop it first, "
            "and create it again afterwards"
        )
    connection.execute(text(f"LOCK TABLE {LEDGER} IN ACCESS EXCLUSIVE MODE"))
    newest = connection.scalar(text(f"SELECT max(as_of) FROM {LEDGER}"))
    until = _next_month(max(filter(None, (now, newest))))
    old = f"{LEDGER}_before_{until:%Y_%m}"
    granted = _grants(connection)
    connection.execute(text(f"ALTER TABLE {LEDGER} RENAME TO {old}"))
    for index in _indexes(connection, old):  # the new table's indexes need the old names
        connection.execute(text(f'ALTER INDEX "{index}" RENAME TO "{index}_before_{until:%Y_%m}"'))
    connection.execute(
        text(f"CREATE TABLE {LEDGER} (LIKE {old} INCLUDING ALL) PARTITION BY RANGE (as_of)")
    )
    for statement in granted:
        connection.execute(text(statement))
    connection.execute(
        text(
            f"ALTER TABLE {LEDGER} ATTACH PARTITION {old}"
            f" FOR VALUES FROM (MINVALUE) TO ('{until:%Y-%m-%d}')"
        )
    )
    add_partitions(connection, now)


def add_partitions(connection: Connection, now: datetime) -> list[str]:
    """Create the partitions up to `AHEAD` months from `now`. Return the names of the new ones.

    Do nothing if the ledger is not partitioned.
    """
    if not is_partitioned(connection):
        return []
    last = _months_on(now, AHEAD)
    if _end(connection) > last:
        return []
    lock_out_other_processes(connection)  # another process may have just created them
    start, made = _end(connection), []
    while start <= last:
        end, name = _next_month(start), f"{LEDGER}_{start:%Y_%m}"
        connection.execute(
            text(
                f"CREATE TABLE {name} PARTITION OF {LEDGER}"
                f" FOR VALUES FROM ('{start:%Y-%m-%d}') TO ('{end:%Y-%m-%d}')"
            )
        )
        made.append(name)
        start = end
    return made


def is_partitioned(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return False
    kind = text("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(:ledger)")
    return bool(connection.scalar(kind, {"ledger": LEDGER}))


def partitions(connection: Connection) -> list[Partition]:
    """Return the partitions of the ledger, oldest first."""
    found = connection.execute(
        text(
            "SELECT child.relname, pg_get_expr(child.relpartbound, child.oid),"
            " greatest(child.reltuples, 0)::bigint"
            " FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
            " WHERE inhparent = to_regclass(:ledger) "
            " ORDER BY pg_get_expr(child.relpartbound, child.oid) ~ 'MINVALUE' DESC, child.relname"
        ),
        {"ledger": LEDGER},
    )
    return [Partition(*row) for row in found]


def _end(connection: Connection) -> datetime:
    """Return the end of the last partition."""
    bounds = (
        re.search(r"TO \('([^']+)'\)", partition.bound) for partition in partitions(connection)
    )
    return max(datetime.fromisoformat(bound[1]) for bound in bounds if bound)


def _views(connection: Connection) -> list[str]:
    """Return the views that read the ledger. They refer to the table itself, not to its name."""
    found = connection.scalars(
        text(
            "SELECT DISTINCT view.oid::regclass::text FROM pg_depend"
            " JOIN pg_rewrite ON pg_rewrite.oid = pg_depend.objid"
            " JOIN pg_class view ON view.oid = pg_rewrite.ev_class"
            " WHERE pg_depend.classid = 'pg_rewrite'::regclass"
            " AND pg_depend.refobjid = to_regclass(:ledger) ORDER BY 1"
        ),
        {"ledger": LEDGER},
    )
    return list(found)


def _grants(connection: Connection) -> list[str]:
    """Return statements that grant other users their current rights on the ledger."""
    found = connection.scalars(
        text(
            "SELECT format('GRANT %s ON %I TO %s%s', privilege_type, CAST(:ledger AS text),"
            " CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,"
            " CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
            " FROM pg_class, aclexplode(relacl)"
            " WHERE pg_class.oid = to_regclass(:ledger) AND grantee <> relowner"
        ),
        {"ledger": LEDGER},
    )
    return list(found)


def _indexes(connection: Connection, table: str) -> list[str]:
    found = connection.scalars(
        text(
            "SELECT index.relname FROM pg_index JOIN pg_class index ON index.oid = indexrelid"
            " WHERE indrelid = to_regclass(:table)"
        ),
        {"table": table},
    )
    return list(found)


def _next_month(day: datetime) -> datetime:
    return _months_on(day, 1)


def _months_on(day: datetime, months: int) -> datetime:
    """Return the first day of the month that is `months` after that of `day`."""
    month = day.year * 12 + day.month - 1 + months
    return datetime(month // 12, month % 12 + 1, 1)
