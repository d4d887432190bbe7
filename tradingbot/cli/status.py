"""`kronosbot status`: how the nightly job is doing."""

from functools import partial
from typing import Annotated

import typer

from tradingbot.cli.options import LAST_SOURCE, DatabaseOption, JsonOption, source_option
from tradingbot.cli.output import fail, finish
from tradingbot.errors import KronosError
from tradingbot.settings import Settings


def status(
    source: Annotated[
        str | None,
        source_option(f"By whose clock tickers are judged, and whose they are. {LAST_SOURCE}"),
    ] = None,
    database_url: DatabaseOption = None,
    max_age: Annotated[
        int,
        typer.Option(
            metavar="SESSIONS",
            min=0,
            max=10_000,
            help="How far behind a forecast may be before that is a problem. Between the close "
            "of an exchange and the nightly run 1 is normal; say 0 right after a run.",
        ),
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Show the last runs, the freshest forecasts, and what is stale.

    Reads the database and nothing else. Stale is an active ticker without a forecast, or with
    one that is older than the latest complete session of its exchange.

    Exit codes, for monitoring: 0 all is well; 1 something is stale beyond --max-age, the last run
    failed or was killed, nothing is there yet, or the database is out of reach; 2 a wrong setting.

    \b
    Try it:
      kronosbot status
      kronosbot status --json | jq .problems
    """
    from tradingbot.cli.status_output import show_status, status_document
    from tradingbot.jobs.status import read_status
    from tradingbot.persistence.url import database_url as configured_url

    try:
        found = read_status(
            database_url or configured_url(), Settings.from_env(), source=source, max_age=max_age
        )
    except KronosError as error:
        fail(error, as_json=as_json)
    finish(
        found.exit_code,
        as_json=as_json,
        document=lambda: {**status_document(found), "error": None},
        show=partial(show_status, found),
    )
