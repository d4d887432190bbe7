"""Quantiles of few paths are unbiased estimates of those of many."""

import numpy as np
import pytest

from kronos_space.engine.quantiles import path_quantiles
from tradingbot.evaluation.baselines import walk_quantiles
from tradingbot.forecast import QUANTILE_LEVELS

LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9]


@pytest.mark.parametrize("paths", [20, 50, 100])
def test_quantile_estimates_are_median_unbiased(paths: int) -> None:
    drawn = np.random.default_rng(paths).random((paths, 20_000))
    below = (path_quantiles(drawn, LEVELS) < np.array(LEVELS)[:, None]).mean(axis=1)
    assert below == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("paths", "linear", "held"), [(20, 0.724, 0.775), (50, 0.769, 0.790)])
def test_the_80_percent_band_of_few_paths_holds_nearly_80_percent(
    paths: int, linear: float, held: float
) -> None:
    random = np.random.default_rng(paths)
    drawn, outcomes = random.random((paths, 20_000)), random.random(20_000)

    def share(low: np.ndarray, high: np.ndarray) -> float:
        return float(((low <= outcomes) & (outcomes <= high)).mean())

    assert share(*np.quantile(drawn, [0.1, 0.9], axis=0)) == pytest.approx(linear, abs=0.01)
    assert share(*path_quantiles(drawn, [0.1, 0.9])) == pytest.approx(held, abs=0.01)


@pytest.mark.parametrize("paths", [1, 2, 3, 7])
def test_no_quantile_is_outside_the_range_of_the_paths(paths: int) -> None:
    drawn = np.random.default_rng(paths).normal(size=(paths, 4))
    found = path_quantiles(drawn, [1e-6, *QUANTILE_LEVELS, 1 - 1e-6])
    assert (np.diff(found, axis=0) >= 0).all()
    assert (found >= drawn.min(axis=0)).all()
    assert (found <= drawn.max(axis=0)).all()


@pytest.mark.parametrize("paths", [32, 250, 500])
def test_random_walks_use_the_same_quantile_estimate_as_the_model(paths: int) -> None:
    drawn = np.random.default_rng(paths).normal(size=(6, paths))
    expected = path_quantiles(drawn.T, QUANTILE_LEVELS).T
    np.testing.assert_allclose(walk_quantiles(drawn.copy()), expected, rtol=1e-12, atol=1e-15)
