"""`kronosbot check`: check candles and models without forecasting."""

import math
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from tradingbot.cli.options import JsonOption, JumpsOption, SourceOption
from tradingbot.cli.output import fail, finish
from tradingbot.errors import ConfigError, KronosError
from tradingbot.settings import Settings, check_source, parse_symbols


def check(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[csv:DIR|TICKER]...",
            help="A folder of files, or tickers. Default: the tickers of the nightly job.",
        ),
    ] = None,
    source: SourceOption = None,
    interval: Annotated[
        str, typer.Option(metavar="INTERVAL", help="1d, or minutes and hours: 15m, 1h.")
    ] = "1d",
    bars: Annotated[
        int, typer.Option(metavar="N", min=32, max=20_000, help="Number of newest bars to check.")
    ] = 500,
    allow_jumps: JumpsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check candles as the job does, and print what is wrong with them. Nothing is forecast.

    Checks the spacing of bars, bars on days without a session, sessions without bars, breaks
    of scale, unfinished bars, and days outside the calendar. "refused" stops a
    forecast of the ticker; "mended" and "warning" do not.

    If KRONOS_MODELS is set, the Space of each model is asked for it and its revision. A Space that
    sleeps or is paused is not woken.

    Exit codes: 0 no ticker would be refused; 1 at least one would, or has no candles, or a model
    cannot be asked; 2 a wrong setting.

    \b
    Try it:
      kronosbot check --source sample
      kronosbot check --source csv:candles --json | jq .tickers
    """
    from tradingbot.cli.check_output import check_document, show_check
    from tradingbot.jobs.check import check_candles

    try:
        folders = [word for word in what or () if word.startswith("csv:")]
        if len(folders) > 1 or (folders and source):
            raise ConfigError(f"sources {', '.join(filter(None, [source, *folders]))}: give one")
        symbols = parse_symbols(",".join(word for word in what or () if word not in folders))
        settings = Settings.from_env()
        settings = replace(
            settings,
            data_source=check_source("csv:DIR", folders[0])
            if folders
            else source or settings.data_source,
            max_jump=math.inf if allow_jumps else settings.max_jump,
        )
        found = check_candles(settings, symbols, interval=interval, bars=bars)
    except KronosError as error:
        fail(error, as_json=as_json)
    finish(
        found.exit_code,
        as_json=as_json,
        document=lambda: {**check_document(found), "error": None},
        show=partial(show_check, found),
    )
