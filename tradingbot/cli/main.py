"""`kronosbot`, the command: its subcommands and options."""

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from tradingbot import __version__
from tradingbot.cli.backtest import backtest
from tradingbot.cli.calibrate import calibrate
from tradingbot.cli.report import write_report
from tradingbot.cli.run import run
from tradingbot.cli.score import score
from tradingbot.cli.space import space_app
from tradingbot.cli.status import status
from tradingbot.runtime.logs import likely_log_format, log_line

app = typer.Typer(
    help="""Forecast every active ticker with Kronos and store what comes back.

    Without a command it runs the job, so that a cronjob needs no arguments.

    \b
    Try it, on this machine, with real candles and without a network:
      kronosbot run --local --source sample
      kronosbot status
    """,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def command() -> None:
    """`kronosbot`. Without a subcommand it is `run`, so a cronjob needs no arguments."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _OWN_OPTIONS):
        arguments = ["run", *arguments]
    in_json = likely_log_format(arguments) == "json"
    try:
        sys.exit(app(args=arguments, prog_name="kronosbot", standalone_mode=not in_json))
    except TyperException as error:  # the arguments make no sense
        said = f"{error.format_message()} Try 'kronosbot --help'."
        typer.echo(log_line("ERROR", said), err=True)
        sys.exit(error.exit_code)


_OWN_OPTIONS = ("-h", "--help", "--version")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kronosbot {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


app.command()(run)
app.command()(status)
app.command()(backtest)
app.command()(calibrate)
app.command("report")(write_report)
app.command()(score)
app.add_typer(space_app, name="space")
