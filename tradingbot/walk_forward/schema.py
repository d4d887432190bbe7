"""Columns of a backtest's two files, and validation of their values."""

import csv
from collections.abc import Iterable, Mapping, Sequence
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
ADDED = ["anchor_factor", *RANGES]  # columns that files of the first version lack
_MADE = ["symbol", "interval", "as_of", "target", "step", "last_close", "close", *QUANTILES]
COLUMNS = [*_MADE, "prob_up", "anchor_factor", "actual", "in_training", "seed", *SETTINGS]
# Earlier versions, oldest first; they store closes in rows of step 0.
EARLIER_COLUMNS = [name for name in COLUMNS if name not in ADDED]
MIXED_COLUMNS = [
    *_MADE, "prob_up", "anchor_factor", *RANGES, "actual", "in_training", "seed", *SETTINGS,
]  # fmt: skip
CLOSES = ["symbol", "interval", "as_of", "open", "high", "low", "close"]

_NUMBERS = ["step", "last_close", "close", *QUANTILES, "prob_up", *ADDED, "actual"]


def content_of(path: Path) -> bytes:
    """Return the file's content, empty if it does not exist. Raises ConfigError if unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def whole_lines(content: bytes) -> bytes:
    """Return the content without an incomplete last line, which a crash may leave."""
    return content[: content.rfind(b"\n") + 1]


def header_of(content: bytes) -> list[str]:
    """Return the columns of a file with this content. The file may be of any version."""
    return next(csv.reader(content.decode(errors="replace").splitlines()[:1]), COLUMNS)


def parsed(path: Path, content: bytes) -> pd.DataFrame:
    """Parse the rows: text, except floats in `_NUMBERS`. Raises ConfigError for another file."""
    rows = _table(path, content, (COLUMNS, EARLIER_COLUMNS, MIXED_COLUMNS))
    rows = _with_numbers(path, rows.reindex(columns=MIXED_COLUMNS), _NUMBERS)
    _check(path, rows, _impossible(rows) if len(rows) else ())
    return rows


def parsed_closes(path: Path, content: bytes, settings: Mapping[str, str]) -> pd.DataFrame:
    """Parse the bars of the second file as rows of step 0, with `settings`."""
    bars = _with_numbers(path, _table(path, content, (CLOSES,)), CLOSES[3:])
    no_price = {name: ~((bars[name] > 0) & (bars[name] < np.inf)) for name in CLOSES[3:]}
    wrong = {name: no_price[name] & bars[name].notna() for name in CLOSES[3:6]}
    days = ~bars["as_of"].map({day: _is_day(day) for day in bars["as_of"].unique()}).astype("bool")
    _check(path, bars, [("as_of", days), *wrong.items(), ("close", no_price["close"])])
    names = dict(zip(CLOSES[3:], [*RANGES, "actual"], strict=True))
    rows = bars.rename(columns=names).assign(target=bars["as_of"], step=0.0, **settings)
    return _with_numbers(path, rows.reindex(columns=MIXED_COLUMNS), _NUMBERS)


def closes_path(path: Path) -> Path:
    """Return the path of the second file: backtest.csv -> backtest.closes.csv."""
    return path.with_name(f"{path.stem}.closes.csv")


def rows_of(path: Path) -> pd.DataFrame:
    """Return all rows of a backtest, those of the second file last. Empty if it does not exist.

    Raises:
        ConfigError: The file is damaged, or its second file is missing.
    """
    content = whole_lines(content_of(path))
    rows = parsed(path, content)
    if not content:
        return rows
    closes_file = closes_path(path)
    if len(rows) and not closes_file.exists() and (rows["step"] > 0).all():
        raise ConfigError(
            f"{closes_file} is missing: it contains the closes for {path} and belongs in the same "
            "folder; `kronosbot backtest` writes both"
        )
    settings = settings_of(rows) or dict.fromkeys(SETTINGS, "")
    closes = parsed_closes(closes_file, whole_lines(content_of(closes_file)), settings)
    return pd.concat([rows, closes], ignore_index=True) if len(closes) else rows


def settings_of(rows: pd.DataFrame) -> dict[str, str]:
    """Return the settings of all rows, or {} if there are no rows."""
    return {name: rows[name].iloc[0] for name in SETTINGS} if len(rows) else {}


def _table(path: Path, content: bytes, headers: Sequence[list[str]]) -> pd.DataFrame:
    lines = list(csv.reader(content.decode(errors="replace").splitlines()))
    header, *lines = lines or [headers[0]]
    if header not in headers:
        raise ConfigError(f"{path} is not a backtest's file: give another --out")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise ConfigError(
                f"{path} is damaged: line {number} has {len(line)} values, not {len(header)}; "
                "give another --out"
            )
    return pd.DataFrame(lines, columns=header, dtype="object")


def _with_numbers(path: Path, rows: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    try:
        for name in names:
            rows[name] = pd.to_numeric(rows[name].replace("", np.nan)).astype("float64")
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}; give another --out") from error
    return rows


def _check(path: Path, rows: pd.DataFrame, wrongs: Iterable[tuple[str, pd.Series]]) -> None:
    for name, wrong in wrongs:
        if wrong.any():
            number = int(wrong.to_numpy().argmax())
            raise ConfigError(
                f"{path} is damaged: line {number + 2} has {rows[name].iloc[number]!s} as "
                f"{name}; give another --out"
            )


def _impossible(rows: pd.DataFrame) -> Iterable[tuple[str, pd.Series]]:
    """Yield columns with a mask of the rows whose value is impossible, as after an edit by hand."""
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
