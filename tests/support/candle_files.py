"""The table of candle files that tests both readers: the nightly job's and the page's."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pytest
import yaml

from tests.support import ROOT

Candle = tuple[datetime, *tuple[float, ...]]  # time, open, high, low, close, optional volume


@dataclass(frozen=True)
class CandleFile:
    """One test case: the content of a file, and the expected candles or words of the error."""

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
    """Parse a date (as midnight) or a time; keep the zone."""
    return datetime.fromisoformat(str(time))


CANDLE_FILES = [
    CandleFile(**case)
    for case in yaml.safe_load((ROOT / "tests/data/candle_files.yaml").read_text("utf-8"))
]
every_candle_file = pytest.mark.parametrize("case", CANDLE_FILES, ids=lambda case: case.name)
