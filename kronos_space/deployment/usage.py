"""The help and usage errors of `kronos-space`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

WHOLE = 1000  # characters; Typer's default cuts the summaries of commands at 45


class Command(TyperCommand):
    """A command that reports a wrong argument in one line."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the whole first sentence; it is wrapped when displayed."""
        return super().get_short_help_str(max(limit, WHOLE))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _in_a_line(ctx):
            return super().parse_args(ctx, args)


class Group(TyperGroup):
    """The command group; an unknown command is reported in one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _in_a_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _in_a_line(ctx):
            return super().invoke(ctx)


@contextmanager
def _in_a_line(ctx: Any) -> Iterator[None]:
    try:
        yield
    except TyperException as error:
        message = error.format_message()
        if message == ctx.get_help():  # called without arguments
            raise
        end = "" if message.endswith((".", "?")) else "."
        typer.echo(f"Error: {message}{end} Try '{ctx.command_path} --help' for help.", err=True)
        raise typer.Exit(error.exit_code) from None
