"""`kronosbot export` from a database and from a backtest file."""

import csv
import io
import json
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support.command_line import kronosbot
from tests.support.market import flat_forecast
from tradingbot.cli.export_output import write_rows
from tradingbot.cli.main import app
from tradingbot.cli.options import Format
from tradingbot.errors import ConfigError
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.path_events.event_probabilities import EventChance
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.events import store_event_scores
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.persistence.models import SERVED
from tradingbot.persistence.scores import store_scores
from tradingbot.walk_forward.schema import COLUMNS

DAY = datetime(2024, 5, 15)
QUANTILES = [f"q{round(100 * level):02}" for level in QUANTILE_LEVELS]


def export(*arguments: str, code: int = 0) -> str:
    """Return its output on stdout; it runs in this process, which is faster."""
    done = CliRunner().invoke(app, ["export", *arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def store(url: str, **changes: Any) -> None:
    numbers: dict[str, Any] = {
        "last_close": 100.0, "close": 1 / 3, "low": 99.0, "high": 107.0, "prob_up": 0.8,
    } | changes  # fmt: skip
    with get_db_session(url) as session:
        forecasts = [flat_forecast(symbol, DAY, horizon=2, **numbers) for symbol in ("AAPL", "IBM")]
        store_forecasts(session, forecasts)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_forecast_is_a_row_with_a_column_for_each_quantile(database: str) -> None:
    store(database)
    rows = read_csv(export("forecasts", "--database-url", database))
    assert [(row["symbol"], row["horizon_days"]) for row in rows] == [
        ("AAPL", "1"), ("AAPL", "2"), ("IBM", "1"), ("IBM", "2"),
    ]  # fmt: skip
    first = rows[0]
    assert [name for name in first if name.startswith("q")] == QUANTILES
    assert (first["q10"], first["raw_q90"], first["q05"]) == ("99.0", "107.0", "")
    assert float(first["predicted_close"]) == 1 / 3, "no digit is lost"
    assert first["as_of"] == "2024-05-15T00:00:00"
    assert "close_quantiles" not in first


def test_events_and_their_scores_are_exported_as_flat_rows(sqlite_url: str) -> None:
    store(sqlite_url)
    assert "KRONOS_EVENTS" in export("events", "--database-url", sqlite_url, code=1)
    chance = EventChance("touch +2%", (0.2, 0.3), (0.1, 0.2), (0.4, 0.5))
    numbers: dict[str, Any] = dict.fromkeys(("last_close", "close", "low", "high"), 100.0)
    made = flat_forecast("IBM", DAY, horizon=2, prob_up=0.5, **numbers)
    with get_db_session(sqlite_url) as session:
        store_forecasts(session, [replace(made, events=(chance,))])
    rows = read_csv(export("events", "--database-url", sqlite_url, "--symbols", "IBM"))
    assert [(row["event"], row["horizon_days"], row["probability"]) for row in rows] == [
        ("touch +2%", "1", "0.2"), ("touch +2%", "2", "0.3"),
    ]  # fmt: skip
    assert (rows[0]["low"], rows[0]["high"], rows[0]["mean"]) == ("0.1", "0.4", "")
    asked = ("events", "--scores", "--database-url", sqlite_url, "--format", "json")
    assert "kronosbot score" in export(*asked, code=1)
    with get_db_session(sqlite_url) as session:
        counted = {
            "model_name": "m", "model_revision": "", "interval": "1d", "symbol": "*",
            "event": "*", "step": 0, "n": 40, "sessions": 20, "first_target": DAY,
            "last_target": DAY, "brier": 0.2, "scored_at": DAY,
            "bins": [{"from": 0.2, "to": 0.3, "n": 40, "probability": 0.25, "frequency": 0.3}],
        }  # fmt: skip
        store_event_scores(session, [counted])
    [row] = json.loads(export(*asked))
    assert (row["event"], row["brier"], row["bin2_n"], row["bin2_frequency"]) == ("*", 0.2, 40, 0.3)
    assert (row["bin3_n"], "bins" in row) == (None, False)


def test_json_and_csv_have_the_same_rows_and_filters(sqlite_url: str) -> None:
    store(sqlite_url)
    store(sqlite_url, model='another, "with" quotes\nand lines')
    asked = ("forecasts", "--database-url", sqlite_url, "--symbols", "IBM", "--model", "some-model")
    rows = json.loads(export(*asked, "--format", "json"))
    assert [row["symbol"] for row in rows] == ["IBM", "IBM"]
    assert rows[0]["predicted_close"] == 1 / 3
    assert rows[0]["q05"] is None
    in_csv = read_csv(export(*asked))
    assert [set(row) for row in in_csv] == [set(row) for row in rows]
    every = read_csv(export("forecasts", "--database-url", sqlite_url))
    assert len(every) == 8
    assert {row["model_name"] for row in every} == {
        "some-model", "another, \"with\" quotes\nand lines",
    }  # fmt: skip
    later = ("--since", "2024-05-16")
    assert "there are no forecasts" in export(*asked, *later, code=1)


def test_scores_are_written_with_all_their_columns(database: str) -> None:
    store(database)
    key = {"model_name": "m", "model_revision": "", "interval": "1d", "symbol": "*", "step": 0,
           "last_sessions": 0, "forecast": SERVED}  # fmt: skip
    row = key | {"n": 7, "sessions": 7, "scored_at": DAY, "first_target": DAY, "last_target": DAY}
    with get_db_session(database) as session:
        store_scores(session, [row])
    [found] = json.loads(export("scores", "--database-url", database, "--format", "json"))
    assert {name: found[name] for name in key} == key
    assert (found["n"], found["last_target"]) == (7, "2024-05-15T00:00:00")


def test_a_backtests_forecasts_and_closes_go_to_separate_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"horizon": "1", "as_of": "2024-05-15", "symbol": "AAPL", "interval": "1d"}
    close = dict.fromkeys(COLUMNS, "") | settings | {
        "target": "2024-05-15", "step": "0", "actual": "100.5",
    }  # fmt: skip
    made = dict.fromkeys(COLUMNS, "") | settings | dict.fromkeys(QUANTILES, "102") | {
        "target": "2024-05-16", "step": "1", "last_close": "100.5", "close": "101",
        "prob_up": "0.5", "in_training": "no",
    }  # fmt: skip
    rows = [close, made]
    pd.DataFrame(rows, columns=COLUMNS).to_csv("backtest.csv", index=False)
    assert export("backtest", "--out", "forecasts.csv") == "forecasts.csv: 1 rows\n"
    [forecast] = read_csv(Path("forecasts.csv").read_text())
    assert (forecast["step"], forecast["close"], forecast["q50"]) == ("1", "101.0", "102.0")
    [only] = json.loads(export("backtest", "--closes", "--format", "json"))
    assert only == {"symbol": "AAPL", "interval": "1d", "as_of": "2024-05-15", "close": 100.5}
    assert "there is no such file" in export("backtest", "none.csv", code=2)
    Path("other.csv").write_text("a,b\n1,2\n")
    assert "is not a backtest's file" in export("backtest", "other.csv", code=2)


def test_an_empty_export_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out.csv").write_text("old")
    output = export("forecasts", "--out", "out.csv", code=1)
    assert output.startswith("Error: there is no sqlite:///kronos.db yet")
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"], "no database was made"
    assert Path("out.csv").read_text() == "old"
    store(f"sqlite:///{tmp_path / 'kronos.db'}")
    assert "cannot be written" in export("forecasts", "--out", "no/folder/out.csv", code=2)
    assert "there are no scores" in export("scores", "--out", "out.csv", code=1)
    assert Path("out.csv").read_text() == "old"


def test_parquet_names_the_missing_package(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(sqlite_url)
    asked = ("forecasts", "--database-url", sqlite_url, "--format", "parquet")
    assert "--format parquet: give a file with --out" in export(*asked, code=2)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    output = export(*asked, "--out", str(tmp_path / "out.parquet"), code=2)
    assert "pip install 'pyarrow>=" in output


@pytest.mark.parametrize("form", [Format.CSV, Format.JSON])
def test_unusual_values_survive_export_and_reading(tmp_path: Path, form: Format) -> None:
    rows = [{"a": 'x"y,\nz', "b": None, "c": float("nan")}, {"a": "ü\u2028", "b": 1, "c": 1e300}]
    out = tmp_path / "out"
    assert write_rows(rows, out, form) == 2
    text = out.read_text("utf-8")
    found = json.loads(text) if form is Format.JSON else read_csv(text)
    assert [row["a"] for row in found] == [row["a"] for row in rows]
    assert float(found[1]["c"]) == 1e300


def test_a_file_that_cannot_be_written_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        write_rows([{"a": 1}], tmp_path, Format.CSV)


def test_the_exported_rows_are_the_only_output(tmp_path: Path) -> None:
    store(f"sqlite:///{tmp_path / 'kronos.db'}")
    done = kronosbot("export", "forecasts", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_csv(done.stdout)) == 4
