"""The time from which `historic_data` is complete, for each ticker.

Revision ID: 0002
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import sqlite

revision = "0002"
down_revision = "0001"

_sqlite_time: Any = sqlite.DATETIME  # which has no annotations
BAR_TIME = sa.DateTime().with_variant(_sqlite_time(truncate_microseconds=True), "sqlite")


def upgrade() -> None:
    op.create_table(
        "historic_ranges",
        sa.Column("symbol", sa.String(), primary_key=True),
        sa.Column("interval", sa.String(), primary_key=True),
        sa.Column("since", BAR_TIME, nullable=False),
        sa.Column("fetched_at", sa.DateTime(), nullable=False),
    )
