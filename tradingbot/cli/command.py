"""Report wrong options of `kronosbot` subcommands in one line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.exceptions import TyperException

from tradingbot.cli.options import given_as
from tradingbot.cli.output import fail
from tradingbot.environment import environment
from tradingbot.errors import ConfigError, KronosError
from tradingbot.persistence.wait_callback import bounded_waits
from tradingbot.runtime.logs import likely_log_format, log_line
from tradingbot.runtime.wrapping import width_of, wrapped

HELP_LIMIT = 1000  # characters; by default Typer cuts help texts in lists at 45


class Command(TyperCommand):
    """A subcommand that reports a wrong option in one line, like any other failure.

    It also limits the time that the command waits for Postgres.
    """

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence of the help text, for the list of commands.

        The sentence is not cut, because the list wraps long lines.
        """
        return super().get_short_help_str(max(limit, HELP_LIMIT))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with bounded_waits():
            return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments into `ctx`. An invalid one ends the command with a one-line error."""
        with _usage_in_a_line(ctx):
            return self._parsed(ctx, args)

    def _parsed(self, ctx: Any, args: list[str]) -> list[str]:
        original = list(args)
        try:
            return super().parse_args(ctx, args)
        except KronosError as error:
            self.refuse(ctx, error)
        except typer.BadParameter as error:
            option = error.param
            expected = _expected(option)
            if option is None or expected is None:
                raise
            values, _, _ = self.make_parser(ctx).parse_args(args=original)
            value, _ = option.consume_value(ctx, values)
            name = given_as(ctx, option)
            self.refuse(ctx, ConfigError(f"{name}={value!r}: expected {expected}"))

    def refuse(self, ctx: Any, error: KronosError) -> NoReturn:
        """End the command with an error. Options parsed so far are in `ctx.params`."""
        fail(error, as_json=bool(ctx.params.get("as_json")))


class Group(TyperGroup):
    """A command that has subcommands."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence, as `Command` does."""
        return super().get_short_help_str(max(limit, HELP_LIMIT))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the name of a command."""
        with _usage_in_a_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        with _usage_in_a_line(ctx):
            return super().invoke(ctx)


@contextmanager
def _usage_in_a_line(ctx: Any) -> Iterator[None]:
    """Turn Typer's usage errors into one line, and end the process."""
    try:
        yield
    except TyperException as error:
        message = error.format_message()
        if message == ctx.get_help():  # a group without a subcommand
            raise
        end = "" if message.endswith((".", "?")) else "."
        message = f"{message}{end} Try '{ctx.command_path} --help' for help."
        in_json = likely_log_format(sys.argv[1:], environment()) == "json"
        line = wrapped(f"Error: {message}", width_of(sys.stderr))
        typer.echo(log_line("ERROR", message) if in_json else line, err=True)
        raise typer.Exit(error.exit_code) from None


def _expected(option: Any) -> str | None:
    """Return the expected form of the option's value, or None if Typer's message contains it."""
    if not isinstance(option, TyperOption):
        return None
    kind = option.type_descriptor
    if kind.is_datetime:
        return "a day, such as 2024-01-31"
    if kind.choices:
        *first, last = map(str, kind.choices)
        return f"{', '.join(first)} or {last}"
    if kind.is_ranged:
        number = "a whole number" if kind.annotation is int else "a number"
        return f"{number} from {option.min} to {option.max}"
    return None
