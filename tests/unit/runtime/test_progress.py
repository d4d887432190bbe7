"""The job's progress messages, for people and for log collectors."""

import io
import json
import logging
import re
import sys
import threading
import warnings
from datetime import datetime
from typing import Any

import pytest
from rich.console import Console

from tradingbot.errors import ConfigError
from tradingbot.runtime.logs import likely_log_format, log_format, to_json
from tradingbot.runtime.progress import JsonProgressReporter, ProgressReporter


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_step_has_a_line_at_its_start_and_one_with_figures_at_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with JsonProgressReporter() as reporter:
        reporter.step("wake", "Waking me/space")
        reporter.say("Space me/space: RUNNING")
        reporter.step("fetch", "Fetching candles", total=2)
        reporter.advance()
        reporter.advance()
        reporter.end()
    output = lines(capsys)
    assert [(line["event"], line["step"], line["message"]) for line in output] == [
        ("start", "wake", "Waking me/space"),
        ("note", "wake", "Space me/space: RUNNING"),
        ("end", "wake", "Waking me/space"),
        ("start", "fetch", "Fetching candles"),
        ("end", "fetch", "Fetching candles"),
    ]
    assert all(list(line)[:5] == ["time", "level", "event", "step", "message"] for line in output)
    assert output[3]["count"] == output[4]["count"] == 2
    assert output[4]["seconds"] >= 0
    assert output[0]["time"].endswith("+00:00")


def test_library_messages_are_json_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    real = sys.stderr
    with warnings.catch_warnings(action="always"), JsonProgressReporter():
        logging.getLogger("library").warning("two\nlines of %s", "log")
        logging.getLogger("data").warning("SPY: late", extra={"symbol": "SPY"})
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            logging.getLogger("library").exception("it failed")
        warnings.warn("deprecated", UserWarning, stacklevel=1)
        print("progress 1/2\rprogress 2/2\n\nno end of line", end="", file=sys.stderr)  # noqa: T201
    assert sys.stderr is real
    output = lines(capsys)
    assert [line["message"] for line in output[:3] + output[4:]] == [
        "two\nlines of log", "SPY: late", "it failed",
        "progress 1/2", "progress 2/2", "no end of line",
    ]  # fmt: skip
    assert output[1]["symbol"] == "SPY"
    assert output[2]["level"] == "ERROR"
    assert "ZeroDivisionError: division by zero" in output[2]["exception"]
    assert output[3]["logger"] == "py.warnings"
    assert "UserWarning: deprecated" in output[3]["message"]


def test_lines_of_several_threads_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonProgressReporter():
        log = logging.getLogger("library")
        threads = [
            threading.Thread(target=lambda: [log.warning("x" * 500) for _ in range(50)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [line["message"] for line in lines(capsys)] == ["x" * 500] * 200


def test_each_step_and_warning_is_one_line_in_text_format(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressReporter() as reporter:
        reporter.step("fetch", "Fetching candles", total=2)
        logging.getLogger("data").warning("SPY: late")
        reporter.warn("the report could not be shown")
    assert capsys.readouterr().err.splitlines() == [
        "Fetching candles: 2", "Warning: SPY: late", "Warning: the report could not be shown",
    ]  # fmt: skip


def test_the_bar_of_a_terminal_shows_a_note_and_the_time_left() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with ProgressReporter(console) as reporter:
        reporter.step("train", "Training kronos-nano", total=4)
        reporter.advance("loss 2.345")
        reporter.advance()
        reporter._bar.refresh()  # type: ignore[union-attr]
    shown = screen.getvalue()
    assert re.search(r"2/4 .*loss 2\.345 .*0:00:0\d left", shown), shown


@pytest.mark.parametrize(
    ("given", "environ", "chosen"),
    [
        (None, {}, "text"),
        (None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "json"),
        (None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KRONOS_LOG_FORMAT": "text"}, "text"),
        (None, {"KRONOS_LOG_FORMAT": " "}, "text"),
        (None, {"KRONOS_LOG_FORMAT": "json"}, "json"),
        ("text", {"KRONOS_LOG_FORMAT": "json"}, "text"),
        ("auto", {"KRONOS_LOG_FORMAT": "json"}, "text"),
    ],
)
def test_the_log_format_comes_from_the_option_or_else_the_environment(
    given: str | None, environ: dict[str, str], chosen: str
) -> None:
    assert log_format(given, environ) == chosen


def test_a_format_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="--log-format='xml': expected auto, text or json"):
        log_format("xml", {})
    with pytest.raises(ConfigError, match="KRONOS_LOG_FORMAT='xml'"):
        log_format(None, {"KRONOS_LOG_FORMAT": "xml"})


@pytest.mark.parametrize(
    ("arguments", "likely"),
    [
        ([], "text"),
        (["run", "--log-format", "json"], "json"),
        (["--log-format=json", "--bogus"], "json"),
        (["run", "--log-format"], "text"),
        (["--log-format", "xml"], "text"),
    ],
)
def test_the_format_is_guessed_where_arguments_cannot_be_parsed(
    arguments: list[str], likely: str
) -> None:
    assert likely_log_format(arguments, {}) == likely


def test_json_has_no_nan_nor_infinity() -> None:
    assert to_json({"a": float("nan"), "b": [float("inf"), 1.5], 0.1: None}) == (
        '{"a":null,"b":[null,1.5],"0.1":null}'
    )


def test_any_message_gives_a_valid_json_line() -> None:
    odd = {"half": "a\ud800b", "many": 2**80, "fine": (True, {datetime(2024, 3, 8)}), 0.5: "é"}
    assert json.loads(to_json(odd)) == {
        "half": "a?b", "many": str(2**80), "fine": [True, ["2024-03-08T00:00:00"]], "0.5": "é",
    }  # fmt: skip
