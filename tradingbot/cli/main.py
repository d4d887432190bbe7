"""`kronosbot`, the command: its subcommands and options."""

from typing import Annotated, Any

import typer

from tradingbot import __version__
from tradingbot.cli.backtest import backtest
from tradingbot.cli.calibrate import calibrate
from tradingbot.cli.check import check
from tradingbot.cli.command import Command, Group
from tradingbot.cli.export import export_app
from tradingbot.cli.exporter import exporter
from tradingbot.cli.mcp import serve_mcp
from tradingbot.cli.notify import notify
from tradingbot.cli.partition import partition
from tradingbot.cli.portfolio import portfolio_app
from tradingbot.cli.report import write_report
from tradingbot.cli.run import RunCommand, run
from tradingbot.cli.score import score
from tradingbot.cli.space import space_app
from tradingbot.cli.status import status


class JobGroup(Group):
    """The group of subcommands. Arguments without a subcommand are passed to `run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments into `ctx`. Insert `run` if no subcommand is named."""
        group_options = {name for option in self.get_params(ctx) for name in option.opts}
        if ctx.resilient_parsing:  # shell completion
            return super().parse_args(ctx, args)
        if not args or (args[0].startswith("-") and args[0] not in group_options):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    subcommand_metavar="COMMAND [ARGS]",
    cls=JobGroup,
    help="""Forecast every active ticker with Kronos and store the forecasts.

    Without a command, `run` is used, so that a cron job needs no arguments.

    \b
    Try it, on this machine, with real candles and without a network:
      kronosbot run --local --source sample
      kronosbot status
    """,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def command() -> None:
    """Run `kronosbot` with the arguments of the process, and end it."""
    app(prog_name="kronosbot")


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


app.command(cls=RunCommand)(run)
app.command(cls=Command)(status)
app.command(cls=Command)(backtest)
app.command(cls=Command)(calibrate)
app.command(cls=Command)(check)
app.command("report", cls=Command)(write_report)
app.command(cls=Command)(score)
app.command(cls=Command)(partition)
app.command(cls=Command)(notify)
app.command(cls=Command)(exporter)
app.command("mcp", cls=Command)(serve_mcp)
app.add_typer(space_app, name="space")
app.add_typer(portfolio_app, name="portfolio")
app.add_typer(export_app, name="export")
