"""Paths start at the exact last close, unless the request turns anchoring off."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronos_space.forecasting.anchoring import reconstruction
from kronos_space.forecasting.forecaster import Forecaster
from kronos_space.schemas import ForecastRequest, read_request
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import Checkpoint
from tests.support.candles import bars, request

PRICES = ("open", "high", "low", "close")


@pytest.fixture(scope="module")
def forecaster(nano_checkpoint: Checkpoint) -> Forecaster:
    return Forecaster(nano_checkpoint, Settings())


def checked(**changes: object) -> ForecastRequest:
    return read_request(request(return_paths=True, **changes), Settings())


def walk(closes: Sequence[float]) -> list[dict[str, Any]]:
    """Return candles with these closes."""
    rows = bars(len(closes))
    before = [closes[0], *closes[:-1]]
    for row, open_, close in zip(rows, before, closes, strict=True):
        row |= {
            "open": open_,
            "high": 1.001 * max(open_, close),
            "low": 0.999 * min(open_, close),
            "close": close,
        }
    return rows


def both(forecaster: Forecaster, **changes: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the answers with and without anchor, from one call of the engine."""
    anchored, plain = forecaster.forecast(
        [checked(anchor=anchor, **changes) for anchor in ("last_close", "none")]
    )
    return anchored, plain


@given(
    seed=st.integers(0, 2**32),
    length=st.integers(32, 120),
    sigma=st.floats(0, 0.08),
    power=st.integers(-12, 9),
    volume=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_anchored_paths_are_reference_paths_scaled_by_last_close_over_its_reconstruction(
    forecaster: Forecaster, seed: int, length: int, sigma: float, power: int, volume: bool
) -> None:
    steps = np.random.default_rng(seed).normal(0, sigma, length)
    rows = walk((10.0**power * np.exp(np.cumsum(steps))).tolist())
    if not volume:
        rows = [{name: row[name] for name in ("timestamp", *PRICES)} for row in rows]

    anchored, plain = both(forecaster, ohlcv=rows, seed=seed, samples=5)

    start = anchored["reconstruction"]
    assert plain["reconstruction"] == {"close": start["close"], "factor": 1.0}
    if start["factor"] != 1.0:
        assert start["factor"] * start["close"] == pytest.approx(anchored["last_close"])
    else:
        assert len(anchored["warnings"]) == 1 + len(plain["warnings"])
    theirs, ours = np.array(plain["paths"]), np.array(anchored["paths"])
    floored = np.minimum(theirs, ours)[..., :4] <= 2e-6 * anchored["last_close"]
    times = theirs[..., :4] * start["factor"]
    np.testing.assert_allclose(ours[..., :4][~floored], times[~floored], rtol=1e-9)
    np.testing.assert_array_equal(ours[..., 4], theirs[..., 4])
    for step, bar in enumerate(anchored["predictions"]):
        closes = ours[:, step, 3]
        assert bar["close"] == pytest.approx(closes.mean())
        assert bar["prob_up"] == (closes > anchored["last_close"]).mean()


def test_the_reconstruction_equals_the_output_of_the_tokenizers_decoder(
    forecaster: Forecaster, nano_checkpoint: Checkpoint
) -> None:
    """The call contains series of several lengths."""
    requests = [checked(ohlcv=bars(length), samples=2) for length in (32, 64, 120, 64)]
    prepared = [forecaster.prepare(body) for body in requests]
    made = forecaster.generate([forecast_input.prompt for forecast_input in prepared])
    tokenizer = nano_checkpoint.tokenizer
    for series, paths in zip(prepared, made, strict=True):
        with torch.inference_mode():
            tokens = tokenizer.encode(torch.from_numpy(series.prompt.bars)[None])
            decoded = tokenizer.decode(*tokens)[0, -1].numpy()
        expected = series.scale.restore(decoded)
        bound = 1e-5 * (np.abs(expected) + series.scale.std)
        assert (np.abs(series.scale.restore(paths.reconstruction) - expected) <= bound).all()
        assert series.answer(paths)["reconstruction"]["close"] == pytest.approx(
            expected[3], rel=1e-5
        )


def test_anchor_changes_neither_tokens_nor_seeds(forecaster: Forecaster) -> None:
    prepared = [forecaster.prepare(checked(anchor=anchor)) for anchor in ("last_close", "none")]
    anchored, plain = forecaster.generate([forecast_input.prompt for forecast_input in prepared])
    assert anchored.s1.tolist() == plain.s1.tolist()
    assert anchored.s2.tolist() == plain.s2.tolist()
    np.testing.assert_array_equal(prepared[0].values(anchored), prepared[1].values(plain))


def test_after_an_unadjusted_split_paths_start_from_the_last_close(
    forecaster: Forecaster,
) -> None:
    closes = [100 + math.sin(bar) for bar in range(99)] + [50.0]
    anchored, plain = both(forecaster, ohlcv=walk(closes), samples=32, seed=3)
    assert plain["predictions"][0]["close"] > 65  # the bar was clipped at five deviations
    assert anchored["predictions"][0]["close"] == pytest.approx(50, rel=0.1)
    [warning] = [text for text in anchored["warnings"] if "tokenizer" in text]
    assert "reads the last close 50 as " in warning
    assert "look for a split or a wrong bar" in warning
    assert not [text for text in plain["warnings"] if "tokenizer" in text]


@pytest.mark.parametrize(
    ("close", "factor", "says"),
    [
        (100.0, 1.0, None),
        (99.0, 100 / 99, None),
        (120.0, 100 / 120, None),
        (70.0, 100 / 70, "reads the last close 100 as 70: the paths' prices were multiplied by 1."),
        (1e6, 1e-4, "multiplied by 0.0001"),
        (10.0, 10.0, "multiplied by 10;"),
        (9.9, 1.0, "too low to anchor them"),
        (1e-300, 1.0, "too low to anchor them"),
        (0.0, 1.0, "reads the last close 100 as 0, from which the paths start"),
        (-3.0, 1.0, "too low to anchor them"),
    ],
)
def test_a_reconstruction_far_off_is_reported_and_one_near_zero_is_ignored(
    close: float, factor: float, says: str | None
) -> None:
    found = reconstruction(100.0, close, anchored=True)
    assert found.factor == pytest.approx(factor)
    if says is None:
        assert found.warning is None
    else:
        assert says in str(found.warning)
    left = reconstruction(100.0, close, anchored=False)
    assert (left.factor, left.warning, left.error) == (1.0, None, found.error)
    assert 0 <= found.error <= 1
