"""An index that finds the newest forecast of a model without reading the whole ledger.

Revision ID: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

NAME = "ix_kronos_forecasts_model_name_interval_prediction_made_at"


def upgrade() -> None:
    known = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("kronos_forecasts")}
    if NAME not in known:  # else the version's table was restored from an older backup
        op.create_index(NAME, "kronos_forecasts", ["model_name", "interval", "prediction_made_at"])
