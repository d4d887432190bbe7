"""Matured forecasts, which the nightly scores reuse, so that they read only new forecasts.

Revision ID: 0012
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0012"
down_revision = "0011"

JSON_OBJECT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_sqlite_time: Any = sqlite.DATETIME  # which has no annotations
BAR_TIME = sa.DateTime().with_variant(_sqlite_time(truncate_microseconds=True), "sqlite")


def upgrade() -> None:
    existing = sa.inspect(op.get_bind()).get_table_names()
    key: list[tuple[str, Any]] = [
        (name, sa.String()) for name in ("symbol", "interval", "model_name")
    ]
    if "kronos_matured_parts" not in existing:  # else the version was restored from an older backup
        op.create_table(
            "kronos_matured_parts",
            *(sa.Column(name, kind, nullable=False) for name, kind in key),
            sa.Column("version", sa.Integer(), nullable=False),
            sa.Column("first_as_of", BAR_TIME, nullable=False),
            sa.Column("until", BAR_TIME, nullable=False),
            sa.Column("forecasts", sa.Integer(), nullable=False),
            sa.Column("closes", sa.LargeBinary(), nullable=False),
            sa.Column("left_out", JSON_OBJECT, nullable=False),
            sa.PrimaryKeyConstraint(*(name for name, _ in key), name="pk_kronos_matured_parts"),
        )
    if "kronos_matured" not in existing:
        key += [("model_revision", sa.String()), ("quarter", BAR_TIME)]
        op.create_table(
            "kronos_matured",
            *(sa.Column(name, kind, nullable=False) for name, kind in key),
            sa.Column("forecasts", sa.LargeBinary(), nullable=False),
            sa.PrimaryKeyConstraint(*(name for name, _ in key), name="pk_kronos_matured"),
        )
        if op.get_bind().dialect.name == "postgresql":  # random-looking numbers do not compress
            op.execute("ALTER TABLE kronos_matured ALTER COLUMN forecasts SET STORAGE EXTERNAL")
