"""`kronosbot export`: write forecasts, scores, events and backtests to files for other programs."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from tradingbot.cli.command import Command, Group
from tradingbot.cli.options import DatabaseOption, Format, SymbolsOption

export_app = typer.Typer(
    subcommand_metavar="COMMAND [ARGS]",
    cls=Group,
    help="""Write forecasts, scores, events or a backtest as CSV, JSON or Parquet.

    Exit codes, of all four: 0 written; 1 there is nothing to write, or the database is out of
    reach; 2 a wrong option, or a file that cannot be written; 130 Ctrl-C.
    """,
    rich_markup_mode=None,
    no_args_is_help=True,
)

FormatOption = Annotated[
    Format, typer.Option("--format", help="csv, json, or parquet (requires pyarrow).")
]
OutOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The file to write or replace. Default: stdout."),
]
ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="This model only. Default: all.")
]
SinceOption = Annotated[
    datetime | None,
    typer.Option(
        metavar="DATE", formats=["%Y-%m-%d"], help="Only forecasts from bars of this day or later."
    ),
]


@export_app.command("forecasts", cls=Command)
def forecasts(
    form: FormatOption = Format.CSV,
    out: OutOption = None,
    symbols: SymbolsOption = None,
    model: ModelOption = None,
    since: SinceOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Write every stored forecast, one row per day ahead.

    q05 to q95 are the quantiles served to bots, raw_q05 to raw_q95 the model's own. Prices are
    as of the day of the forecast: divide by last_close to compare across splits.

    \b
    Try it:
      kronosbot export forecasts --out forecasts.csv
      kronosbot export forecasts --symbols SPY --format json
    """
    from tradingbot.cli.export_output import export, stored
    from tradingbot.persistence.export_queries import exported_forecasts

    rows = stored(database_url, exported_forecasts, symbols=symbols or (), model=model, since=since)
    export(rows, out, form, nothing="there are no forecasts to export: run `kronosbot run`")


@export_app.command("scores", cls=Command)
def scores(
    form: FormatOption = Format.CSV,
    out: OutOption = None,
    symbols: SymbolsOption = None,
    model: ModelOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Write the stored record of each model, ticker, step ahead and window of sessions.

    A symbol of * is all tickers together, a step of 0 all steps, last_sessions of 0 all sessions.

    \b
    Try it: kronosbot export scores --out scores.csv
    """
    from tradingbot.cli.export_output import export, stored
    from tradingbot.persistence.export_queries import exported_scores

    rows = stored(database_url, exported_scores, symbols=symbols or (), model=model)
    export(rows, out, form, nothing="there are no scores to export: run `kronosbot score`")


@export_app.command("events", cls=Command)
def events(
    form: FormatOption = Format.CSV,
    out: OutOption = None,
    symbols: SymbolsOption = None,
    model: ModelOption = None,
    since: SinceOption = None,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores", help="Write the scores of the events instead of their probabilities."
        ),
    ] = False,
    database_url: DatabaseOption = None,
) -> None:
    """Write the stored probability of each event by the end of each bar (KRONOS_EVENTS).

    With --scores, write their scores: a symbol of * is all tickers together, an event of * all
    events, a step of 0 all steps. bin0_… to bin9_… are the probabilities from 0 to 10 %, … 90 to
    100 %.

    \b
    Try it:
      kronosbot export events --symbols SPY --out events.csv
      kronosbot export events --scores --format json
    """
    from tradingbot.cli.export_output import export, stored
    from tradingbot.persistence.export_queries import exported_event_scores, exported_events

    selection = {"symbols": symbols or (), "model": model}
    if scores:
        rows = stored(database_url, exported_event_scores, **selection)
        nothing = "there are no scores of events to export: run `kronosbot score`"
    else:
        rows = stored(database_url, exported_events, **selection, since=since)
        nothing = "there are no events to export: set KRONOS_EVENTS and run `kronosbot run`"
    export(rows, out, form, nothing=nothing)


@export_app.command("backtest", cls=Command)
def backtest_file(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="File written by `kronosbot backtest`.")
    ] = Path("backtest.csv"),
    form: FormatOption = Format.CSV,
    out: OutOption = None,
    closes: Annotated[
        bool, typer.Option("--closes", help="Write the realised closes instead of the forecasts.")
    ] = False,
) -> None:
    """Write the forecasts of a backtest, or the realised closes, in any of the formats.

    \b
    Try it:
      kronosbot export backtest --out forecasts.csv
      kronosbot export backtest --closes --out closes.csv
    """
    from tradingbot.cli.export_output import backtested, export

    export(backtested(file, closes=closes), out, form, nothing=f"{file} has no such rows")
