"""The whole schema: forecasts, their ledger, candles, bots, trades, runs.

A database of the first published layout, which had `kronos_predictions` alone and no version, keeps
its rows: see `_rows_of_the_first_layout`.

Revision ID: 0001
"""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0001"
down_revision = None

JSON_OBJECT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_sqlite_time: Any = sqlite.DATETIME  # which has no annotations
BAR_TIME = sa.DateTime().with_variant(_sqlite_time(truncate_microseconds=True), "sqlite")


def upgrade() -> None:
    kept: list[dict[str, Any]] = []
    if sa.inspect(op.get_bind()).has_table("kronos_predictions"):
        kept = _rows_of_the_first_layout()
        op.drop_table("kronos_predictions")
    predictions = op.create_table(
        "kronos_predictions",
        sa.Column("symbol", sa.String(), primary_key=True),
        sa.Column("interval", sa.String(), primary_key=True),
        sa.Column("target_date", BAR_TIME, primary_key=True),
        sa.Column("model_name", sa.String(), primary_key=True),
        sa.Column("model_revision", sa.String()),
        sa.Column("prediction_made_at", sa.DateTime(), nullable=False),
        sa.Column("as_of", BAR_TIME),
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
    op.bulk_insert(predictions, kept)
    op.create_table(
        "kronos_forecasts",
        sa.Column("symbol", sa.String(), primary_key=True),
        sa.Column("interval", sa.String(), primary_key=True),
        sa.Column("model_name", sa.String(), primary_key=True),
        sa.Column("as_of", BAR_TIME, primary_key=True),
        sa.Column("target_date", BAR_TIME, primary_key=True),
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
        sa.Column("timestamp", BAR_TIME, primary_key=True),
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


def _rows_of_the_first_layout() -> list[dict[str, Any]]:
    """Return the rows of the first layout as rows of today's.

    It had id, symbol, model_name, interval, prediction_made_at, target_date, the five predicted
    values and horizon_days, which was the whole horizon in every row. The step is recounted
    within each prediction_made_at. `as_of` and other missing columns stay unknown.
    """
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":  # an old job must not add rows between here and the drop
        op.execute("LOCK TABLE kronos_predictions IN ACCESS EXCLUSIVE MODE")
    old = sa.Table("kronos_predictions", sa.MetaData(), autoload_with=bind)
    in_order = sa.select(old).order_by(old.c.prediction_made_at, old.c.target_date, old.c.id)
    steps: Counter[tuple[Any, ...]] = Counter()
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in bind.execute(in_order):
        symbol, model_name, interval = row.symbol, row.model_name, row.interval or "1d"
        target_date = _naive_utc(row.target_date).replace(microsecond=0)
        run = (symbol, model_name, interval, row.prediction_made_at)
        steps[run] += 1
        kept[symbol, model_name, interval, target_date] = {
            "symbol": symbol,
            "model_name": model_name,
            "interval": interval,
            "prediction_made_at": _naive_utc(row.prediction_made_at),
            "target_date": target_date,
            "horizon_days": steps[run],
            "predicted_open": row.predicted_open,
            "predicted_high": row.predicted_high,
            "predicted_low": row.predicted_low,
            "predicted_close": row.predicted_close,
            "predicted_volume": row.predicted_volume,
        }
    return list(kept.values())


def _naive_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
