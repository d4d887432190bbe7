"""Messages on a terminal of any width, and in a file."""

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from tradingbot.cli.output import print_line
from tradingbot.runtime.progress import ProgressReporter, SafeConsole
from tradingbot.runtime.wrapping import width_of, wrapped

LONG = (
    "KRONOS_HORIZON='abc': expected a whole number from 1 to 256; give --horizon, or set the "
    "variable where the job's settings are"
)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_messages_are_wrapped_only_between_words(width: int) -> None:
    lines = wrapped(f"Error: {LONG}", width).split("\n")
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()) == f"Error: {LONG}"


@given(st.text(st.sampled_from("ab –-\n"), max_size=300), st.integers(20, 200))  # noqa: RUF001
def test_no_word_is_lost_or_cut_at_any_width(text: str, width: int) -> None:
    out = wrapped(text, width)
    assert out.split() == text.split()
    for line in out.split("\n"):
        assert len(line) <= width or len(line.split()) == 1 or line in text.split("\n")


def test_continuation_lines_are_indented_to_the_labels_text() -> None:
    assert wrapped("Stored   four tickers are there now", 24) == (
        "Stored   four tickers\n         are there now"
    )


@pytest.mark.parametrize("columns", ["0", "1", "-5", "abc", "", "²", "9" * 5000])
@pytest.mark.parametrize("terminal", [True, False])
def test_any_columns_of_the_environment_leave_words_and_tables_whole(
    columns: str, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    out = StringIO()
    console = SafeConsole(file=out, force_terminal=terminal, color_system=None)
    print_line(console, LONG)
    ProgressReporter(console).say(LONG)
    table = Table(box=None)
    table.add_column("Ticker")
    table.add_row("AAPL")
    console.print(table)
    words = out.getvalue().split()
    assert words == [*LONG.split(), *LONG.split(), "Ticker", "AAPL"]


def test_output_is_wrapped_for_a_terminal_but_not_for_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    for terminal in (True, False):
        out = StringIO()
        console = Console(file=out, width=60, force_terminal=terminal, color_system=None)
        print_line(console, LONG)
        ProgressReporter(console).say(LONG)
        assert len(out.getvalue().splitlines()) == (6 if terminal else 2)
    assert width_of(StringIO()) is None
    monkeypatch.setenv("COLUMNS", "60")
    assert width_of(StringIO()) == 60
