"""Error rates of the tests: overlapping windows, many tickers, and a look every night."""

import math
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tradingbot.evaluation.close_outcomes import LEVELS, ForecastOutcomes
from tradingbot.evaluation.metrics import compute_metrics
from tradingbot.evaluation.sequential_testing import anytime_skill_interval
from tradingbot.evaluation.significance import (
    benjamini_hochberg,
    diebold_mariano,
    diebold_mariano_each,
)
from tradingbot.evaluation.ticker_comparison import compare_tickers

FIRST = datetime(2022, 1, 3)


def null_differences(random: np.random.Generator, count: int, n: int, overlap: int) -> np.ndarray:
    """Return (count, n): sums of `overlap` consecutive independent numbers with mean 0."""
    sums = np.cumsum(random.standard_normal((count, n + overlap)), axis=1)
    return sums[:, overlap:] - sums[:, :-overlap]


# Diebold-Mariano --------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [1, 5])
@pytest.mark.parametrize("n", [30, 60, 120, 250])
def test_diebold_mariano_has_an_error_rate_of_about_five_per_cent(n: int, overlap: int) -> None:
    count = 1500  # so that an error rate of 5 % is measured as 3.3 to 6.7 % in 997 of 1000 cases
    random = np.random.default_rng(7)
    wrong = [
        (diebold_mariano(differences, overlap)[1] or 0) < 0.05
        for differences in null_differences(random, count, n, overlap)
    ]
    assert 0.033 < np.mean(wrong) < 0.072


def forecasts(*, stride: int, step: int = 5, windows: int = 60) -> ForecastOutcomes:
    """Return forecasts `step` sessions ahead, made every `stride` sessions."""
    random = np.random.default_rng(3)
    days = np.array([FIRST + timedelta(days=i) for i in range(900)], "datetime64[s]")
    at = 300 + stride * np.arange(windows)
    closes = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 900)))
    quantiles = 1 + 0.03 * (2 * np.array(LEVELS) - 1) + np.zeros((windows, 1))
    return ForecastOutcomes(
        symbol="SPY", model_name="mini", model_revision="", interval="1d",
        as_of=days[at], target=days[at + step], step=np.full(windows, step),
        mean=np.ones(windows), quantiles=quantiles, raw_quantiles=quantiles,
        prob_up=np.full(windows, 0.5), actual=closes[at + step] / closes[at],
        past=pd.Series(closes, index=pd.DatetimeIndex(days)),
    )  # fmt: skip


@pytest.mark.parametrize(("stride", "overlap"), [(1, 5), (2, 3), (3, 2), (4, 2), (5, 1), (7, 1)])
def test_the_test_derives_the_overlap_of_windows_from_their_days(
    stride: int, overlap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = diebold_mariano_each

    def listening(worse: np.ndarray, overlap: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(overlap)
        return real(worse, overlap)

    monkeypatch.setattr("tradingbot.evaluation.metric_formulas.diebold_mariano_each", listening)
    found = compute_metrics([forecasts(stride=stride)])
    assert asked == [overlap]
    assert found.dm_p_value is not None


# many tickers -----------------------------------------------------------------------------


def test_adjusted_p_values_equal_scipy() -> None:
    random = np.random.default_rng(5)
    for size in (1, 2, 30):
        p_values = random.random(size) ** 3
        expected = stats.false_discovery_control(p_values, method="bh")
        assert benjamini_hochberg(p_values) == pytest.approx(expected)
    assert benjamini_hochberg(np.array([])).tolist() == []


def test_almost_none_of_a_hundred_unskilled_tickers_is_called_better_or_worse() -> None:
    random = np.random.default_rng(6)

    class Ticker:
        def __init__(self, mean: float) -> None:
            differences = random.normal(mean, 1, 120)
            self.dm_statistic, self.dm_p_value = diebold_mariano(differences, 1)

    null = {f"T{i}": Ticker(0) for i in range(100)}
    assert sum((item.dm_p_value or 1) < 0.05 for item in null.values()) >= 2  # one in twenty
    compared = compare_tickers(null)
    assert (compared.better, compared.worse) == ([], [])
    some = null | {"GOOD": Ticker(-0.8), "BAD": Ticker(0.8)}
    compared = compare_tickers(some)
    assert compared.better[-1:] == ["GOOD"]
    assert compared.worse[-1:] == ["BAD"]
    assert len(compared.better) + len(compared.worse) <= 3  # at most one of them by chance
    assert str(compared).startswith("Of 102 tickers ")
    assert str(compare_tickers({})) == ""


# a test every night -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [1, 5])
def test_checked_weekly_for_two_years_the_interval_rarely_misses_the_true_skill(
    overlap: int,
) -> None:
    random = np.random.default_rng(8)
    missed = tested = 0
    records = 100
    for differences in null_differences(random, records, 504, overlap):
        baseline = np.full(504, 10.0 * math.sqrt(overlap))
        losses = baseline + differences  # a skill of 0
        looks = range(30, 505, 5)
        found = [anytime_skill_interval(losses[:n], baseline[:n], overlap) for n in looks]
        missed += any(item is not None and not item[0] <= 0 <= item[1] for item in found)
        tested += any((diebold_mariano(losses[:n] - baseline[:n], overlap)[1] or 1) < 0.05
                      for n in looks[::8])  # fmt: skip
    assert missed <= 0.05 * records
    assert tested > 0.15 * records  # the error rate of a test that is made for a single look


def test_the_interval_contains_the_skills_with_an_e_value_below_twenty() -> None:
    random = np.random.default_rng(9)
    baseline = random.uniform(0.5, 1.5, 200)
    losses = 0.9 * baseline + random.normal(0, 0.1, 200)
    found = anytime_skill_interval(losses, baseline, 1)
    assert found is not None
    assert found[0] < 1 - losses.mean() / baseline.mean() < found[1]
    for skill in found:
        t = stats.ttest_1samp((1 - skill) * baseline - losses, 0).statistic
        r = 1 + 200 * 0.088
        e_value = r**-0.5 * ((1 + t**2 / 199) / (1 + t**2 / (199 * r))) ** 100
        assert e_value == pytest.approx(20)


def test_a_skilled_model_is_recognised_and_a_short_record_is_inconclusive() -> None:
    random = np.random.default_rng(10)
    baseline = random.uniform(0.5, 1.5, 504)
    losses = 0.95 * baseline + random.normal(0, 0.15, 504)
    assert anytime_skill_interval(losses[:29], baseline[:29], 1) is None
    assert anytime_skill_interval(losses[:60], baseline[:60], 25) is None
    low, high = anytime_skill_interval(losses, baseline, 1) or (0.0, 0.0)
    assert 0 < low < 0.05 < high
    # overlapping forecasts carry less information
    wider = anytime_skill_interval(losses, baseline, 5)
    assert wider is not None
    assert wider[0] < low
    assert wider[1] > high
    assert anytime_skill_interval(baseline, baseline, 1) is None  # no difference to test


def test_only_the_whole_record_has_the_anytime_valid_interval() -> None:
    every_session = forecasts(stride=1, windows=100)
    whole, newest = (
        compute_metrics([every_session]),
        compute_metrics([every_session], last_sessions=60),
    )
    assert whole.skill_low is not None
    assert whole.skill_low < (whole.crps_skill or 0) < (whole.skill_high or 0)
    assert (newest.skill_low, newest.skill_high) == (None, None)


def test_the_interval_of_coverage_accounts_for_overlap() -> None:
    apart, close = (compute_metrics([forecasts(stride=stride)]) for stride in (5, 1))
    widths = []
    for found in (apart, close):
        low, high = found.coverage_80_low, found.coverage_80_high
        assert low is not None
        assert high is not None
        assert low <= (found.coverage_80 or 0) <= high
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]
