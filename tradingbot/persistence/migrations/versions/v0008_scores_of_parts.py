"""Scores of raw, calibrated and combined forecasts, in addition to those of served forecasts.

Existing rows are scores of served forecasts.

Revision ID: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

KEY = ["model_name", "model_revision", "interval", "symbol", "step", "last_sessions", "forecast"]


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if "forecast" in {column["name"] for column in inspector.get_columns("kronos_scores")}:
        return  # the version's table was restored from an older backup
    new = sa.Column("forecast", sa.String(), nullable=False, server_default="served")
    if op.get_bind().dialect.name == "sqlite":
        _copied_with(new)
        return
    name = inspector.get_pk_constraint("kronos_scores")["name"]
    op.add_column("kronos_scores", new)
    op.drop_constraint(str(name), "kronos_scores", type_="primary")
    op.create_primary_key("pk_kronos_scores", "kronos_scores", KEY)


def _copied_with(new: sa.Column[str]) -> None:
    """Copy the rows into a table with the new key, because SQLite cannot change a key in place."""
    old = sa.Table("kronos_scores", sa.MetaData(), autoload_with=op.get_bind())
    names = [column.name for column in old.columns]
    op.rename_table("kronos_scores", "kronos_scores_before")
    kept = [
        sa.Column(
            column.name, column.type, nullable=column.nullable, server_default=column.server_default
        )
        for column in old.columns
    ]
    op.create_table(
        "kronos_scores", *kept, new, sa.PrimaryKeyConstraint(*KEY, name="pk_kronos_scores")
    )
    before = sa.table("kronos_scores_before", *(sa.column(name) for name in names))
    after = sa.table("kronos_scores", *(sa.column(name) for name in names))
    op.execute(after.insert().from_select(names, sa.select(*before.columns)))
    op.drop_table("kronos_scores_before")
