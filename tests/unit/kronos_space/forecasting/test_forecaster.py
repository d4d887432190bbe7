"""The computation from a validated request to the answer, with the bundled model."""

from dataclasses import asdict
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronos_space.exceptions import InvalidHistory, InvalidRequest
from kronos_space.forecasting.forecaster import Forecaster
from kronos_space.schemas import ForecastRequest, read_request
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import Checkpoint
from tests.support.candles import bars, request
from tradingbot.path_events import event_probabilities, grammar


@pytest.fixture(scope="module")
def forecaster(nano_checkpoint: Checkpoint) -> Forecaster:
    return Forecaster(nano_checkpoint, Settings())


def checked(**changes: object) -> ForecastRequest:
    return read_request(request(**changes), Settings())


def test_the_numbers_of_an_answer_are_statistics_of_its_paths(forecaster: Forecaster) -> None:
    [answer] = forecaster.forecast([checked(return_paths=True, quantiles=[0.05, 0.5])])
    paths = np.array(answer["paths"])
    assert paths.shape == (8, 3, 5)
    for step, bar in enumerate(answer["predictions"]):
        means = [bar[name] for name in ("open", "high", "low", "close", "volume")]
        np.testing.assert_allclose(means, paths[:, step].mean(axis=0), rtol=1e-12)
        closes = paths[:, step, 3]
        expected = np.quantile(closes, [0.05, 0.5], method="median_unbiased")
        assert list(bar["close_quantiles"].values()) == pytest.approx(expected)
        assert bar["prob_up"] == (closes > answer["last_close"]).mean()


def test_events_are_counted_on_the_same_paths_as_by_the_bots(forecaster: Forecaster) -> None:
    events = ["Touch 1 %", "close above 0%", "reach +1% before -1%", "drawdown above 1%"]
    [answer] = forecaster.forecast([checked(return_paths=True, samples=50, events=events)])
    paths, last_close = np.array(answer["paths"]), answer["last_close"]
    asked = grammar.parse_events(events)
    expected = event_probabilities.chances(asked, paths, last_close)
    assert answer["events"] == [
        {key: value if key == "event" else value and pytest.approx(value) for key, value in item}
        for item in (asdict(chance).items() for chance in expected)
    ]
    touch, above, *_ = answer["events"]
    assert touch["event"] == "touch +1%"
    assert [*above["probability"]] == [bar["prob_up"] for bar in answer["predictions"]]
    reached = [
        (paths[:, : step + 1, 1] >= 1.01 * last_close).any(axis=1).mean() for step in range(3)
    ]
    assert touch["probability"] == pytest.approx(reached)


def test_an_answer_has_events_only_on_request(forecaster: Forecaster) -> None:
    [answer] = forecaster.forecast([checked()])
    assert "events" not in answer


def test_levels_on_one_side_of_the_last_close_are_refused(
    forecaster: Forecaster,
) -> None:
    with pytest.raises(InvalidRequest, match="one level above and one below the last close"):
        forecaster.prepare(checked(events=["reach 1 before 2"]))


def test_every_path_consists_of_possible_candles(forecaster: Forecaster) -> None:
    data = checked(return_paths=True, temperature=5.0, top_p=1.0, samples=64, horizon=10)
    prepared = forecaster.prepare(data)
    [paths] = forecaster.generate([prepared.prompt])
    raw = prepared.values(paths)
    assert (raw[..., 1] < raw[..., [0, 3]].max(axis=-1)).any()  # some bars need repair
    open_, high, low, close, volume = np.moveaxis(np.array(prepared.answer(paths)["paths"]), -1, 0)
    assert (high >= np.maximum(open_, close)).all()
    assert (low <= np.minimum(open_, close)).all()
    assert (low > 0).all()
    assert (volume >= 0).all()


def test_the_model_sees_the_newest_bars_that_fit_beside_the_horizon(
    forecaster: Forecaster,
) -> None:
    rows = bars(300, start=date(2025, 1, 6))
    [long] = forecaster.forecast([checked(ohlcv=rows, horizon=6)])
    [short] = forecaster.forecast([checked(ohlcv=rows[-250:], horizon=6)])
    assert long["predictions"] == short["predictions"]
    assert short["warnings"] == []
    assert long["warnings"] == [
        "only the newest 250 of 300 bars were used: the model sees 256 bars, the 6 of the "
        "forecast included"
    ]


def test_a_horizon_that_leaves_too_little_history_is_refused(forecaster: Forecaster) -> None:
    forecaster.prepare(checked(horizon=224))
    with pytest.raises(InvalidHistory, match=r"horizon 225: .* expected at most 224"):
        forecaster.prepare(checked(horizon=225))


def test_a_drawn_seed_is_returned_and_repeats_the_answer(forecaster: Forecaster) -> None:
    [first] = forecaster.forecast([checked(seed=None)])
    [other] = forecaster.forecast([checked(seed=None)])
    [again] = forecaster.forecast([checked(seed=first["seed"])])
    assert again == first
    assert other["seed"] != first["seed"]
    assert other["predictions"] != first["predictions"]


def test_target_timestamps_are_kept_and_checked(forecaster: Forecaster) -> None:
    days = ["2026-12-24", "2026-12-28", "2026-12-29"]
    [answer] = forecaster.forecast([checked(target_timestamps=days)])
    assert [bar["target_date"][:10] for bar in answer["predictions"]] == days
    for wrong, message in (
        (["2020-01-01", *days[1:]], "target 0: timestamp 2020-01-01 is not after the history"),
        ([days[0], days[0], days[1]], "target 1: timestamp 2026-12-24 is not after 2026-12-24"),
        (["2026-12-24T00:00Z"] * 3, "target 1"),
        ([f"2026-12-2{n}T00:00Z" for n in (7, 8, 9)], "give both a zone, or neither"),
    ):
        with pytest.raises(InvalidHistory, match=message):
            forecaster.prepare(checked(target_timestamps=wrong))


def test_without_volume_the_forecast_volume_is_zero(forecaster: Forecaster) -> None:
    [answer] = forecaster.forecast([checked(ohlcv=bars(volume=False))])
    assert all(0 <= bar["volume"] < 1e-3 for bar in answer["predictions"])


def test_a_constant_price_is_forecast_to_stay_constant(forecaster: Forecaster) -> None:
    rows = [{**row, **dict.fromkeys(("open", "high", "low", "close"), 7.5)} for row in bars()]
    [answer] = forecaster.forecast([checked(ohlcv=rows)])
    assert [bar["close"] for bar in answer["predictions"]] == pytest.approx([7.5] * 3, abs=1e-3)


PRICES = ("open", "high", "low", "close")


@given(power=st.integers(-12, 9), volume_power=st.integers(-12, 9))
@settings(max_examples=15, deadline=None)
def test_scaling_prices_and_volumes_by_a_power_of_ten_scales_the_forecast(
    forecaster: Forecaster, power: int, volume_power: int
) -> None:
    rows = bars(64)
    factors = dict.fromkeys(PRICES, 10.0**power) | {"volume": 10.0**volume_power}
    scaled = [row | {name: row[name] * by for name, by in factors.items()} for row in rows]
    prepared = [
        forecaster.prepare(checked(ohlcv=ohlcv, horizon=2, samples=16, seed=5))
        for ohlcv in (rows, scaled)
    ]
    usual, other = forecaster.generate([forecast_input.prompt for forecast_input in prepared])
    same = (usual.s1 == other.s1) & (usual.s2 == other.s2)  # rounding may change a rare token
    assert same.mean() >= 0.9
    by = np.array([*factors.values()])
    values = [
        series.values(paths)[same][:, :5]
        for series, paths in zip(prepared, (usual, other), strict=True)
    ]
    spread = np.std([[row[name] for name in factors] for row in rows], axis=0)
    assert (np.abs(values[1] / by - values[0]) < 0.01 * spread).all()
    assert prepared[1].warnings == []


@pytest.mark.parametrize("power", [-12, -6, 0, 9])
def test_constant_prices_stay_constant_at_any_scale(forecaster: Forecaster, power: int) -> None:
    price = 7.5 * 10.0**power
    rows = [row | dict.fromkeys(PRICES, price) for row in bars(64)]
    [answer] = forecaster.forecast([checked(ohlcv=rows)])
    for bar in answer["predictions"]:
        assert bar["close"] == pytest.approx(price, rel=1e-4)


def test_tiny_prices_have_the_same_tokens_as_larger_ones(forecaster: Forecaster) -> None:
    tokens = []
    for factor in (1e-6, 1e-12, 1e-290):
        rows = [row | {name: row[name] * factor for name in PRICES} for row in bars()]
        prepared = forecaster.prepare(checked(ohlcv=rows, seed=1))
        [paths] = forecaster.generate([prepared.prompt])
        tokens.append((paths.s1.tolist(), paths.s2.tolist()))
    assert all(its == tokens[0] for its in tokens)


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e6, 1e9])
@pytest.mark.parametrize("volume", [0.0, 1.0, 1e17])
def test_prices_and_volumes_of_any_size_give_finite_possible_candles(
    forecaster: Forecaster, factor: float, volume: float
) -> None:
    names = ("open", "high", "low", "close")
    rows = [row | {n: row[n] * factor for n in names} | {"volume": volume} for row in bars()]

    [answer] = forecaster.forecast([checked(ohlcv=rows, return_paths=True)])

    open_, high, low, close, volumes = np.moveaxis(np.array(answer["paths"]), -1, 0)
    assert np.isfinite(answer["paths"]).all()
    assert (low > 0).all()
    assert (volumes >= 0).all()
    assert (high >= np.maximum(open_, close)).all()
    assert (low <= np.minimum(open_, close)).all()
