"""Scores of forecasts (`kronos_scores`), and calibrated bands (`kronos_calibrations`).

Revision ID: 0003
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0003"
down_revision = "0002"

JSON_OBJECT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_sqlite_time: Any = sqlite.DATETIME  # which has no annotations
BAR_TIME = sa.DateTime().with_variant(_sqlite_time(truncate_microseconds=True), "sqlite")

MEASURES = [
    "mae",
    "naive_mae",
    "mase",
    "crps",
    "raw_crps",
    "random_walk_crps",
    "crps_skill",
    "wql",
    "coverage_50",
    "coverage_80",
    "coverage_90",
    "raw_coverage_50",
    "raw_coverage_80",
    "raw_coverage_90",
    "width_50",
    "width_80",
    "width_90",
    "hit_rate",
    "hit_low",
    "hit_high",
    "ic",
    "rank_ic",
    "dm_statistic",
    "dm_p_value",
]


def upgrade() -> None:
    for table in ("kronos_predictions", "kronos_forecasts"):
        op.add_column(
            table, sa.Column("calibration", sa.String(), nullable=False, server_default="raw")
        )
    op.add_column("kronos_forecasts", sa.Column("calibrated_quantiles", JSON_OBJECT))
    op.create_table(
        "kronos_calibrations",
        sa.Column("model_name", sa.String(), primary_key=True),
        sa.Column("model_revision", sa.String(), primary_key=True),
        sa.Column("interval", sa.String(), primary_key=True),
        sa.Column("asset_class", sa.String(), primary_key=True),
        sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("band", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("factor", sa.Double(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("until", BAR_TIME, nullable=False),
        sa.Column("fitted_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "kronos_scores",
        sa.Column("model_name", sa.String(), primary_key=True),
        sa.Column("model_revision", sa.String(), primary_key=True),
        sa.Column("interval", sa.String(), primary_key=True),
        sa.Column("symbol", sa.String(), primary_key=True),
        sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("last_sessions", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("sessions", sa.Integer(), nullable=False),
        sa.Column("first_target", BAR_TIME, nullable=False),
        sa.Column("last_target", BAR_TIME, nullable=False),
        *(sa.Column(name, sa.Double()) for name in MEASURES),
        sa.Column("scored_at", sa.DateTime(), nullable=False),
    )
