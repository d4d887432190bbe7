"""Output of the commands: tables, lines, JSON documents and one-line errors."""

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from tradingbot.errors import KronosError
from tradingbot.runtime.logs import to_json
from tradingbot.runtime.printable import printable, shortened
from tradingbot.runtime.progress import SafeConsole
from tradingbot.runtime.signals import Stopped
from tradingbot.runtime.streams import SafeStream
from tradingbot.runtime.wrapping import width_of, width_of_console, wrapped


def plain_table(*columns: str, left: Collection[str] = (), gap: int = 2) -> Table:
    """Return an empty table without lines: bold headings, and figures aligned on the right.

    Args:
        columns: Headings, from left to right.
        left: Headings of the text columns, which are aligned on the left.
        gap: Spaces between two columns.
    """
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for heading in columns:
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=True)
    return table


def print_table(console: Console, table: Table) -> None:
    """Print the table without truncating it, even if its lines are longer than the console."""
    natural = console.options.update(max_width=1000)
    width = console.width
    # rich ignores a `width` argument above the console's own width
    console.width = max(width, console.measure(table, options=natural).maximum)
    console.print(table)
    console.width = width


def print_line(console: Console, line: str = "", *, always_wrap: bool = False) -> None:
    """Print a line literally: brackets are not markup, and numbers are not coloured.

    The line is wrapped on a terminal. With `always_wrap` it is also wrapped in a file.
    """
    line = wrapped(line, console.width if always_wrap else width_of_console(console))
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def finish(
    code: int,
    *,
    as_json: bool,
    document: Callable[[], Mapping[str, Any]],
    show: Callable[[Console], None],
) -> NoReturn:
    """Print a result on stdout, as one JSON document or as text, and end the command."""
    out = SafeStream(sys.stdout)
    if as_json:
        out.write(to_json(document()) + "\n")
    else:
        show(SafeConsole(file=out.as_text()))
    out.flush()
    raise typer.Exit(code)


def fail(error: KronosError | Stopped, *, as_json: bool = False, left: str = "") -> NoReturn:
    """End the command with a line on stderr and, with `as_json`, a JSON document on stdout.

    `left` describes the state that a stopped command leaves behind.
    """
    stopped = isinstance(error, Stopped)
    message = "; ".join(filter(None, (f"Stopped by {error}", left))) if stopped else str(error)
    message = shortened(printable(message))
    if as_json:
        out = SafeStream(sys.stdout)
        failure = {"kind": type(error).__name__, "message": message}
        out.write(to_json({"exit_code": error.exit_code, "error": failure}) + "\n")
        out.flush()
    typer.echo(wrapped(message if stopped else f"Error: {message}", width_of(sys.stderr)), err=True)
    raise typer.Exit(error.exit_code)
