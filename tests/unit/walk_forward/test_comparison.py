"""Comparison of two models' backtests on the same windows."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import scoringrules

from tests.support.made_backtests import DAYS, FIRST, SYMBOLS, write
from tradingbot.errors import ConfigError
from tradingbot.walk_forward.comparison import Comparison, compare
from tradingbot.walk_forward.results import outcomes_of, read_rows

BEFORE = datetime(2000, 1, 1)
pytestmark = pytest.mark.slow  # reading and scoring the files takes a second


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Backtest files of a model with correct bands, and of one with too narrow bands."""
    folder = tmp_path_factory.mktemp("comparison")
    for name, width in (("good", 1.0), ("narrow", 0.4)):
        write(folder / f"{name}.csv", width=width)
    return folder / "good.csv", folder / "narrow.csv"


@pytest.fixture(scope="module")
def compared(files: tuple[Path, Path]) -> Comparison:
    return compare(*files, after=BEFORE)


def test_the_better_model_is_ahead_whichever_file_comes_first(
    files: tuple[Path, Path], compared: Comparison
) -> None:
    assert (compared.n, compared.sessions) == (len(SYMBOLS) * 90 * 2, 90)
    assert compared.gain.is_sure
    other = compare(*reversed(files), after=BEFORE)
    assert not other.gain.is_sure
    assert (1 - compared.gain.value) * (1 - other.gain.value) == pytest.approx(1)
    assert compared.coverage[80] == pytest.approx(0.8, abs=0.06)
    assert compared.champion_coverage == other.coverage
    assert compared.champion_coverage[80] < 0.5
    assert compared.over_walk.value > compared.champion_over_walk.value
    assert 0 < compared.combined.value < compared.gain.value / 2  # the walks compensate for it


def test_the_gain_is_computed_from_quantile_scores(
    files: tuple[Path, Path], compared: Comparison
) -> None:
    sums: list[dict[int, float]] = []
    for file in files:
        of_steps = {1: 0.0, 2: 0.0}
        for outcome in outcomes_of(read_rows(file)):
            levels = np.arange(1, 20) / 20
            scores = scoringrules.quantile_score(outcome.actual[:, None], outcome.quantiles, levels)
            for step in of_steps:
                of_steps[step] += scores[outcome.step == step].sum()
        sums.append(of_steps)
    for step in (1, 2):
        expected = 1 - sums[0][step] / sums[1][step]
        assert compared.by_step[step].value == pytest.approx(expected, rel=1e-6)
    whole = 1 - sum(sums[0].values()) / sum(sums[1].values())
    assert compared.gain.value == pytest.approx(whole, rel=1e-6)


def test_a_model_compared_with_itself_gains_nothing(files: tuple[Path, Path]) -> None:
    same = compare(files[0], files[0], after=BEFORE)
    assert (same.gain.value, same.gain.is_sure, same.combined.value) == (0, False, 0)


def test_only_forecasts_after_the_given_day_are_compared(files: tuple[Path, Path]) -> None:
    later = compare(*files, after=DAYS[FIRST + 49])
    assert later.sessions == 40
    with pytest.raises(ConfigError, match="share no forecasts made after"):
        compare(*files, after=datetime(2030, 1, 1))
