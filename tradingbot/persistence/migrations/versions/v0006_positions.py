"""The basis of bots' quantities, the bots' values, and bookings other than trades.

Revision ID: 0006
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0006"
down_revision = "0005"

_sqlite_time: Any = sqlite.DATETIME  # which has no annotations
BAR_TIME = sa.DateTime().with_variant(_sqlite_time(truncate_microseconds=True), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if "note" not in {column["name"] for column in inspector.get_columns("trades")}:
        op.add_column("trades", sa.Column("note", sa.String()))
    if not inspector.has_table("bot_positions"):
        op.create_table(
            "bot_positions",
            sa.Column("bot_name", sa.String(), sa.ForeignKey("bots.name"), primary_key=True),
            sa.Column("symbol", sa.String(), primary_key=True),
            sa.Column("quantity", sa.Double(), nullable=False),
            sa.Column("as_of", BAR_TIME, nullable=False),
            sa.Column("interval", sa.String(), nullable=False),
            sa.Column("closes", JSON, nullable=False),
        )
    if not inspector.has_table("bot_values"):
        op.create_table(
            "bot_values",
            sa.Column("bot_name", sa.String(), sa.ForeignKey("bots.name"), primary_key=True),
            sa.Column("at", BAR_TIME, primary_key=True),
            sa.Column("cash", sa.Double(), nullable=False),
            sa.Column("value", sa.Double(), nullable=False),
        )
