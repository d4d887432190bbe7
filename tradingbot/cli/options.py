"""What the subcommands of `kronosbot` have in common: an option, a default, how they fail."""

import os
import sys
from typing import Annotated, NoReturn

import typer

from tradingbot.errors import KronosError
from tradingbot.jobs.nightly import exit_code
from tradingbot.runtime.logs import to_json
from tradingbot.runtime.signals import Stopped
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import Settings, check_source

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The database. [env DATABASE_URL, POSTGRES_*; default sqlite:///kronos.db]",
    ),
]


def given_source(option: str | None, settings: Settings) -> str | None:
    """What --source or KRONOS_DATA_SOURCE says; None where neither does. ConfigError if wrong."""
    if option is not None:
        return check_source("--source", option)
    return settings.data_source if os.environ.get("KRONOS_DATA_SOURCE", "").strip() else None


def fail(error: KronosError | Stopped, *, as_json: bool = False, left: str = "") -> NoReturn:
    """End the command with a line on stderr and, if wanted, a JSON document on stdout.

    `left` is what a signal to stop leaves behind, in words.
    """
    stopped = isinstance(error, Stopped)
    said = "; ".join(filter(None, (f"Stopped by {error}", left))) if stopped else str(error)
    code = exit_code(error)
    if as_json:
        out = SafeStream(sys.stdout)
        failure = {"kind": type(error).__name__, "message": said}
        out.write(to_json({"exit_code": code, "error": failure}) + "\n")
        out.flush()
    typer.echo(said if stopped else f"Error: {said}", err=True)
    raise typer.Exit(code)
