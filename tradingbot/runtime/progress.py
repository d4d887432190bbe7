"""Progress of the job on stderr: a bar on a terminal, otherwise plain lines or JSON.

Nothing is written to stdout, where the run's report is printed. Log records of level WARNING and
above are printed in the same form as the progress.
"""

import logging
import math
import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TextIO, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TimeElapsedColumn,
)
from rich.text import Text

from tradingbot.environment import environment
from tradingbot.runtime.logs import JsonFormatter, log_line, message_of, traceback_of
from tradingbot.runtime.printable import printable, shortened
from tradingbot.runtime.streams import LineStream, SafeStream
from tradingbot.runtime.wrapping import given_columns, width_of_console, wrapped


class SafeConsole(Console):
    """A console that replaces control characters in the texts that it prints.

    The console has at least MIN_WIDTH columns.
    """

    def __init__(self, **options: Any) -> None:
        sizes = {"COLUMNS": str(given_columns() or ""), "LINES": ""}
        super().__init__(**options, _environ={**environment(), **sizes})

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a text or table cell to its printed form."""
        return super().render_str(printable(text), **options)


class ProgressReporter:
    """Progress for people: one line per step, or a bar on a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or SafeConsole(file=SafeStream(sys.stderr).as_text())
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                "{task.description}",
                BarColumn(),
                _Count(),
                _Rate(),
                _Note(),
                TimeElapsedColumn(),
                _Left(),
                console=self._console,
                transient=True,
            )
        self._handler = _Handler(self)

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        logging.getLogger().removeHandler(self._handler)

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        line = wrapped(line, width_of_console(self._console))
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def warn(self, line: str, **fields: Any) -> None:
        """Print a problem that did not stop the run. `fields` are for JSON output."""
        self.say(f"Warning: {line}")

    def log(self, record: logging.LogRecord) -> None:
        """Print a log record of level WARNING or above."""
        self.say(f"{record.levelname.capitalize()}: {message_of(record)}")
        if record.exc_info:
            self.say(traceback_of(record))

    def step(self, name: str, what: str, *, total: int | None = None) -> None:
        """Start a step. `total` is the number of `advance` calls to expect.

        `name` is the step's name in JSON output: wake, fetch, forecast, pause.
        """
        if self._bar:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task(escape(printable(what)), total=total, note="")
            self._bar.start()
        else:
            self.say(what if total is None else f"{what}: {total}")

    def advance(self, note: str = "") -> None:
        """Count one unit of the step's total. The bar shows the newest `note` next to the count."""
        if self._bar:
            shown: dict[str, Any] = {"note": note} if note else {}
            self._bar.update(self._bar.task_ids[-1], advance=1, **shown)

    def end(self) -> None:
        """End the step and remove the bar."""
        if self._bar:
            self._bar.stop()


class JsonProgressReporter(ProgressReporter):
    """Progress for log collectors: one JSON object per line, and nothing else on stderr.

    Each step writes a line at its start, and a line at its end with `seconds` and `count`. If other
    code, for example a library, writes text to stderr, its lines also become JSON lines.
    """

    def __init__(self) -> None:
        self._stream = SafeStream(sys.stderr)
        super().__init__(Console(file=self._stream.as_text(), force_terminal=False))
        self._formatter = JsonFormatter()
        self._what = ""
        self._began = 0.0
        self._done = 0
        self._counts = False

    def __enter__(self) -> Self:
        self._stderr, self._others = sys.stderr, LineStream(self._printed)
        sys.stderr = cast("TextIO", self._others)
        logging.captureWarnings(True)
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        logging.captureWarnings(False)
        sys.stderr = self._stderr
        self._others.close()

    def say(self, line: str) -> None:
        self._write("INFO", line)

    def warn(self, line: str, **fields: Any) -> None:
        self._write("WARNING", line, **fields)

    def log(self, record: logging.LogRecord) -> None:
        self._print(self._formatter.format(record))

    def step(self, name: str, what: str, *, total: int | None = None) -> None:
        self.end()
        self._formatter.step = name
        self._what, self._began, self._done = what, time.monotonic(), 0
        self._counts = total is not None
        self._write("INFO", what, event="start", **({} if total is None else {"count": total}))

    def advance(self, note: str = "") -> None:
        self._done += 1

    def end(self) -> None:
        if self._formatter.step is None:
            return
        took: dict[str, Any] = {"seconds": round(time.monotonic() - self._began, 3)}
        if self._counts:
            took["count"] = self._done
        self._write("INFO", self._what, event="end", **took)
        self._formatter.step = None

    def report(self, message: str, digest: dict[str, Any]) -> None:
        """Write the last line: the result of the run."""
        level = "ERROR" if digest["error"] else "INFO"
        self._write(level, message, event="report", **digest)

    def _write(self, level: str, message: str, *, event: str = "note", **fields: Any) -> None:
        self._print(log_line(level, message, event=event, formatter=self._formatter, **fields))

    def _print(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def _printed(self, line: str) -> None:
        """Write a line for text that a library wrote to stderr."""
        self._write("WARNING", shortened(line), logger="stderr")


class _Count(ProgressColumn):
    """The count, such as 3/4. Empty if the total is unknown."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")


class _Rate(ProgressColumn):
    """The rate, such as 57/s, over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None or not task.speed else f"{task.speed:.3g}/s")


class _Note(ProgressColumn):
    """The newest note, such as "loss 1.98"."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"])


class _Left(ProgressColumn):
    """The time left at the current rate, such as "0:01:23 left"."""

    def render(self, task: Task) -> Text:
        if task.total is None or task.finished or task.time_remaining is None:
            return Text("")
        return Text(f"{timedelta(seconds=math.ceil(task.time_remaining))} left")


class _Handler(logging.Handler):
    def __init__(self, reporter: ProgressReporter) -> None:
        super().__init__(level=logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.log(record)
