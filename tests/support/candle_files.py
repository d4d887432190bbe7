"""The table of candle files that the job's reader and the page's are both tested with."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pytest
import yaml

from tests.support import ROOT

Candle = tuple[datetime, *tuple[float, ...]]  # time, open, high, low, close and maybe volume


@dataclass(frozen=True)
class CandleFile:
    """One case: what a file holds, and the candles in it or words of its refusal."""

    name: str
    text: str
    file: str = "AAPL"
    encoding: str = "utf-8"
    newline: str = "lf"
    candles: list[list[Any]] = field(default_factory=list)
    refused: list[Any] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def content(self) -> bytes:
        newline = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}[self.newline]
        return self.text.replace("\n", newline).encode(self.encoding)

    def expected(self) -> list[Candle]:
        return [(moment(time), *map(float, numbers)) for time, *numbers in self.candles]


def moment(time: str | date) -> datetime:
    """A date is its midnight; a zone stays."""
    return datetime.fromisoformat(str(time))


CANDLE_FILES = [
    CandleFile(**case)
    for case in yaml.safe_load((ROOT / "tests/data/candle_files.yaml").read_text("utf-8"))
]
every_candle_file = pytest.mark.parametrize("case", CANDLE_FILES, ids=lambda case: case.name)
