"""`kronosbot status`: show the state of the nightly job."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from tradingbot.cli.options import LAST_SOURCE, DatabaseOption, JsonOption, source_option
from tradingbot.cli.output import fail, finish
from tradingbot.errors import ConfigError, KronosError
from tradingbot.settings import Settings


def status(
    source: Annotated[
        str | None,
        source_option(f"Source that provides the clock and the tickers. {LAST_SOURCE}"),
    ] = None,
    database_url: DatabaseOption = None,
    max_age: Annotated[
        int,
        typer.Option(
            metavar="SESSIONS",
            min=0,
            max=10_000,
            help="Sessions that a forecast may be behind before it is a problem. Between the close "
            "of an exchange and the nightly run 1 is normal; use 0 right after a run.",
        ),
    ] = 1,
    as_json: JsonOption = False,
    output: Annotated[
        Literal["text", "json", "prometheus"],
        typer.Option(
            "--format",
            metavar="text|json|prometheus",
            help="Tables, one JSON document, or metrics as served by `kronosbot exporter`.",
        ),
    ] = "text",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --format prometheus: write them atomically to this file, for the "
            "textfile collector of node_exporter. Default: stdout.",
        ),
    ] = None,
) -> None:
    """Show the last runs, the newest forecasts, and stale tickers.

    Reads only the database. An active ticker is stale if it has no forecast, or only
    one older than the latest complete session of its exchange.

    Exit codes, for monitoring: 0 all is well; 1 a ticker is stale beyond --max-age, the last run
    failed or was killed, there is no run yet, or the database is out of reach; 2 a wrong setting.

    \b
    Try it:
      kronosbot status
      kronosbot status --json | jq .problems
      kronosbot status --format prometheus
    """
    from tradingbot.cli.metrics_output import write_metrics
    from tradingbot.cli.status_output import show_status, status_document
    from tradingbot.jobs.status import read_status
    from tradingbot.persistence.url import database_url as configured_url

    as_json = as_json or output == "json"
    try:
        url = database_url or configured_url()
        if output == "prometheus":
            write_metrics(url, source, max_age, out)
        if out is not None:
            raise ConfigError(f"--out={str(out)!r} goes with --format prometheus")
        found = read_status(url, Settings.from_env(), source=source, max_age=max_age)
    except KronosError as error:
        fail(error, as_json=as_json)
    finish(
        found.exit_code,
        as_json=as_json,
        document=lambda: {**status_document(found), "error": None},
        show=partial(show_status, found),
    )
