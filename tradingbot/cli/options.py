"""Options shared by the subcommands of `kronosbot`."""

from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer

from tradingbot.settings import MAX_HORIZON, MAX_SAMPLES, check_source, check_symbols

LAST_SOURCE = "[env KRONOS_DATA_SOURCE; default that of the last run]"


class Format(StrEnum):
    """Output formats of `kronosbot export`."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class Tickers(tuple[str, ...]):
    """Tickers as the value of one option. Typer takes a plain tuple as several option values."""


def given_as(ctx: Any, option: Any) -> str:
    """Return the source of the option's value: `--source`, or its environment variable."""
    source = ctx.get_parameter_source(option.name)
    if source is not None and source.name == "ENVIRONMENT":
        return str(option.envvar)
    return str(option.opts[0])


def _check_source(ctx: typer.Context, option: typer.CallbackParam, value: str | None) -> str | None:
    name = given_as(ctx, option)
    if name.startswith("-"):
        return None if value is None else check_source(name, value)
    return check_source(name, value.strip()) if value and value.strip() else None


def source_option(about: str) -> Any:
    """Declare --source. The default is KRONOS_DATA_SOURCE, or None if that variable is not set."""
    return typer.Option(
        metavar="SOURCE",
        envvar="KRONOS_DATA_SOURCE",
        show_envvar=False,
        callback=_check_source,
        help=about,
    )


def symbols_option(about: str) -> Any:
    """Declare --symbols, with at least one ticker."""
    return typer.Option(metavar="A,B,...", parser=partial(check_symbols, "--symbols"), help=about)


SourceOption = Annotated[
    str | None,
    source_option(
        "Source of candles: yahoo, csv:DIR (one file per ticker), or sample (real candles, no "
        "network). [env KRONOS_DATA_SOURCE; default yahoo]"
    ),
]
SymbolsOption = Annotated[Tickers | None, symbols_option("These tickers only. Default: all.")]
HorizonOption = Annotated[
    int | None,
    typer.Option(
        metavar="BARS",
        min=1,
        max=MAX_HORIZON,
        help="Days ahead. [env KRONOS_HORIZON; default 5]",
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        metavar="PATHS",
        min=1,
        max=MAX_SAMPLES,
        help="Sample paths per forecast. [env KRONOS_SAMPLES; default 50]",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="With --local the model to load [env KRONOS_MODEL]; otherwise the model that the "
        "Space "
        "must have.",
    ),
]
TemperatureOption = Annotated[
    float, typer.Option(metavar="T", min=0.001, max=100, help="Sampling temperature.")
]
TopPOption = Annotated[
    float,
    typer.Option(
        "--top-p",
        metavar="P",
        min=0.001,
        max=1,
        help="Nucleus sampling: ignore the least likely 1 - P.",
    ),
]
DayOption = Annotated[
    datetime | None,
    typer.Option(
        metavar="DATE",
        formats=["%Y-%m-%d"],
        help="Last day whose bars are used. Default: that of the file, or else the newest bar.",
    ),
]
LocalOption = Annotated[
    bool, typer.Option("--local", help="Start a Space on this machine, and stop it at the end.")
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The database. Other users of this machine can see it in `ps`: if it has a "
        "password, set DATABASE_URL instead. [env DATABASE_URL, POSTGRES_*; default "
        "sqlite:///kronos.db]",
    ),
]
JsonOption = Annotated[
    bool,
    # eager, so that the value is known when another option is invalid
    typer.Option("--json", is_eager=True, help="Print the result as one JSON document on stdout."),
]
JumpsOption = Annotated[
    bool,
    typer.Option(
        "--allow-jumps",
        help="Treat breaks of scale (splits, pence and pounds) as real moves. [env "
        "KRONOS_MAX_JUMP: "
        "up to this factor]",
    ),
]
