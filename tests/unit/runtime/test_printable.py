"""Control characters and long messages are made safe for log, terminal and run_logs."""

import io
import json
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from tradingbot.errors import DatabaseError
from tradingbot.jobs.summary import Ending, RunSummary, TickerOutcome
from tradingbot.runtime.logs import JsonFormatter, to_json
from tradingbot.runtime.printable import printable, shortened
from tradingbot.runtime.progress import JsonProgressReporter, ProgressReporter, SafeConsole

HOSTILE = "\x1b]0;title\x07 \x1b[2J \x9b31m \x85 \u202etxt \u2028 \x7f \x00 \r\n end"


def acts(text: str) -> list[str]:
    """Return the characters that control a terminal or are not valid text."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n"]


def console_of(stream: io.StringIO) -> SafeConsole:
    return SafeConsole(file=stream, force_terminal=False)


def test_no_foreign_control_character_reaches_a_terminal() -> None:
    stream = io.StringIO()
    reporter = ProgressReporter(console_of(stream))
    with reporter:
        reporter.say(HOSTILE)
        reporter.warn(HOSTILE)
        reporter.step("wake", HOSTILE)
        logging.getLogger("tradingbot.x").warning("%s", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logging.getLogger("library").exception("oops")
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    console_of(stream).print(table)
    assert acts(stream.getvalue()) == []
    assert stream.getvalue().count("end") == 7


def test_progress_bars_show_no_control_characters() -> None:
    stream = io.StringIO()
    reporter = ProgressReporter(SafeConsole(file=stream, force_terminal=True, width=300))
    with reporter:
        reporter.step("wake", "\x1b]0;title\x07[red]me[/red]")
    assert "\x1b]0" not in stream.getvalue()


def test_no_control_character_reaches_a_json_log(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonProgressReporter() as reporter:
        reporter.say(HOSTILE)
        reporter.warn("x", field=HOSTILE, **{HOSTILE: 1})
        logging.getLogger("tradingbot.x").warning("%s", HOSTILE)
    output = capsys.readouterr().err
    assert acts(output) == []
    assert json.loads(output.splitlines()[1])["field"] == HOSTILE


@given(st.text())
def test_escaped_json_keeps_its_meaning_and_controls_no_terminal(text: str) -> None:
    document = to_json({"a": text})
    assert acts(document) == [c for c in acts(document) if unicodedata.category(c) == "Cf"]
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert json.loads(document) == {"a": text}


@given(st.text())
def test_printable_text_has_no_control_characters_but_line_ends(text: str) -> None:
    assert all(c.isprintable() or c == "\n" for c in printable(text))
    assert len(printable(text)) == len(text)


def test_long_library_messages_keep_their_beginning_and_end() -> None:
    record = logging.LogRecord("library", 30, "", 0, "begin " + "x" * 10_000 + " end", (), None)
    message = json.loads(JsonFormatter().format(record))["message"]
    assert len(message) <= 500
    assert (message[:5], message[-3:]) == ("begin", "end")
    assert shortened("short") == "short"


def test_run_logs_store_one_short_line_of_foreign_messages() -> None:
    error = DatabaseError(f"database x: {HOSTILE} {'y' * 5000}; is the server up?")
    ending = Ending.by(error)
    summary = RunSummary(ending, tickers={"A": TickerOutcome("failed", failure=error)})
    record = summary.record()
    [(_, reason)] = summary.failures()
    for text in (record["message"], record["details"]["failed"]["A"], reason):
        assert len(text) <= 500
        assert acts(text) == []
    assert record["message"].endswith("is the server up?")
