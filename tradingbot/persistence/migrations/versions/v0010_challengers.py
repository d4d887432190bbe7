"""Forecasts of challengers in the ledger, and the state of their trials.

Existing rows were served to bots and have no challenger.

Revision ID: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

JSON_OBJECT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    for table, column in (
        (
            "kronos_forecasts",
            sa.Column("challenger", sa.Boolean(), nullable=False, server_default=sa.false()),
        ),
        ("kronos_combinations", sa.Column("challengers", JSON_OBJECT)),
    ):
        known = {column["name"] for column in inspector.get_columns(table)}
        if column.name not in known:  # else the version's table was restored from an older backup
            op.add_column(table, column)
