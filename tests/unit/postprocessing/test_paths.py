"""Sample paths beside served quantiles: both say the same."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar
from tradingbot.postprocessing.paths import with_served_paths
from tradingbot.typing import Floats

LAST = 50.0


def of_paths(moves: Floats, *, factor: float, shift: float) -> Forecast:
    """From moves (paths, steps) of the close; what is served is `factor` as wide, and shifted."""
    closes = LAST * np.exp(moves)
    paths = np.stack([closes * 0.99, closes * 1.02, closes * 0.98, closes, closes * 10], axis=2)
    bars = []
    for step in range(moves.shape[1]):
        own = np.quantile(moves[:, step], QUANTILE_LEVELS)
        served = own[9] + shift + factor * (own - own[9])
        raw = ForecastBar(
            step=step + 1,
            target_date=datetime(2024, 1, 8 + step),
            open=LAST, high=LAST, low=LAST, close=LAST, volume=0.0,
            close_quantiles=dict(zip(QUANTILE_LEVELS, LAST * np.exp(own), strict=True)),
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


def test_a_bar_keeps_its_shape_and_volume() -> None:
    moves = 0.02 * np.random.default_rng(0).standard_normal((20, 2))
    forecast = of_paths(moves, factor=2.0, shift=0.01)
    before, after = forecast.paths, with_served_paths(forecast).paths
    assert before is not None
    assert after is not None
    assert after[..., :3] / after[..., 3:4] == pytest.approx(before[..., :3] / before[..., 3:4])
    assert (after[..., 4] == before[..., 4]).all()


def test_paths_without_spread_move_as_one() -> None:
    moved = with_served_paths(of_paths(np.full((5, 1), 0.01), factor=1.0, shift=0.02))
    assert moved.paths is not None
    assert moved.paths[:, 0, 3] == pytest.approx(LAST * np.exp(0.03))


def test_the_model_s_own_paths_stay() -> None:
    raw = of_paths(np.zeros((4, 1)), factor=1.0, shift=0.0)
    raw = replace(raw, bars=tuple(bar.raw for bar in raw.bars if bar.raw is not None))
    assert with_served_paths(raw) is raw
    assert with_served_paths(replace(raw, paths=None)).paths is None
