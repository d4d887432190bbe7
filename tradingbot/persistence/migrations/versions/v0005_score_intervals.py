"""Skill against a volatility-aware walk, intervals of skill and coverage, and `relative_mae`.

`mase` is kept for queries that read it; `relative_mae` is the same number.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

MEASURES = [
    "relative_mae",
    "skill_low",
    "skill_high",
    "ewma_walk_crps",
    "ewma_skill",
    *(f"coverage_{band}_{end}" for band in (50, 80, 90) for end in ("low", "high")),
]


def upgrade() -> None:
    existing = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("kronos_scores")}
    for name in MEASURES:
        if name not in existing:  # else the version's table was restored from an older backup
            op.add_column("kronos_scores", sa.Column(name, sa.Double()))
    op.execute("UPDATE kronos_scores SET relative_mae = mase WHERE relative_mae IS NULL")
