"""The output of `kronosbot status --format prometheus`: metrics for node_exporter or a push."""

from pathlib import Path
from typing import NoReturn

import typer

from tradingbot import __version__
from tradingbot.monitoring.metrics import metrics_text
from tradingbot.monitoring.snapshot import read_snapshot
from tradingbot.persistence.engine import get_engine
from tradingbot.runtime.files import replaced
from tradingbot.settings import Settings


def write_metrics(url: str, source: str | None, max_age: int, out: Path | None) -> NoReturn:
    """Write the metrics, even if the database is unreachable, and end the command."""
    get_engine(url)  # does not connect; an invalid address is an error, and not exported
    snapshot = read_snapshot(url, Settings.from_env(), source=source, max_age=max_age)
    text = metrics_text(snapshot, __version__)
    if out is None:
        typer.echo(text.decode(), nl=False)
    else:
        with replaced(out) as file:
            file.write_bytes(text)
    if snapshot.status is None:
        typer.echo(f"Error: {snapshot.why}", err=True)
    raise typer.Exit(snapshot.status.exit_code if snapshot.status else 1)
