"""The rows of a backtest's file: which columns there are, and what cannot stand in them."""

import csv
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from tradingbot.errors import ConfigError
from tradingbot.evaluation.training_cutoff import InTraining
from tradingbot.forecast import QUANTILE_LEVELS

QUANTILES = [f"q{round(100 * level):02}" for level in QUANTILE_LEVELS]
SETTINGS = [
    "model", "revision", "source", "until", "horizon", "stride", "context", "samples",
    "temperature", "top_p",
]  # fmt: skip
RANGES = ["actual_open", "actual_high", "actual_low"]
ADDED = ["anchor_factor", *RANGES]  # that files of earlier versions lack
COLUMNS = [
    "symbol", "interval", "as_of", "target", "step", "last_close", "close", *QUANTILES,
    "prob_up", "anchor_factor", *RANGES, "actual", "in_training", "seed", *SETTINGS,
]  # fmt: skip
EARLIER_COLUMNS = [name for name in COLUMNS if name not in ADDED]

_NUMBERS = ["step", "last_close", "close", *QUANTILES, "prob_up", *ADDED, "actual"]


def content_of(path: Path) -> bytes:
    """What is in the file; nothing, if it is not there. ConfigError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def whole_lines(content: bytes) -> bytes:
    """Without what a crash left of a last line."""
    return content[: content.rfind(b"\n") + 1]


def header_of(content: bytes) -> list[str]:
    """The columns of a file with this content, which may have been written by another version."""
    return next(csv.reader(content.decode(errors="replace").splitlines()[:1]), COLUMNS)


def parsed(path: Path, content: bytes) -> pd.DataFrame:
    """Its rows: text, but for `_NUMBERS`, which are floats. ConfigError if it is no such file."""
    header, *lines = list(csv.reader(content.decode(errors="replace").splitlines())) or [COLUMNS]
    if header not in (COLUMNS, EARLIER_COLUMNS):
        raise ConfigError(f"{path} is no backtest's file: give another --out")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise ConfigError(
                f"{path} is damaged: line {number} has {len(line)} values, not {len(header)}; "
                "give another --out"
            )
    rows = pd.DataFrame(lines, columns=header, dtype="object").reindex(columns=COLUMNS)
    try:
        for name in _NUMBERS:
            rows[name] = pd.to_numeric(rows[name].replace("", np.nan)).astype("float64")
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}; give another --out") from error
    for name, wrong in _impossible(rows) if len(rows) else ():
        if wrong.any():
            number = int(wrong.to_numpy().argmax())
            raise ConfigError(
                f"{path} is damaged: line {number + 2} has {rows[name].iloc[number]!s} as "
                f"{name}; give another --out"
            )
    return rows


def _impossible(rows: pd.DataFrame) -> Iterable[tuple[str, pd.Series]]:
    """A column, and the rows with a value in it that no backtest writes: edited by hand."""
    for name in SETTINGS:
        yield name, rows[name] != rows[name].iloc[0]
    yield "horizon", ~rows["horizon"].str.isdecimal()
    for name in ("as_of", "target"):
        known = {day: _is_day(day) for day in rows[name].unique()}
        yield name, ~rows[name].map(known).astype("bool")
    yield "step", ~rows["step"].isin(range(int(rows["horizon"].iloc[0]) + 1))
    forecast = rows["step"] > 0
    for name in ("last_close", "close", *QUANTILES):
        yield name, forecast & ~((rows[name] > 0) & (rows[name] < np.inf))
    yield "prob_up", forecast & ~rows["prob_up"].between(0, 1)
    yield "in_training", forecast & ~rows["in_training"].isin(get_args(InTraining))
    no_price = ~((rows["actual"] > 0) & (rows["actual"] < np.inf))
    for name in ADDED:
        yield name, rows[name].notna() & ~((rows[name] > 0) & (rows[name] < np.inf))
    yield "actual", no_price & (rows["actual"].notna() | ~forecast)


def _is_day(text: str) -> bool:
    try:
        return f"{datetime.strptime(text, '%Y-%m-%d'):%Y-%m-%d}" == text
    except ValueError:
        return False
