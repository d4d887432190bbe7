"""A hash of the candles of each forecast, and the splits known to a source.

The hash becomes part of the ledger's key: a forecast from corrected candles is another vintage.
Existing rows have no hash.

Revision ID: 0004
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import sqlite

revision = "0004"
down_revision = "0003"

_sqlite_time: Any = sqlite.DATETIME  # which has no annotations
BAR_TIME = sa.DateTime().with_variant(_sqlite_time(truncate_microseconds=True), "sqlite")
KEY = ["symbol", "interval", "model_name", "as_of", "target_date", "bars_hash"]


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if not _has_hash(inspector, "kronos_predictions"):
        op.add_column("kronos_predictions", sa.Column("bars_hash", sa.String()))
    if not _has_hash(inspector, "kronos_forecasts"):
        _extend_ledger(inspector)
    if not inspector.has_table("historic_splits"):
        op.create_table(
            "historic_splits",
            sa.Column("symbol", sa.String(), primary_key=True),
            sa.Column("day", BAR_TIME, primary_key=True),
            sa.Column("ratio", sa.Double(), nullable=False),
        )


def _has_hash(inspector: sa.Inspector, table: str) -> bool:
    return "bars_hash" in {column["name"] for column in inspector.get_columns(table)}


def _extend_ledger(inspector: sa.Inspector) -> None:
    new = sa.Column("bars_hash", sa.String(), nullable=False, server_default="")
    if op.get_bind().dialect.name == "sqlite":
        _copied_with(new)
        return
    name = inspector.get_pk_constraint("kronos_forecasts")["name"]
    op.add_column("kronos_forecasts", new)
    op.drop_constraint(str(name), "kronos_forecasts", type_="primary")
    op.create_primary_key("pk_kronos_forecasts", "kronos_forecasts", KEY)


def _copied_with(new: sa.Column[str]) -> None:
    """Copy the rows into a table with the new key, because SQLite cannot change a key in place."""
    old = sa.Table("kronos_forecasts", sa.MetaData(), autoload_with=op.get_bind())
    names = [column.name for column in old.columns]
    op.rename_table("kronos_forecasts", "kronos_forecasts_before")
    kept = [
        sa.Column(
            column.name, column.type, nullable=column.nullable, server_default=column.server_default
        )
        for column in old.columns
    ]
    op.create_table(
        "kronos_forecasts", *kept, new, sa.PrimaryKeyConstraint(*KEY, name="pk_kronos_forecasts")
    )
    before = sa.table("kronos_forecasts_before", *(sa.column(name) for name in names))
    after = sa.table("kronos_forecasts", *(sa.column(name) for name in names))
    op.execute(after.insert().from_select(names, sa.select(*before.columns)))
    op.drop_table("kronos_forecasts_before")
