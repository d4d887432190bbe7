"""`kronosbot exporter`: serve metrics of the job to Prometheus."""

import logging
import sys
from typing import Annotated

import typer

from tradingbot import __version__
from tradingbot.cli.options import LAST_SOURCE, DatabaseOption, source_option
from tradingbot.cli.output import fail
from tradingbot.errors import KronosError
from tradingbot.settings import Settings

PORT = 9464


def exporter(
    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; 0: any free port."),
    ] = PORT,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on; 0.0.0.0 or :: for other machines."
        ),
    ] = "127.0.0.1",
    source: Annotated[
        str | None,
        source_option(f"Source that provides the clock and the tickers. {LAST_SOURCE}"),
    ] = None,
    database_url: DatabaseOption = None,
) -> None:
    """Serve /metrics for Prometheus, and /healthz, until stopped.

    Reads only the database, at most every 15 seconds. While the database is out of reach
    kronosbot_up is 0, and the other metrics are missing. No metric contains a secret or an address.

    Exit codes: 2 a wrong setting, or the port is taken; 130 Ctrl-C; 143 SIGTERM.

    \b
    Try it:
      kronosbot exporter
      curl http://127.0.0.1:9464/metrics
    """
    from tradingbot.monitoring.metrics_server import Cached, make_exporter
    from tradingbot.monitoring.snapshot import MAX_AGE, read_snapshot
    from tradingbot.persistence.engine import get_engine
    from tradingbot.persistence.url import database_url as configured_url

    try:
        url = database_url or configured_url()
        get_engine(url)  # does not connect; reports an invalid address early
        settings = Settings.from_env()
        cached = Cached(lambda: read_snapshot(url, settings, source=source, max_age=MAX_AGE))
        server = make_exporter(cached, version=__version__, host=host, port=port)
    except KronosError as error:
        fail(error)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    at = f"[{host}]" if ":" in host else host
    typer.echo(f"Metrics on http://{at}:{server.server_port}/metrics; Ctrl-C ends it", err=True)
    server.serve_forever()
