"""Events on sample paths: stored probabilities and their scores.

Revision ID: 0009
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0009"
down_revision = "0008"

JSON_OBJECT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_sqlite_time: Any = sqlite.DATETIME  # which has no annotations
BAR_TIME = sa.DateTime().with_variant(_sqlite_time(truncate_microseconds=True), "sqlite")
MEASURES = (
    "mean_probability",
    "frequency",
    "brier",
    "base_brier",
    "brier_skill",
    "skill_low",
    "skill_high",
    "reliability",
    "resolution",
)


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table("kronos_events"):
        op.create_table(
            "kronos_events",
            sa.Column("symbol", sa.String(), primary_key=True),
            sa.Column("interval", sa.String(), primary_key=True),
            sa.Column("model_name", sa.String(), primary_key=True),
            sa.Column("as_of", BAR_TIME, primary_key=True),
            sa.Column("target_date", BAR_TIME, primary_key=True),
            sa.Column("bars_hash", sa.String(), primary_key=True, server_default=""),
            sa.Column("event", sa.String(), primary_key=True),
            sa.Column("model_revision", sa.String()),
            sa.Column("prediction_made_at", sa.DateTime(), nullable=False),
            sa.Column("horizon_days", sa.Integer(), nullable=False),
            sa.Column("last_close", sa.Double(), nullable=False),
            sa.Column("probability", sa.Double(), nullable=False),
            sa.Column("low", sa.Double(), nullable=False),
            sa.Column("high", sa.Double(), nullable=False),
            sa.Column("mean", sa.Double()),
        )
    if not inspector.has_table("kronos_event_scores"):
        op.create_table(
            "kronos_event_scores",
            sa.Column("model_name", sa.String(), primary_key=True),
            sa.Column("model_revision", sa.String(), primary_key=True),
            sa.Column("interval", sa.String(), primary_key=True),
            sa.Column("symbol", sa.String(), primary_key=True),
            sa.Column("event", sa.String(), primary_key=True),
            sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
            sa.Column("n", sa.Integer(), nullable=False),
            sa.Column("sessions", sa.Integer(), nullable=False),
            sa.Column("first_target", BAR_TIME, nullable=False),
            sa.Column("last_target", BAR_TIME, nullable=False),
            *(sa.Column(name, sa.Double()) for name in MEASURES),
            sa.Column("bins", JSON_OBJECT, nullable=False),
            sa.Column("scored_at", sa.DateTime(), nullable=False),
        )
