"""The whole schema: forecasts, their ledger, candles, bots, trades, runs.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

JSON_OBJECT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "kronos_predictions",
        sa.Column("symbol", sa.String(), primary_key=True),
        sa.Column("interval", sa.String(), primary_key=True),
        sa.Column("target_date", sa.DateTime(), primary_key=True),
        sa.Column("model_name", sa.String(), primary_key=True),
        sa.Column("model_revision", sa.String()),
        sa.Column("prediction_made_at", sa.DateTime(), nullable=False),
        sa.Column("as_of", sa.DateTime()),
        sa.Column("horizon_days", sa.Integer(), nullable=False),
        sa.Column("last_close", sa.Double()),
        sa.Column("predicted_open", sa.Double(), nullable=False),
        sa.Column("predicted_high", sa.Double(), nullable=False),
        sa.Column("predicted_low", sa.Double(), nullable=False),
        sa.Column("predicted_close", sa.Double(), nullable=False),
        sa.Column("predicted_volume", sa.Double()),
        sa.Column("close_p10", sa.Double()),
        sa.Column("close_p50", sa.Double()),
        sa.Column("close_p90", sa.Double()),
        sa.Column("prob_up", sa.Double()),
        sa.Column("samples", sa.Integer()),
    )
    op.create_index(None, "kronos_predictions", ["symbol", "target_date"])
    op.create_table(
        "kronos_forecasts",
        sa.Column("symbol", sa.String(), primary_key=True),
        sa.Column("interval", sa.String(), primary_key=True),
        sa.Column("model_name", sa.String(), primary_key=True),
        sa.Column("as_of", sa.DateTime(), primary_key=True),
        sa.Column("target_date", sa.DateTime(), primary_key=True),
        sa.Column("model_revision", sa.String()),
        sa.Column("prediction_made_at", sa.DateTime(), nullable=False),
        sa.Column("horizon_days", sa.Integer(), nullable=False),
        sa.Column("last_close", sa.Double(), nullable=False),
        sa.Column("predicted_open", sa.Double(), nullable=False),
        sa.Column("predicted_high", sa.Double(), nullable=False),
        sa.Column("predicted_low", sa.Double(), nullable=False),
        sa.Column("predicted_close", sa.Double(), nullable=False),
        sa.Column("predicted_volume", sa.Double(), nullable=False),
        sa.Column("close_quantiles", JSON_OBJECT, nullable=False),
        sa.Column("prob_up", sa.Double(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
    )
    op.create_table(
        "historic_data",
        sa.Column("symbol", sa.String(), primary_key=True),
        sa.Column("interval", sa.String(), primary_key=True),
        sa.Column("timestamp", sa.DateTime(), primary_key=True),
        sa.Column("open", sa.Double(), nullable=False),
        sa.Column("high", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=False),
        sa.Column("close", sa.Double(), nullable=False),
        sa.Column("volume", sa.Double(), nullable=False),
    )
    op.create_table(
        "bots",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("portfolio", JSON_OBJECT, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "trades",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("bot_name", sa.String(), sa.ForeignKey("bots.name"), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("quantity", sa.Double(), nullable=False),
        sa.Column("price", sa.Double(), nullable=False),
        sa.Column("costs", sa.Double(), nullable=False),
        sa.Column("executed_at", sa.DateTime(), nullable=False),
    )
    op.create_index(None, "trades", ["bot_name", "executed_at"])
    op.create_table(
        "run_logs",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime()),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("counts", JSON_OBJECT, nullable=False),
        sa.Column("durations", JSON_OBJECT, nullable=False),
        sa.Column("details", JSON_OBJECT, nullable=False),
        sa.Column("message", sa.String()),
    )
    op.create_index(None, "run_logs", ["name", "started_at"])
