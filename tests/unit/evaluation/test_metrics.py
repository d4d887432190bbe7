"""Each measure compared with hand calculations or with another implementation."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scoringrules
from scipy import fft, stats

from tradingbot.evaluation.baselines import random_walk_quantiles
from tradingbot.evaluation.close_outcomes import LEVELS, ForecastOutcomes
from tradingbot.evaluation.metric_sums import crps
from tradingbot.evaluation.metrics import (
    MIN_FORECASTS,
    ForecastMetrics,
    MetricAccumulator,
    compute_metrics,
)
from tradingbot.evaluation.significance import (
    diebold_mariano,
    share_interval,
    student_p_value,
    wilson_interval,
)

FIRST = datetime(2024, 1, 1)


def days(count: int, first: int = 0) -> np.ndarray:
    return np.array([FIRST + timedelta(days=first + i) for i in range(count)], "datetime64[s]")


def record(
    actual: Sequence[float],
    *,
    mean: float | Sequence[float] = 1.01,
    half_width: float | Sequence[float] = 0.02,
    step: int = 1,
    past: pd.Series | None = None,
    symbol: str = "SPY",
) -> ForecastOutcomes:
    """Return forecasts on consecutive days; quantiles are linear, mean +- half_width."""
    n = len(actual)
    centre = np.broadcast_to(mean, n)[:, None]
    half = np.broadcast_to(half_width, n)[:, None]
    quantiles = centre + half * (2 * np.array(LEVELS) - 1)
    return ForecastOutcomes(
        symbol=symbol,
        model_name="mini",
        model_revision="r1",
        interval="1d",
        as_of=days(n),
        target=days(n, first=step),
        step=np.full(n, step),
        mean=np.broadcast_to(mean, n).astype("float64"),
        quantiles=quantiles,
        raw_quantiles=1 + (quantiles - 1) / 2,
        prob_up=np.full(n, 0.6),
        actual=np.array(actual, dtype="float64"),
        past=walk(0) if past is None else past,
    )


def walk(length: int, *, spread: float = 0.01) -> pd.Series:
    """Return `length` closes up to FIRST and 400 later ones that alternate by `spread`."""
    steps = np.where(np.arange(length + 400) % 2, spread, -spread)
    index = pd.date_range(FIRST - timedelta(days=length), periods=length + 401)
    return pd.Series(100 * np.exp(np.concatenate([[0], np.cumsum(steps)])), index=index)


def test_errors_are_relative_to_the_last_close_and_to_the_naive_forecast() -> None:
    found = compute_metrics([record([1.02] * 30 + [0.97] * 10)])
    # |1.01 - 1.02| = 0.01, |1.01 - 0.97| = 0.04; |1 - 1.02| = 0.02, |1 - 0.97| = 0.03
    assert found.mae == pytest.approx((30 * 0.01 + 10 * 0.04) / 40)
    assert found.naive_mae == pytest.approx((30 * 0.02 + 10 * 0.03) / 40)
    assert found.relative_mae == found.mase == pytest.approx(0.7 / 0.9)
    assert (found.n, found.sessions) == (40, 40)
    assert found.first_target == FIRST + timedelta(days=1)
    assert found.last_target == FIRST + timedelta(days=40)


def test_crps_is_twice_the_mean_pinball_loss() -> None:
    # all quantiles are 1, the outcome is 1.2: the loss at level q is 0.2 q; the mean level is 0.5
    assert crps(np.array([1.2]), np.ones((1, 19))) == pytest.approx([0.2])
    # outcome 0.9: 0.1 (1 - q), which is also 0.1 * 0.5 on average
    assert crps(np.array([0.9]), np.ones((1, 19))) == pytest.approx([0.1])


def test_crps_equals_that_of_scoringrules() -> None:
    random = np.random.default_rng(1)
    quantiles = np.sort(random.normal(1, 0.05, (200, 19)), axis=1)
    actual = random.normal(1, 0.05, 200)
    theirs = scoringrules.crps_quantile(actual, quantiles, np.array(LEVELS), backend="numpy")
    assert crps(actual, quantiles) == pytest.approx(theirs)


def test_weighted_quantile_loss_is_the_crps_per_actual_price() -> None:
    found = compute_metrics([record([1.05] * 20 + [0.95] * 20)])
    assert found.crps is not None
    assert found.wql == pytest.approx(found.crps / 1.0)


def test_a_band_covers_outcomes_inside_and_on_its_edge() -> None:
    # the 50 % band is 1.00 to 1.02, the 80 % one 0.994 to 1.026, the 90 % one 0.992 to 1.028
    actual = [1.019] * 10 + [1.025] * 10 + [1.027] * 10 + [1.03] * 10
    found = compute_metrics([record(actual)])
    assert (found.coverage_50, found.coverage_80, found.coverage_90) == (0.25, 0.5, 0.75)
    assert found.width_50 == pytest.approx(0.02)
    assert found.width_80 == pytest.approx(0.032)
    assert found.width_90 == pytest.approx(0.036)
    # the raw bands are half as wide, around 1.005: up to 1.010, 1.013 and 1.014
    assert (found.raw_coverage_50, found.raw_coverage_80, found.raw_coverage_90) == (0, 0, 0)


def test_direction_accuracy_ignores_unchanged_prices() -> None:
    found = compute_metrics([record([1.02] * 27 + [0.97] * 9 + [1.0] * 14)])
    assert found.hit_rate == 0.75
    assert found.n == 50


def test_too_few_forecasts_are_counted_but_not_scored() -> None:
    few = compute_metrics([record([1.02] * (MIN_FORECASTS - 1))])
    first, last = FIRST + timedelta(days=1), FIRST + timedelta(days=29)
    assert few == ForecastMetrics(n=29, sessions=29, first_target=first, last_target=last)
    assert compute_metrics([record([1.02] * MIN_FORECASTS)]).mae is not None
    assert compute_metrics([]) == ForecastMetrics(n=0, sessions=0)


def test_steps_and_the_newest_sessions_can_be_chosen() -> None:
    both = [record([1.02] * 100), record([1.04] * 100, step=5, symbol="QQQ")]
    assert compute_metrics(both).n == 200
    assert compute_metrics(both, step=5).naive_mae == pytest.approx(0.04)
    newest = compute_metrics(
        both, last_sessions=60
    )  # of days 2 to 105, which have a target, only 46 to 105
    assert newest.first_target == FIRST + timedelta(days=45)
    assert newest.n == 56 + 60
    assert compute_metrics(both, step=7) == ForecastMetrics(n=0, sessions=0)


def test_the_random_walk_one_step_ahead_has_the_quantiles_of_the_past_returns() -> None:
    past = walk(300)
    origin = np.array([FIRST], "datetime64[s]")
    [found] = random_walk_quantiles(past, origin, np.array([1]))
    returns = np.diff(np.log(past.loc[:FIRST].to_numpy()))[-250:]
    assert found == pytest.approx(np.exp(np.quantile(returns, LEVELS, method="median_unbiased")))


def test_the_random_walk_widens_with_the_square_root_of_the_steps() -> None:
    random = np.random.default_rng(3)
    returns = random.normal(0, 0.01, 700)
    past = pd.Series(np.exp(np.cumsum(returns)), index=pd.date_range("2020-01-01", periods=700))
    origins = past.index[400:600].to_numpy().astype("datetime64[s]")
    one, nine = (random_walk_quantiles(past, origins, np.full(200, step)) for step in (1, 9))
    ratio = np.log(nine[:, -1] / nine[:, 0]).mean() / np.log(one[:, -1] / one[:, 0]).mean()
    assert ratio == pytest.approx(3, rel=0.1)


def test_the_random_walk_never_sees_closes_after_its_origin() -> None:
    past = walk(300)
    poisoned = past.where(past.index <= FIRST, np.nan)
    origins = np.repeat(days(1), 5)
    steps = np.arange(1, 6)
    assert np.array_equal(
        random_walk_quantiles(past, origins, steps), random_walk_quantiles(poisoned, origins, steps)
    )


def test_too_short_a_past_gives_no_random_walk() -> None:
    past = walk(40)
    origins = np.array([FIRST - timedelta(days=10), FIRST], "datetime64[s]")
    short, enough = random_walk_quantiles(past, origins, np.array([1, 1]))
    assert np.isnan(short).all()
    assert np.isfinite(enough).all()


def test_skill_is_the_relative_loss_difference_to_the_random_walk() -> None:
    # the walk moves by 1 % up or down; so do the outcomes, and the forecast knows the direction
    outcomes = [1.01, 0.99] * 20
    knows = compute_metrics([record(outcomes, mean=outcomes, half_width=0.0, past=walk(300))])
    assert knows.crps_skill == pytest.approx(1)
    same = record(outcomes, past=walk(300))
    quantiles = random_walk_quantiles(same.past, same.as_of, same.step)
    as_good = ForecastOutcomes(**{**same.__dict__, "quantiles": quantiles})
    assert compute_metrics([as_good]).crps_skill == pytest.approx(0)
    assert (
        compute_metrics([record(outcomes, past=walk(0))]).crps_skill is None
    )  # without a past for the walk


def test_the_wilson_interval_equals_a_textbook_example() -> None:
    # 15 of 20: 0.531 to 0.888
    assert wilson_interval(0.75, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_correlated_moves_count_as_fewer_observations() -> None:
    random = np.random.default_rng(5)
    right = (random.random(200) < 0.5).astype(float)
    each = np.full(200, 1.0)
    alone = share_interval(right, each, 1)
    assert alone == pytest.approx(wilson_interval(right.mean(), 200), abs=0.01)
    # ten tickers that are all right or all wrong carry as much information as one
    together = share_interval(10 * right, 10 * each, 1)
    assert together == pytest.approx(alone, abs=0.01)
    # ten independent tickers carry more
    own_ways = random.binomial(10, 0.5, 200).astype(float)
    low, high = share_interval(own_ways, 10 * each, 1)
    assert high - low == pytest.approx((alone[1] - alone[0]) / math.sqrt(10), rel=0.2)
    # overlapping moves over five sessions: one in five is independent
    low, high = share_interval(right, each, 5)
    assert high - low >= 0.99 * np.subtract(*reversed(wilson_interval(right.mean(), 40)))


def test_diebold_mariano_one_step_ahead_is_a_t_test() -> None:
    differences = np.random.default_rng(2).normal(0.1, 1, 80)
    statistic, p_value = diebold_mariano(differences, 1)
    # without lags: mean / sqrt(variance / n), and the correction turns n into n - 1
    expected = stats.ttest_1samp(differences, 0)
    assert statistic == pytest.approx(expected.statistic)
    assert p_value == pytest.approx(expected.pvalue, rel=1e-4)


def test_diebold_mariano_of_overlapping_forecasts_uses_the_lowest_cosine_frequencies() -> None:
    differences = np.random.default_rng(2).normal(0.3, 1, 60)
    statistic, p_value = diebold_mariano(differences, 5)
    # scipy's cosine transform, orthonormal; 60 / (3 * 5) = 4 of them, fewer than 0.4 * 60^(2/3)
    slowest = fft.dct(differences, norm="ortho")[1:5]
    assert statistic == pytest.approx(differences.mean() / math.sqrt((slowest**2).mean() / 60))
    assert p_value == pytest.approx(2 * stats.t.sf(abs(statistic), 4), rel=1e-4)


def test_diebold_mariano_handles_a_negative_variance_estimate() -> None:
    differences = np.array([1.0, -1.0] * 20) + 0.01  # gamma_1 is almost -gamma_0
    statistic, _ = diebold_mariano(differences, 2)
    assert statistic is not None
    assert math.isfinite(statistic)


def test_diebold_mariano_needs_enough_sessions_and_a_difference() -> None:
    assert diebold_mariano(np.arange(29.0), 1) == (None, None)
    assert diebold_mariano(np.arange(40.0), 20) == (None, None)


@pytest.mark.parametrize("overlap", [1, 5])
@pytest.mark.parametrize("value", [0.0, 0.5, 0.1, -1e-9, 1 / 3])
def test_constant_differences_are_no_evidence_even_if_rounding_varies_them(
    value: float, overlap: int
) -> None:
    assert diebold_mariano(np.full(40, value), overlap) == (None, None)
    rounded = value + np.spacing(value) * np.resize([0.0, 1.0, -1.0], 40)
    assert diebold_mariano(rounded, overlap) == (None, None)


def test_a_model_equal_to_the_random_walk_is_not_significantly_different() -> None:
    single = record([1.01, 0.99] * 20, past=walk(300))
    quantiles = random_walk_quantiles(single.past, single.as_of, single.step)
    same = ForecastOutcomes(**{**single.__dict__, "quantiles": quantiles * (1 + 1e-15)})
    found = compute_metrics([same])
    assert (found.dm_statistic, found.dm_p_value) == (None, None)
    assert (found.skill_low, found.skill_high) == (None, None)


def test_diebold_mariano_averages_the_tickers_of_a_session() -> None:
    outcomes = [1.01, 0.99, 1.02, 0.98] * 10
    single = record(outcomes, past=walk(300))
    twice = [single, record(outcomes, past=walk(300), symbol="QQQ")]
    assert compute_metrics(twice).dm_statistic == pytest.approx(
        compute_metrics([single]).dm_statistic
    )
    assert compute_metrics(twice).n == 80


@pytest.mark.parametrize("degrees", [1, 2, 29, 400, 5000])
@pytest.mark.parametrize("statistic", [0.0, 0.3, -2.1, 6.0])
def test_students_t_tail_equals_scipy(statistic: float, degrees: int) -> None:
    expected = 2 * stats.t.sf(abs(statistic), degrees)
    assert student_p_value(statistic, degrees) == pytest.approx(expected, rel=2e-2, abs=1e-6)


def market(predicted: np.ndarray, actual: np.ndarray) -> list[ForecastOutcomes]:
    """Return records of tickers with these returns; both arguments are (sessions, tickers)."""
    return [
        record(1 + actual[:, i], mean=1 + predicted[:, i], symbol=f"T{i}")
        for i in range(actual.shape[1])
    ]


def test_information_coefficients_are_correlations_across_tickers() -> None:
    random = np.random.default_rng(4)
    predicted, actual = random.normal(0, 0.01, (2, 20, 7))
    actual[3, :4] = 0.0  # tied ranks
    found = compute_metrics(market(predicted, actual))
    each = range(20)
    ic = np.mean([stats.pearsonr(predicted[i], actual[i]).statistic for i in each])
    rank_ic = np.mean([stats.spearmanr(predicted[i], actual[i]).statistic for i in each])
    assert found.ic == pytest.approx(ic, rel=1e-4)
    assert found.rank_ic == pytest.approx(rank_ic, rel=1e-4)


def test_information_coefficients_need_five_tickers_that_differ() -> None:
    random = np.random.default_rng(4)
    predicted, actual = random.normal(0, 0.01, (2, 40, 7))
    assert compute_metrics(market(predicted[:, :4], actual[:, :4])).ic is None
    assert compute_metrics(market(np.full((40, 7), 0.01), actual)).ic is None


def test_losses_merged_piece_by_piece_give_the_same_measures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(6)
    tickers = market(*random.normal(0, 0.01, (2, 40, 9)))
    at_once = compute_metrics(tickers)
    assert at_once.ic is not None
    monkeypatch.setattr("tradingbot.evaluation.information_coefficient._CHUNK", 20)
    tally = MetricAccumulator()
    for ticker in reversed(tickers):
        tally += MetricAccumulator.of(ticker)
    assert_alike(tally.measures(), at_once)
    assert len(tally) == 360
    assert tally.steps() == [1]


def assert_alike(found: ForecastMetrics, expected: ForecastMetrics) -> None:
    for name, value in expected.__dict__.items():
        alike: Any = pytest.approx(value) if isinstance(value, float) else value
        assert getattr(found, name) == alike, name
