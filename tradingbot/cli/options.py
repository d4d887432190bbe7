"""The options that several subcommands of `kronosbot` have."""

import os
from typing import Annotated

import typer

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
