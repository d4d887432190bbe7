"""A backtest's forecasts raw, anchored, calibrated and combined, on simulated markets."""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from tests.support.made_backtests import (
    DAYS,
    FIRST,
    SETTINGS,
    SYMBOLS,
    candles,
    forecast,
    write,
)
from tradingbot.cli.backtest_output import backtest_document, show_backtest
from tradingbot.combination_shares import RANGE_WALK
from tradingbot.errors import ConfigError
from tradingbot.postprocessing.experts import FORECASTERS
from tradingbot.postprocessing.recalibration import recalibrate
from tradingbot.reports.backtest_record import read_backtest
from tradingbot.reports.figures import compute_figures
from tradingbot.reports.page import render_page
from tradingbot.settings import Settings
from tradingbot.walk_forward.evaluation import evaluate, unseen_record
from tradingbot.walk_forward.postprocessing_chain import Chain, bars_of, chain, combined_quantiles
from tradingbot.walk_forward.results import ResultsFile, outcomes_of, read_rows
from tradingbot.walk_forward.runner import WalkForwardResult
from tradingbot.walk_forward.schema import ADDED, EARLIER_COLUMNS, closes_path, rows_of


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("chain") / "backtest.csv"
    write(file)
    return file


@pytest.fixture(scope="module")
def walked(path: Path) -> Chain:
    found = chain(read_rows(path))
    assert found is not None
    return found


def test_each_postprocessing_step_improves_the_forecast(walked: Chain) -> None:
    assert (walked.n, walked.unseen) == (len(SYMBOLS) * 90 * 2, True)
    names = ["raw", "anchored", "calibrated", "combined"]
    assert list(walked.links) == [*names, *FORECASTERS[1:]]
    skills = [walked.links[name].crps_skill for name in names]
    assert skills == sorted(skills)
    assert skills[0] < -0.5  # its paths start two per cent too low
    assert walked.links["random walk"].crps_skill == 0
    assert walked.links["combined"].coverage_80 == pytest.approx(0.8, abs=0.05)
    for link in walked.links.values():
        assert link.skill_low is not None
        assert link.skill_high is not None
        assert link.skill_low <= link.crps_skill <= link.skill_high


def test_final_weights_and_the_worst_ticker_are_reported(walked: Chain) -> None:
    assert list(walked.shares) == list(FORECASTERS)
    assert sum(walked.shares.values()) == pytest.approx(1)
    assert walked.shares["kronos"] == min(walked.shares.values())  # its bands are too narrow
    assert walked.worst is not None
    assert walked.worst.symbol in SYMBOLS
    assert walked.worst.best in FORECASTERS[1:]
    assert walked.worst.behind < 0.05


def test_no_postprocessing_step_looks_ahead(path: Path) -> None:
    rows = read_rows(path)
    day = "2022-06-01"
    later = rows["target"] > day
    poisoned = rows.assign(actual=rows["actual"].where(~later, rows["actual"] * 3))
    before, after = (
        (combined_quantiles(outcomes_of(some), bars_of(some))[0], outcomes_of(some))
        for some in (rows, poisoned)
    )
    as_of = np.concatenate([item.as_of for item in before[1]])
    known = as_of <= np.datetime64(day)
    assert 100 < known.sum() < len(known)
    for name, quantiles in before[0].items():
        np.testing.assert_array_equal(quantiles[known], after[0][name][known])
    assert (before[0]["combined"][~known] != after[0]["combined"][~known]).any()


def test_a_file_of_an_earlier_version_is_read_and_continues_with_its_columns(
    path: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.csv"
    written_earlier(path).iloc[:-2].to_csv(old, index=False)
    assert not ResultsFile(old).has("BTC-USD", DAYS[FIRST + 89])
    write_last(old)
    assert ResultsFile(old).has("BTC-USD", DAYS[FIRST + 89])
    assert not set(ADDED) & set(old.read_text().splitlines()[0].split(","))
    found = chain(read_rows(old))
    assert found is not None
    # the file lacks the model's own prices and the ranges of the bars
    assert list(found.links) == ["anchored", "calibrated", "combined", "random walk", "ewma walk"]
    assert found.shares[RANGE_WALK] < 0.3


def written_earlier(path: Path) -> pd.DataFrame:
    """Write the rows as an earlier version did: one file, and closes without ranges."""
    rows = rows_of(path).astype({"step": "int64"})
    is_close = rows["step"] == 0
    return pd.concat([rows[is_close], rows[~is_close]])[EARLIER_COLUMNS]


def write_last(path: Path) -> None:
    bars = candles("BTC-USD")
    made = forecast("BTC-USD", FIRST + 89, bars, 0.4)
    with ResultsFile(path).open_for(SETTINGS) as file:
        closes = {bar.target_date: bars["close"][bar.target_date] for bar in made.bars}
        file.add([(made, closes)])


def test_training_days_are_used_only_if_there_are_no_others(path: Path) -> None:
    rows = read_rows(path)
    early = (rows["step"] > 0) & (rows["as_of"] < "2022-05-02")
    some = chain(rows.assign(in_training=rows["in_training"].mask(early, "yes")))
    assert some is not None
    assert some.unseen
    assert some.n == (~early & (rows["step"] > 0)).sum()
    every = chain(rows.assign(in_training=rows["in_training"].mask(rows["step"] > 0, "yes")))
    assert every is not None
    assert (every.n, every.unseen) == (len(SYMBOLS) * 90 * 2, False)


def test_too_few_forecasts_give_no_postprocessing_results(tmp_path: Path) -> None:
    write(tmp_path / "few.csv", sessions=4)
    assert chain(read_rows(tmp_path / "few.csv")) is None


def test_the_postprocessing_results_are_printed_and_in_the_document(
    path: Path, walked: Chain
) -> None:
    evaluation, result = evaluate(path), WalkForwardResult(path)
    output = StringIO()
    show_backtest(result, evaluation, Console(file=output, width=200))
    lines = output.getvalue().splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("As served: 540 "))
    names = [line.split()[0] for line in lines[head + 3 : head + 7]]
    assert names == ["raw", "anchored", "calibrated", "combined"]
    combined = walked.links["combined"]
    assert f"{100 * combined.crps_skill:+.1f} %" in lines[head + 6]
    assert lines[head + 10].startswith("Shares    ")
    assert f"kronos {walked.shares['kronos']:.0%}" in lines[head + 10]
    assert walked.worst is not None
    assert lines[head + 11].startswith(f"Worst     {walked.worst.symbol}: combined ")
    document = backtest_document(result, evaluation)["chain"]
    assert document["links"]["combined"]["crps_skill"] == combined.crps_skill
    assert document["shares"] == walked.shares


def test_calibrating_from_the_file_learns_its_final_weights(
    path: Path, walked: Chain, sqlite_url: str
) -> None:
    record = unseen_record(path)
    url, settings = sqlite_url, Settings()
    dry = recalibrate(url, settings, source=None, record=record, dry_run=True)
    [combination] = dry.combinations
    shares = [combination.pools["*", step].weights for step in (1, 2)]
    assert np.mean(shares, axis=0) == pytest.approx(list(walked.shares.values()))
    assert (dry.weights, dry.stored_in) == (0, None)
    found = recalibrate(url, settings, source=None, record=record, dry_run=False)
    assert found.weights == len(combination.pools) == 2 * 3


def test_a_damaged_bar_is_refused(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(path.read_text())
    with pytest.raises(ConfigError, match=r"other\.closes\.csv is missing: it contains the closes"):
        read_rows(other)
    header, first, *lines = closes_path(path).read_text().splitlines()
    *values, _, close = first.split(",")
    for damaged, says in (
        ([*values, "-1", close], r"closes\.csv is damaged: line 2 has -1\.0 as low"),
        ([*values, "1", ""], "line 2 has nan as close"),
        ([values[0], "1d", "soon", *values[3:], "1", close], "line 2 has soon as as_of"),
        (values, "line 2 has 5 values, not 7"),
    ):
        text = "\n".join([header, ",".join(damaged), *lines]) + "\n"
        closes_path(other).write_text(text)
        for reads in (read_rows, ResultsFile):
            with pytest.raises(ConfigError, match=says):
                reads(other)


def test_a_report_on_the_file_shows_what_would_have_been_served(path: Path, walked: Chain) -> None:
    found = read_backtest(path, ())
    figures = compute_figures(found)
    assert [ticker.symbol for ticker in found.tickers] == sorted(SYMBOLS)
    assert figures.overall is not None
    assert figures.overall.crps_skill == pytest.approx(
        walked.links["combined"].crps_skill, abs=0.01
    )
    assert figures.charts["skill"]["raw"]["value"] < figures.charts["skill"]["given"]["value"]
    [one, two] = found.shares
    assert (one.step, two.step, one.served) == (1, 2, True)
    assert np.mean([one.shares, two.shares], axis=0) == pytest.approx(list(walked.shares.values()))
    [_, btc, _] = found.tickers
    assert btc.fan.days == [DAYS[FIRST + 90], DAYS[FIRST + 91]]
    assert btc.fan.last_close == pytest.approx(candles("BTC-USD")["close"].iloc[FIRST + 89])
    page = render_page(found, b"")
    assert "walked forward in backtest.csv" in page
    assert "Last runs of the job" not in page
    assert "has never run" not in page


def test_a_report_works_on_some_tickers_and_on_older_files(path: Path, tmp_path: Path) -> None:
    [only] = read_backtest(path, ("IBM", "XYZ")).tickers
    assert only.symbol == "IBM"
    with pytest.raises(ConfigError, match="has no forecast of XYZ with an outcome"):
        read_backtest(path, ("XYZ",))
    old = tmp_path / "old.csv"
    written_earlier(path).to_csv(old, index=False)
    first, *_ = read_backtest(old, ()).tickers
    assert (first.candles["high"] == first.candles["close"]).all()
