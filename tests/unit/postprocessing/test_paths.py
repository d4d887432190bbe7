"""Sample paths agree with the served quantiles."""

from dataclasses import replace
from datetime import datetime
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar, prob_above
from tradingbot.path_events.event_probabilities import happened_by_step
from tradingbot.path_events.grammar import parse_event
from tradingbot.postprocessing.paths import with_served_paths
from tradingbot.typing import Floats

LAST = 50.0
Z = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])


def of_paths(moves: Floats, *, factor: float, shift: float) -> Forecast:
    """Return a forecast from moves (paths, steps) of the close, scaled by `factor` and shifted."""
    closes = LAST * np.exp(moves)
    paths = np.stack([closes * 0.99, closes * 1.02, closes * 0.98, closes, closes * 10], axis=2)
    bars = []
    for step in range(moves.shape[1]):
        raw_quantiles = np.quantile(moves[:, step], QUANTILE_LEVELS)
        served = raw_quantiles[9] + shift + factor * (raw_quantiles - raw_quantiles[9])
        raw = ForecastBar(
            step=step + 1,
            target_date=datetime(2024, 1, 8 + step),
            open=LAST, high=LAST, low=LAST, close=LAST, volume=0.0,
            close_quantiles=dict(zip(QUANTILE_LEVELS, LAST * np.exp(raw_quantiles), strict=True)),
            prob_up=0.5,
        )  # fmt: skip
        prices = LAST * np.exp(served)
        quantiles = dict(zip(QUANTILE_LEVELS, prices.tolist(), strict=True))
        bars.append(replace(raw, close_quantiles=quantiles, raw=raw))
    return Forecast(
        symbol="AAPL", interval="1d", model_name="m", model_revision=None,
        as_of=datetime(2024, 1, 5), made_at=datetime(2024, 1, 5, 22), last_close=LAST,
        samples=len(moves), seed=None, bars=tuple(bars), paths=paths,
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    count=st.integers(2, 80),
    factor=st.floats(0.2, 5.0),
    shift=st.floats(-0.05, 0.05),
)
def test_the_paths_have_the_served_quantiles_and_keep_their_ranks(
    seed: int, count: int, factor: float, shift: float
) -> None:
    moves = 0.02 * np.random.default_rng(seed).standard_normal((count, 3))
    forecast = of_paths(moves, factor=factor, shift=shift)
    moved = with_served_paths(forecast)
    assert moved.paths is not None
    assert forecast.paths is not None
    for step, bar in enumerate(forecast.bars):
        closes = moved.paths[:, step, 3]
        assert (np.argsort(closes) == np.argsort(forecast.paths[:, step, 3])).all()
        middle = np.median(moves[:, step])
        expected = LAST * np.exp(middle + shift + factor * (moves[:, step] - middle))
        assert closes == pytest.approx(expected, rel=0.02 * factor)
        inner = {
            level: price for level, price in bar.close_quantiles.items() if 0.1 <= level <= 0.9
        }
        found = np.quantile(np.log(closes), list(inner))
        assert found == pytest.approx(np.log(list(inner.values())), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), factor=st.floats(0.2, 5.0), shift=st.floats(-0.05, 0.05))
def test_a_shifted_bar_is_a_valid_candle_with_the_same_gap_and_volume(
    seed: int, factor: float, shift: float
) -> None:
    moves = 0.02 * np.random.default_rng(seed).standard_normal((20, 3))
    forecast = of_paths(moves, factor=factor, shift=shift)
    before, after = forecast.paths, with_served_paths(forecast).paths
    assert before is not None
    assert after is not None
    opens, highs, lows, closes, volumes = np.moveaxis(after, 2, 0)
    assert (highs >= np.maximum(opens, closes) * (1 - 1e-12)).all()
    assert (lows <= np.minimum(opens, closes) * (1 + 1e-12)).all()
    assert opens[:, 0] == pytest.approx(before[:, 0, 0])
    assert (volumes == before[..., 4]).all()
    gaps = opens[:, 1:] / closes[:, :-1]
    assert gaps == pytest.approx(before[:, 1:, 0] / before[:, :-1, 3])


def test_wicks_grow_with_the_band_up_to_twice() -> None:
    moves = 0.02 * np.random.default_rng(0).standard_normal((20, 1))
    for factor, stretch in ((1.5, 1.5), (0.8, 0.8), (9.0, 2.0), (0.1, 0.5)):
        forecast = of_paths(moves, factor=factor, shift=0.01)
        before, after = forecast.paths, with_served_paths(forecast).paths
        assert before is not None
        assert after is not None
        wicks = [np.log(bars[..., 1] / bars[..., [0, 3]].max(axis=-1)) for bars in (before, after)]
        assert wicks[1] == pytest.approx(stretch * wicks[0])


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.4])
def test_rescaled_paths_touch_levels_like_a_market_of_that_volatility(factor: float) -> None:
    """The model's walk has too little or too much volatility, and the served bands are right."""
    narrow, true = (brownian_bars(sigma=0.02 * scale, seed=1) for scale in (1.0, factor))
    forecast = of_paths(np.log(narrow[..., 3] / LAST), factor=factor, shift=0.0)
    moved = with_served_paths(replace(forecast, paths=narrow)).paths
    assert moved is not None
    for text in ("touch +2%", "touch -3%", "reach +3% before -2%", "drawdown above 3%"):
        event = parse_event(text)
        found, expected = (
            happened_by_step(event, bars, LAST).mean(axis=0) for bars in (moved, true)
        )
        assert found == pytest.approx(expected, abs=0.02), text


def brownian_bars(*, sigma: float, seed: int, count: int = 2000, steps: int = 5) -> Floats:
    """Return (paths, steps, 5) of a walk with `sigma` over all steps; each bar has 40 parts."""
    moves = np.random.default_rng(seed).standard_normal((count, steps * 40))
    walk = np.cumsum(sigma / np.sqrt(steps * 40) * moves, axis=1).reshape(count, steps, 40)
    closes = walk[..., -1]
    opens = np.concatenate([np.zeros((count, 1)), closes[:, :-1]], axis=1)
    highs, lows = np.maximum(opens, walk.max(axis=2)), np.minimum(opens, walk.min(axis=2))
    return LAST * np.exp(np.stack([opens, highs, lows, closes, opens], axis=2))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), kinds=st.integers(1, 12), factor=st.floats(0.3, 3.0))
def test_equal_closes_are_spread_over_the_served_quantiles(
    seed: int, kinds: int, factor: float
) -> None:
    """A small model draws the same first bar again and again."""
    random = np.random.default_rng(seed)
    first = random.choice(0.02 * random.standard_normal(kinds), 50)
    moves = np.stack([first, first + 0.02 * random.standard_normal(50)], axis=1)
    forecast = of_paths(moves, factor=factor, shift=0.01)
    spread = dict(zip(QUANTILE_LEVELS, (LAST * np.exp(0.03 * Z)).tolist(), strict=True))
    forecast = replace(
        forecast, bars=tuple(replace(bar, close_quantiles=spread) for bar in forecast.bars)
    )
    moved = with_served_paths(forecast).paths
    assert moved is not None
    for step in (0, 1):
        closes = moved[:, step, 3]
        for level, price in spread.items():
            assert (closes > price).mean() == pytest.approx(1 - level, abs=1.5 / 50)
    for item in np.unique(first):
        here = first == item
        later, placed = moves[here].mean(axis=1), moved[here, 0, 3]
        assert (np.diff(placed[np.argsort(later, kind="stable")]) >= 0).all()


def test_the_share_of_closes_above_a_served_quantile_is_its_level() -> None:
    moves = 0.02 * np.random.default_rng(5).standard_normal((50, 3))
    forecast = with_served_paths(of_paths(moves, factor=1.3, shift=-0.01))
    assert forecast.paths is not None
    for step, bar in enumerate(forecast.bars):
        for level, price in bar.close_quantiles.items():
            above = happened_by_step(parse_event(f"close above {price:.8f}"), forecast.paths, LAST)
            assert above[:, step].mean() == pytest.approx(1 - level, abs=1.5 / 50)
        up = happened_by_step(parse_event("close above 0%"), forecast.paths, LAST)[:, step].mean()
        assert up == pytest.approx(prob_above(bar.close_quantiles, LAST), abs=1.5 / 50)


def test_paths_without_spread_are_shifted_together() -> None:
    moved = with_served_paths(of_paths(np.full((5, 1), 0.01), factor=1.0, shift=0.02))
    assert moved.paths is not None
    assert moved.paths[:, 0, 3] == pytest.approx(LAST * np.exp(0.03))


def test_the_models_own_paths_are_kept() -> None:
    raw = of_paths(np.zeros((4, 1)), factor=1.0, shift=0.0)
    raw = replace(raw, bars=tuple(bar.raw for bar in raw.bars if bar.raw is not None))
    assert with_served_paths(raw) is raw
    assert with_served_paths(replace(raw, paths=None)).paths is None
