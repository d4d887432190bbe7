"""Conformal bands on arrays: scores, factors that adapt to outcomes, and no look-ahead."""

import numpy as np
import pytest

from tests.support.records import Z
from tradingbot.forecast import QUANTILE_LEVELS, prob_above
from tradingbot.postprocessing.conformal import (
    BANDS,
    MIN_FORECASTS,
    MIN_SESSIONS,
    scores,
    track,
    widened,
)

EIGHTY = BANDS.index(80)
SESSIONS = np.arange("2020-01-01", "2024-01-01", dtype="datetime64[D]").astype("datetime64[s]")


def simulated(
    width: float, truth: np.ndarray, tickers: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets (n,), quantiles (n, 19), outcomes (n,) of one step on consecutive sessions.

    The bands are `width` times the quantiles of a volatility of 1 %; the outcomes have `truth`
    (sessions,) times that volatility.
    """
    random = np.random.default_rng(seed)
    n = len(truth) * tickers
    quantiles = np.tile(np.exp(0.01 * width * Z), (n, 1))
    moves = 0.01 * np.repeat(truth, tickers) * random.standard_normal(n)
    return np.repeat(SESSIONS[: len(truth)], tickers), quantiles, np.exp(moves)


def test_a_conformity_score_is_the_distance_from_the_median_in_half_widths() -> None:
    """Normal bands, twice as wide above the median as below; 1.2816 is z of the 80 % band."""
    quantiles = np.tile(np.exp(0.01 * Z * np.where(Z > 0, 2, 1)), (3, 1))
    found = scores(quantiles, np.exp([2 * 0.025631, -0.5 * 0.012816, 0.0]))[:, EIGHTY]
    assert found.tolist() == pytest.approx([2.0, 0.5, 0.0], rel=1e-4)


def test_quantiles_of_few_paths_are_smoothed_by_their_common_spread() -> None:
    """All upper half-widths are 0.02: smoothing keeps their mean and makes their shape normal."""
    quantiles = np.exp(np.where(Z > 0, 0.02, 0.01 * Z))[None]
    smooth = np.log(widened(quantiles, np.ones(9))[0])
    assert smooth[10:].mean() == pytest.approx(0.02)
    assert smooth[17] / smooth[14] == pytest.approx(Z[17] / Z[14])
    assert smooth[:10] == pytest.approx(0.01 * Z[:10])


def test_a_zero_width_band_covers_only_its_median() -> None:
    assert scores(np.ones((2, 19)), np.array([1.01, 1.0]))[:, 0].tolist() == [np.inf, 0.0]


def test_widening_moves_both_halves_and_leaves_the_median() -> None:
    wide = widened(np.exp(Z)[None], np.full(9, 2.0))
    assert wide[0] == pytest.approx(np.exp(2 * Z))


def test_bands_are_nested_for_any_factors() -> None:
    factors = np.array([3.0, 0.2, 2.0, 1.0, 0.5, 0.4, 0.3, 0.2, 0.1])
    wide = widened(np.exp(Z)[None], factors)
    assert (np.diff(wide) >= 0).all()
    assert wide[0, 9] == pytest.approx(1.0)


def test_too_narrow_bands_reach_their_nominal_coverage() -> None:
    """The 80 % band holds 77 to 83 % of the outcomes after those that it was learnt from."""
    targets, quantiles, actual = simulated(width=0.5, truth=np.ones(250))
    raw = (scores(quantiles, actual) <= 1).mean(axis=0)
    assert raw[EIGHTY] < 0.55
    found = track(targets, scores(quantiles, actual))
    assert found is not None
    factors = found.before(targets)  # as if made on the evening before
    known = ~np.isnan(factors[:, 0])
    calibrated = widened(quantiles[known], factors[known])
    assert known.sum() >= 500
    for band in (50, 80, 90):
        low, high = calibrated[:, 9 - band // 10], calibrated[:, 9 + band // 10]
        held = ((low <= actual[known]) & (actual[known] <= high)).mean()
        assert held == pytest.approx(band / 100, abs=0.03)
    assert found.factors[-1, EIGHTY] == pytest.approx(2.0, rel=0.2)
    assert pinball(calibrated, actual[known]) < pinball(quantiles[known], actual[known])


def test_too_wide_bands_are_narrowed() -> None:
    targets, quantiles, actual = simulated(width=2.0, truth=np.ones(250))
    found = track(targets, scores(quantiles, actual))
    assert found is not None
    assert found.factors[-1, EIGHTY] == pytest.approx(0.5, rel=0.2)


def test_bands_adapt_to_doubled_volatility_within_forty_sessions() -> None:
    truth = np.repeat([1.0, 2.0], 200)
    targets, quantiles, actual = simulated(width=1.0, truth=truth, tickers=10)
    found = track(targets, scores(quantiles, actual))
    assert found is not None
    reach = scores(quantiles, actual)[:, EIGHTY]
    held = reach <= found.before(targets)[:, EIGHTY]
    assert held[10 * 200 : 10 * 210].mean() < 0.65  # at first too many outcomes are outside
    assert held[10 * 240 :].mean() == pytest.approx(0.80, abs=0.03)


def test_later_outcomes_change_no_earlier_factor() -> None:
    targets, quantiles, actual = simulated(width=0.5, truth=np.ones(120))
    poisoned = np.where(targets >= SESSIONS[80], 1e6, actual)
    honest, other = (
        track(targets, scores(quantiles, actual)),
        track(targets, scores(quantiles, poisoned)),
    )
    assert honest is not None
    assert other is not None
    early = SESSIONS[:81]  # the 80th forecast is made before its own outcome is known
    assert np.array_equal(honest.before(early), other.before(early), equal_nan=True)
    assert not np.array_equal(honest.before(SESSIONS[:82]), other.before(SESSIONS[:82]))


def test_the_order_of_the_rows_does_not_matter() -> None:
    targets, quantiles, actual = simulated(width=0.5, truth=np.ones(60))
    order = np.random.default_rng(1).permutation(len(targets))
    one, other = (
        track(targets, scores(quantiles, actual)),
        track(targets[order], scores(quantiles, actual)[order]),
    )
    assert one is not None
    assert other is not None
    assert np.allclose(one.factors, other.factors)


@pytest.mark.parametrize(
    ("sessions", "tickers"), [(MIN_SESSIONS - 1, 50), (MIN_FORECASTS // 2 - 1, 2)]
)
def test_too_short_a_record_gives_no_factors(sessions: int, tickers: int) -> None:
    targets, quantiles, actual = simulated(0.5, np.ones(sessions), tickers)
    assert track(targets, scores(quantiles, actual)) is None


def test_the_shortest_sufficient_record_starts_with_the_corrected_quantile_of_its_scores() -> None:
    """This is the 81st of 100 scores; the next is at most as large with probability 81 / 101."""
    targets = np.repeat(SESSIONS[:50], 2)
    pool = np.tile(np.random.default_rng(2).permutation(100)[:, None] + 1.0, (1, 9)) / 10
    found = track(targets, pool)
    assert found is not None
    assert found.factors[0, EIGHTY] == pytest.approx(8.1)


def test_factors_are_bounded_if_the_model_gives_no_width() -> None:
    targets, _, actual = simulated(1.0, np.ones(60))
    found = track(targets, scores(np.ones((len(targets), 19)), actual))
    assert found is not None
    assert found.factors.max() == pytest.approx(20.0)


def test_the_probability_above_a_price_is_interpolated_between_quantiles() -> None:
    quantiles = {level: 100 * level for level in QUANTILE_LEVELS}
    assert prob_above(quantiles, 30.0) == pytest.approx(0.7)
    assert prob_above(quantiles, 32.5) == pytest.approx(0.675)
    assert prob_above(quantiles, 1.0) == pytest.approx(0.975)
    assert prob_above(quantiles, 99.0) == pytest.approx(0.025)


def pinball(quantiles: np.ndarray, actual: np.ndarray) -> float:
    levels = np.array(QUANTILE_LEVELS)
    off = actual[:, None] - quantiles
    return float(np.maximum(levels * off, (levels - 1) * off).mean())
