"""What the commands print: tables, lines, JSON documents, and the line of a failure."""

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
    """An empty table without lines: bold headings, and figures that line up on the right.

    Args:
        columns: The headings, from left to right.
        left: Those of them whose cells are text and start on the left.
        gap: Blanks between two columns.
    """
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for heading in columns:
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=True)
    return table


def print_table(console: Console, table: Table) -> None:
    """Print the whole table; a line longer than the console is better than a figure cut off."""
    natural = console.options.update(max_width=1000)
    width = console.width
    # rich would take no argument `width` that is more than the console's own
    console.width = max(width, console.measure(table, options=natural).maximum)
    console.print(table)
    console.width = width


def print_line(console: Console, line: str = "", *, always_wrap: bool = False) -> None:
    """Print a line as it is: brackets are no markup, and numbers have no colour.

    On a terminal it is broken at words; in a file too, at the console's width, with `always_wrap`.
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
    """End the command with a line on stderr and, if wanted, a JSON document on stdout.

    `left` says what a signal to stop leaves behind.
    """
    stopped = isinstance(error, Stopped)
    said = "; ".join(filter(None, (f"Stopped by {error}", left))) if stopped else str(error)
    said = shortened(printable(said))
    if as_json:
        out = SafeStream(sys.stdout)
        failure = {"kind": type(error).__name__, "message": said}
        out.write(to_json({"exit_code": error.exit_code, "error": failure}) + "\n")
        out.flush()
    typer.echo(wrapped(said if stopped else f"Error: {said}", width_of(sys.stderr)), err=True)
    raise typer.Exit(error.exit_code)
