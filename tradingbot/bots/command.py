"""Command-line options of `Bot.main`: a round, a dry run, or a backtest."""

import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, cast

import typer

from tradingbot.bots.backtest_result import Backtest
from tradingbot.bots.console import lines, run_as_command
from tradingbot.bots.parameters import Parameter, parameters_of, with_parameters
from tradingbot.bots.round_result import Round
from tradingbot.bots.strategy import FillAt, Strategy, tickers_of
from tradingbot.bots.variants import variant
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError
from tradingbot.persistence.engine import get_engine
from tradingbot.settings import check_source, check_symbols
from tradingbot.typing import SessionFactory

NUMBER = r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"  # a negative number, which is not an option


class AsCommand(Strategy):
    """A strategy as a command; a mixin of `Bot`."""

    _given_data: DataService | None
    _sessions: SessionFactory | None
    _database_url: str | None

    @property
    def data(self) -> DataService:
        raise NotImplementedError

    def run(self, *, dry_run: bool = False) -> Round:
        raise NotImplementedError

    def backtest(
        self, history: Any = None, *, cash: float = 10_000.0, fill: FillAt | None = None
    ) -> Backtest:
        raise NotImplementedError

    def backtest_of(self, begin: datetime, end: datetime) -> Backtest:
        """Run the backtest over bars from `begin` (inclusive) to `end` (exclusive)."""
        raise NotImplementedError

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Run a round as a command: print decisions and portfolio, then exit.

        `arguments` default to the process's; `--help` lists them. --source, --symbols,
        --database-url and the strategy's own keywords, such as --threshold, override the bot's own;
        --dry-run stores nothing; --backtest FROM TO replays these days; --json prints one JSON
        document.

        Exit codes: 0 done; 1 no ticker could be decided, the strategy failed, or the database is
        out of reach; 2 a wrong setting; 130 Ctrl-C; 143 SIGTERM.
        """

        def prepared(options: Options) -> AsCommand:
            chosen = options.parameters
            bot = cast("AsCommand", variant(self, chosen)) if chosen else self
            bot.use(options.source, options.symbols, options.database_url)
            return bot

        given = sys.argv[1:] if arguments is None else arguments
        parameters = parameters_of(type(self), self, self.params)
        options = {f"--{argument.name.replace('_', '-')}" for argument in parameters}
        # the script may read further arguments from sys.argv itself
        known_arguments = [
            argument
            for before, argument in zip(["", *given], given, strict=False)
            if before in options or not re.fullmatch(NUMBER, argument)
        ]
        run_command(
            prepared,
            f"Run the bot {self.name}",
            parameters,
            arguments=known_arguments,
            extra_arguments=True,
        )

    def use(
        self,
        source: str | None = None,
        symbols: Iterable[str] | None = None,
        database_url: str | None = None,
    ) -> None:
        """Override the bot's tickers, source or database. Raises ConfigError."""
        if source is not None:
            self.settings = replace(self.settings, data_source=source)
        if symbols is not None:
            self.tickers = tickers_of(self.name, None, symbols)
            self.symbol = self.tickers[0]
        if database_url is not None:
            get_engine(database_url)  # validate the address first
            self._sessions, self._database_url = None, database_url
        if source is not None:
            self._given_data = None
            vars(self).pop("_data", None)


@dataclass(frozen=True)
class Options:
    """Overrides from the command line, where given."""

    source: str | None
    symbols: Sequence[str] | None
    database_url: str | None
    writes: bool  # False for a dry run or a backtest
    parameters: Mapping[str, Any]  # the strategy's own keywords


def run_command(
    prepared: Callable[[Options], AsCommand],
    about: str,
    parameters: Collection[Parameter],
    *,
    arguments: Sequence[str] | None = None,
    extra_arguments: bool = False,
    symbols_help: str = "These tickers instead of the bot's own.",
    **settings: Any,
) -> None:
    """Parse the arguments, by default the process's, run, and exit.

    Args:
        prepared: Returns the bot.
        about: First lines of the help.
        parameters: The strategy's own keywords.
        extra_arguments: Ignore unknown positional arguments.
        settings: Of the Typer command.
    """

    def command(
        chosen: Mapping[str, Any],
        source: Annotated[
            str | None,
            typer.Option(
                metavar="SOURCE", help="Where candles come from: yahoo, csv:DIR, or sample."
            ),
        ] = None,
        symbols: Annotated[str | None, typer.Option(metavar="A,B,...", help=symbols_help)] = None,
        database_url: Annotated[
            str | None,
            typer.Option(
                metavar="URL",
                help="The database. Other users of this machine can see it in `ps`: if it has a "
                "password, set DATABASE_URL instead.",
            ),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Decide and print; trade and store nothing.")
        ] = False,
        backtest: Annotated[
            tuple[str, str] | None,
            typer.Option(
                metavar="FROM TO",
                help="Replay the bot over these days, such as 2023-01-01 2024-01-01; trade and "
                "store nothing.",
            ),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print one JSON document instead of a table.")
        ] = False,
    ) -> None:
        def bot() -> AsCommand:
            if source is not None:
                check_source("--source", source)
            given = None if symbols is None else check_symbols("--symbols", symbols)
            writes = not dry_run and backtest is None
            return prepared(Options(source, given, database_url, writes, chosen))

        if backtest is None:
            text_of = partial(_round_text, as_json=as_json)
            run_as_command(lambda: bot().run(dry_run=dry_run), text_of)
        else:
            run_as_command(
                lambda: _replayed(bot, *backtest), partial(_backtest_text, as_json=as_json)
            )

    command.__doc__ = (
        f"{about} once: trade on paper what it has decided, and decide again.\n\n"
        "Exit codes: 0 done; 1 no ticker could be decided, the strategy failed, or the database is "
        "out of reach; 2 a wrong setting or option; 130 Ctrl-C; 143 SIGTERM."
    )
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    name = settings.pop("prog_name", None)
    context = {"allow_extra_args": extra_arguments, "help_option_names": ["--help", "-h"]}
    app.command(context_settings=context, **settings)(with_parameters(command, parameters))
    app(args=arguments, prog_name=name)


def _replayed(bot: Callable[[], AsCommand], begin: str, end: str) -> Backtest:
    """Return the backtest over these days only."""
    first, last = map(_day, (begin, end))
    if first >= last:
        raise ConfigError(f"--backtest={begin} {end}: expected FROM before TO")
    return bot().backtest_of(first, last + timedelta(days=1))


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        raise ConfigError(f"--backtest={text!r}: expected a day, such as 2024-01-31") from None


def _round_text(done: Round, *, as_json: bool) -> str:
    if not as_json:
        return "\n".join(lines(done))
    document = {
        "bot": done.name,
        "interval": done.interval,
        "dry_run": done.dry_run,
        **done.details(),
        "trades": [asdict(fill) for fill in done.fills],
        "portfolio": done.portfolio,
    }
    return _json(document)


def _backtest_text(result: Backtest, *, as_json: bool) -> str:
    if not as_json:
        return "\n".join([str(result), *(f"Note: {note}" for note in result.notes)])
    document = {
        "fill": result.fill,
        "measures": asdict(result.measures),
        "buy_and_hold": asdict(result.buy_and_hold),
        "hit_rate": result.hit_rate,
        "exposure": result.exposure,
        "turnover": result.turnover,
        "notes": result.notes,
        "trades": result.trades.to_dict("records"),
        "equity": {str(time): value for time, value in result.equity.items()},
    }
    return _json(document)


def _json(document: Any) -> str:
    """Convert NaN to null."""
    return json.dumps(_plain(document), indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value
