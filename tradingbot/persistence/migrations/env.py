"""Entry point of Alembic: run the migrations on the connection passed by `init_db`.

The `alembic` command passes no connection. It then uses the configured database.
"""

from alembic import context
from sqlalchemy import Connection

from tradingbot.persistence.engine import get_engine
from tradingbot.persistence.models import Base
from tradingbot.persistence.schema import VERSION_TABLE, take_over_version


def migrate(connection: Connection) -> None:
    take_over_version(connection)
    context.configure(
        connection=connection,
        version_table=VERSION_TABLE,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite cannot alter tables in place
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with get_engine().begin() as connection:
        migrate(connection)
