"""What the job tells while it runs: a progress bar on a terminal, plain lines elsewhere."""

import logging
import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TimeElapsedColumn,
)
from rich.text import Text

from tradingbot.utils.streams import SafeStream


class Narrator:
    """Speaks on stderr, so that stdout holds the report alone; log warnings go the same way."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=SafeStream(sys.stderr).as_text())
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                "{task.description}",
                BarColumn(),
                _Count(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
        self._handler = _Handler(self)

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._handler)
        if self._bar:
            self._bar.start()
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
        """One line, above the bar where there is one."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def step(self, name: str, what: str, *, total: int | None = None) -> None:
        """The job's next step; `total` is how often `advance` will be called."""
        if self._bar:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task(what, total=total)
        else:
            self.say(what if total is None else f"{what}: {total}")

    def advance(self) -> None:
        """One more of the step's total is done."""
        if self._bar:
            self._bar.advance(self._bar.task_ids[-1])

    def end(self) -> None:
        """No step is under way: take the bar off the screen."""
        if self._bar:
            self._bar.stop()


class _Count(ProgressColumn):
    """3/4; nothing while the number of steps is not known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")


class _Handler(logging.Handler):
    def __init__(self, narrator: Narrator) -> None:
        super().__init__(level=logging.WARNING)
        self._narrator = narrator

    def emit(self, record: logging.LogRecord) -> None:
        self._narrator.say(f"{record.levelname.capitalize()}: {record.getMessage()}")
