"""The file of a backtest: its content, how it grows, and what it refuses."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tradingbot.errors import ConfigError
from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar
from tradingbot.walk_forward.results import (
    ResultsFile,
    outcomes_of,
    read_rows,
    training_counts,
    without_outcome,
)
from tradingbot.walk_forward.schema import COLUMNS

SETTINGS = {
    "model": "some-model", "revision": "r1", "source": "sample", "until": "2024-05-20",
    "horizon": "2", "stride": "1", "context": "500", "samples": "20", "temperature": "1",
    "top_p": "0.9",
}  # fmt: skip
MONDAY, TUESDAY = datetime(2024, 5, 13), datetime(2024, 5, 14)
CLOSES = pd.Series(
    [100.0, 101.0, 99.0, 102.0],
    pd.DatetimeIndex(["2024-05-13", "2024-05-14", "2024-05-15", "2024-05-16"]),
)


def forecast(as_of: datetime) -> Forecast:
    """Return a forecast of the two days after `as_of`, both sessions."""
    bars = [
        ForecastBar(
            step=step,
            target_date=as_of + timedelta(days=step),
            open=103.0,
            high=108.0,
            low=98.0,
            close=103.0,
            volume=0.0,
            close_quantiles={level: 98 + 10 * level for level in QUANTILE_LEVELS},
            prob_up=0.7,
        )
        for step in (1, 2)
    ]
    return Forecast(
        symbol="AAPL",
        interval="1d",
        model_name="some-model",
        model_revision="r1",
        as_of=as_of,
        made_at=datetime(2026, 11, 22),
        last_close=CLOSES[as_of],
        samples=20,
        seed=7,
        bars=tuple(bars),
    )


def came(made: Forecast) -> dict[datetime, float]:
    return {bar.target_date: CLOSES[bar.target_date] for bar in made.bars}


def write(path: Path, *made: Forecast) -> None:
    with ResultsFile(path).open_for(SETTINGS) as file:
        file.add_closes("AAPL", CLOSES)
        for frame in made:
            file.add([(frame, came(frame))])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backtest.csv"


def test_written_forecasts_are_read_relative_to_the_last_close(path: Path) -> None:
    write(path, forecast(TUESDAY), forecast(MONDAY))
    [outcome] = outcomes_of(read_rows(path))
    assert (outcome.symbol, outcome.model_name, outcome.model_revision) == (
        "AAPL",
        "some-model",
        "r1",
    )
    assert [str(day) for day in outcome.as_of.astype("datetime64[D]")] == [
        "2024-05-13", "2024-05-13", "2024-05-14", "2024-05-14",
    ]  # fmt: skip
    assert outcome.step.tolist() == [1, 2, 1, 2]
    np.testing.assert_allclose(outcome.actual, [1.01, 0.99, 99 / 101, 102 / 101])
    np.testing.assert_allclose(outcome.mean[2:], 103 / 101)
    expected = [98.5 / 101, 103 / 101, 107.5 / 101]
    np.testing.assert_allclose(outcome.quantiles[2][[0, 9, 18]], expected, rtol=1e-6)
    assert outcome.prob_up.tolist() == [0.7] * 4
    assert outcome.past.to_dict() == CLOSES.to_dict()
    assert training_counts(read_rows(path)) == {"unknown": 4}


def test_a_session_without_a_bar_has_no_outcome_and_is_not_scored(path: Path) -> None:
    made = forecast(MONDAY)
    outcome = came(made)
    del outcome[made.bars[0].target_date]
    with ResultsFile(path).open_for(SETTINGS) as file:
        file.add([(made, outcome)])
    [outcome] = outcomes_of(read_rows(path))
    assert outcome.step.tolist() == [2]
    assert ResultsFile(path).has("AAPL", MONDAY)
    assert (training_counts(read_rows(path)), without_outcome(read_rows(path))) == (
        {"unknown": 1},
        1,
    )


@pytest.mark.parametrize("cut", [1, 40, 200, 330])
def test_a_line_left_incomplete_by_a_crash_is_written_again(path: Path, cut: int) -> None:
    whole = path.with_name("whole.csv")
    write(whole, forecast(MONDAY), forecast(TUESDAY))
    write(path, forecast(MONDAY), forecast(TUESDAY))
    path.write_bytes(path.read_bytes()[:-cut])
    assert ResultsFile(path).has("AAPL", MONDAY)
    assert not ResultsFile(path).has("AAPL", TUESDAY)
    write(path, forecast(TUESDAY))
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("kept", [0, 5, 600])
def test_a_crash_in_the_first_lines_loses_only_those(path: Path, kept: int) -> None:
    write(path, forecast(MONDAY))
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    write(path, forecast(MONDAY))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", [0, 5, 100])
def test_closes_left_incomplete_by_a_crash_are_written_again(path: Path, kept: int) -> None:
    write(path, forecast(MONDAY))
    beside = path.with_name("backtest.closes.csv")
    whole = beside.read_bytes()
    beside.write_bytes(whole[:kept])
    write(path)
    assert beside.read_bytes() == whole


def test_forecasts_and_closes_are_in_separate_files(path: Path) -> None:
    write(path, forecast(MONDAY))
    assert [line.split(",")[4] for line in path.read_text().splitlines()] == ["step", "1", "2"]
    closes = pd.read_csv(path.with_name("backtest.closes.csv"), index_col="as_of", parse_dates=True)
    assert closes["close"].to_dict() == CLOSES.to_dict()
    path.unlink()  # start again
    with ResultsFile(path).open_for(SETTINGS) as file:
        file.add_closes("AAPL", CLOSES / 2)


def test_other_settings_are_refused_with_their_names_and_what_to_do(path: Path) -> None:
    write(path, forecast(MONDAY))
    before = path.read_bytes()
    with pytest.raises(ConfigError) as refused:
        ResultsFile(path).open_for({**SETTINGS, "samples": "50", "revision": ""})
    assert str(refused.value) == (
        f"{path} was made with other settings (revision r1, now unknown; samples 20, now 50): "
        "give the same settings, or another --out"
    )
    assert path.read_bytes() == before


def test_restated_candles_are_refused_for_an_existing_file(path: Path) -> None:
    write(path, forecast(MONDAY))
    before = path.read_bytes()
    with ResultsFile(path).open_for(SETTINGS) as file:
        file.add_closes("AAPL", CLOSES)
        with pytest.raises(ConfigError, match=r"has AAPL at 100 on 2024-05-13, now it is 50: its "):
            file.add_closes("AAPL", CLOSES / 2)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("date,open\n2024-05-13,1\n", "is not a backtest's file: give another --out"),
        (",".join(COLUMNS) + "\nAAPL,1d,a,b,one" + "," * 35 + "\n", "is damaged"),
        (",".join(COLUMNS) + "\n" + "," * 60 + "\n", "is damaged"),
    ],
)
def test_a_foreign_file_is_never_overwritten(path: Path, content: str, says: str) -> None:
    path.write_text(content)
    with pytest.raises(ConfigError, match=says):
        ResultsFile(path)
    assert path.read_text() == content


def test_two_backtests_do_not_write_to_one_file(path: Path) -> None:
    late = ResultsFile(path)
    with ResultsFile(path).open_for(SETTINGS) as first:
        first.add([(forecast(MONDAY), {})])
        with pytest.raises(ConfigError, match="another backtest is writing to it"):
            ResultsFile(path).open_for(SETTINGS)
    with pytest.raises(ConfigError, match="was changed meanwhile"):
        late.open_for(SETTINGS)
    assert ResultsFile(path).has("AAPL", MONDAY)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("horizon", "abc"),
        ("as_of", "yesterday"),
        ("target", "2024-5-14"),
        ("step", "1.5"),
        ("step", "3"),
        ("last_close", "0"),
        ("q50", ""),
        ("q95", "inf"),
        ("prob_up", "70"),
        ("actual", "-1"),
        ("in_training", "maybe"),
        ("temperature", "0.5"),
    ],
)
def test_an_impossible_value_is_refused_with_its_line(path: Path, column: str, value: str) -> None:
    write(path, forecast(MONDAY))
    lines = path.read_text().splitlines()
    values = lines[-1].split(",")
    values[COLUMNS.index(column)] = value
    path.write_text("\n".join([*lines[:-1], ",".join(values)]) + "\n")
    for reads in (ResultsFile, read_rows):
        with pytest.raises(ConfigError, match=f"damaged: line {len(lines)} has .* as {column}; "):
            reads(path)


def test_a_repeated_forecast_counts_once(path: Path) -> None:
    write(path, forecast(MONDAY), forecast(TUESDAY))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-4], *lines[-3:]]))  # without MONDAY's first step
    write(path, forecast(MONDAY))
    assert sum(map(len, outcomes_of(read_rows(path)))) == 4
    assert training_counts(read_rows(path)) == {"unknown": 4}


def test_a_missing_folder_is_reported_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder .*missing"):
        ResultsFile(tmp_path / "missing" / "backtest.csv").check_place()
    ResultsFile(tmp_path / "backtest.csv").check_place()
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/b\.csv cannot be written: No such file"):
        ResultsFile(tmp_path / "nowhere" / "b.csv").open_for(SETTINGS)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        ResultsFile(tmp_path)


def test_a_file_without_forecasts_is_reported(path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there; `kronosbot backtest` makes such files"):
        read_rows(path)
    path.touch()
    with pytest.raises(
        ConfigError, match="has no forecasts; `kronosbot backtest` makes such files"
    ):
        read_rows(path)
