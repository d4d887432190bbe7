"""Forecasts combined with plain experts: the served quantiles and the learnt weights.

Existing rows have none of it; their forecasts were not anchored at the last close.

Revision ID: 0007
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0007"
down_revision = "0006"

JSON_OBJECT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_sqlite_time: Any = sqlite.DATETIME  # which has no annotations
BAR_TIME = sa.DateTime().with_variant(_sqlite_time(truncate_microseconds=True), "sqlite")

COLUMNS: dict[str, dict[str, Any]] = {
    "kronos_predictions": {"shares": JSON_OBJECT},
    "kronos_forecasts": {
        "anchor_factor": sa.Double(),
        "combined_quantiles": JSON_OBJECT,
        "shares": JSON_OBJECT,
    },
}


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    for table, columns in COLUMNS.items():
        known = {column["name"] for column in inspector.get_columns(table)}
        for name, kind in columns.items():
            if name not in known:  # else the version's table was restored from an older backup
                op.add_column(table, sa.Column(name, kind))
    if not inspector.has_table("kronos_combinations"):
        op.create_table(
            "kronos_combinations",
            sa.Column("model_name", sa.String(), primary_key=True),
            sa.Column("model_revision", sa.String(), primary_key=True),
            sa.Column("interval", sa.String(), primary_key=True),
            sa.Column("asset_class", sa.String(), primary_key=True),
            sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
            sa.Column("weights", JSON_OBJECT, nullable=False),
            sa.Column("gains", JSON_OBJECT, nullable=False),
            sa.Column("median_agreement", sa.Double(), nullable=False),
            sa.Column("median_size", sa.Double(), nullable=False),
            sa.Column("band_factors", JSON_OBJECT, nullable=False),
            sa.Column("sessions", sa.Integer(), nullable=False),
            sa.Column("n", sa.Integer(), nullable=False),
            sa.Column("until", BAR_TIME, nullable=False),
            sa.Column("learnt_at", sa.DateTime(), nullable=False),
        )
