"""`kronosbot partition`: split the ledger into monthly partitions."""

from typing import Annotated

import typer

from tradingbot.cli.options import DatabaseOption
from tradingbot.cli.output import fail
from tradingbot.errors import KronosError
from tradingbot.runtime.signals import Stopped, stop_on_signals


def partition(
    database_url: DatabaseOption = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print the partitions; change nothing.")
    ] = False,
) -> None:
    """Split the ledger, kronos_forecasts, into monthly partitions. Once, on Postgres only.

    Useful from tens of millions of forecasts: old months can be detached and archived, and each
    is vacuumed separately. The existing rows become the first partition. Postgres reads them
    once, and locks the table meanwhile. Every run creates the partitions of the next months.

    Exit codes: 0 done, or already partitioned; 1 the database is out of reach or refuses, and
    nothing was changed; 2 a wrong setting; 130 Ctrl-C, and nothing was changed.

    \b
    Try it, after a backup:
      kronosbot partition --show
      kronosbot partition
    """
    from tradingbot.persistence.engine import get_db_session
    from tradingbot.persistence.partitions import is_partitioned, partition_ledger, partitions
    from tradingbot.runtime.clock import utcnow

    try:
        with stop_on_signals(), get_db_session(database_url) as session:
            connection = session.connection()
            if not show:
                partition_ledger(connection, utcnow())
            if not is_partitioned(connection):
                typer.echo("kronos_forecasts is one table; `kronosbot partition` splits it")
                return
            for found in partitions(connection):
                typer.echo(f"{found.name}  {found.bound}  {found.rows:,} rows")
    except (KronosError, Stopped) as error:
        fail(error, as_json=False, left="nothing was changed")
