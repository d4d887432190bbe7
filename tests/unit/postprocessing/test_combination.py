"""Combined quantiles on simulated markets whose best expert is known, and their invariants."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.postprocessing.combination import (
    Panel,
    State,
    combine,
    replay,
    shares,
    without_record,
)
from tradingbot.typing import Floats

LEVELS = np.array(QUANTILE_LEVELS)
NORMAL = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
DAY = np.timedelta64(86_400, "s")
START = np.datetime64("2024-01-01", "s")


def market(
    sessions: int = 120,
    tickers: int = 8,
    *,
    step: int = 1,
    widths: tuple[float, ...] = (2.0, 1.0, 0.5),
    hint: float = 0.0,
    seed: int = 0,
) -> Panel:
    """Simulate normal moves of 2 %; model and two experts are normals of `widths` times that.

    The model's median predicts the share `hint` of the coming move.
    """
    random = np.random.default_rng(seed)
    origin = np.repeat(np.arange(sessions), tickers)
    scale = np.full(len(origin), 0.02)
    actual = random.standard_normal(len(origin)) * scale
    model, *experts = (scale[:, None] * width * NORMAL for width in widths)
    return Panel(
        as_of=START + origin * DAY,
        target=START + (origin + step) * DAY,
        scale=scale,
        actual=actual,
        model=model + hint * actual[:, None],
        experts=np.stack(experts, axis=1),
    )


def crps(quantiles: Floats, actual: Floats) -> float:
    off = actual[:, None] - quantiles
    return float(2 * np.maximum(LEVELS * off, (LEVELS - 1) * off).mean())


def learnt(panel: Panel) -> State:
    return replay(panel, without_record(panel.experts.shape[1])).newest


def test_without_a_record_weights_are_equal_and_the_median_is_ignored() -> None:
    panel = market(1, hint=0.9)
    state = without_record(2)
    assert state.weights.tolist() == [1 / 3] * 3
    assert state.kept == 0
    [combined, *_] = combine(state, panel.model, panel.experts)
    assert combined == pytest.approx(0.02 * NORMAL * (2 + 1 + 0.5) / 3)


def test_the_weight_moves_to_the_correct_expert() -> None:
    state = learnt(market(400, widths=(2.0, 1.0, 2.5)))
    assert state.weights.argmax() == 1
    assert state.sessions == 400


def test_the_combination_is_hardly_worse_than_its_best_member_known_afterwards() -> None:
    panel = market(400)
    combined = replay(panel, without_record(2)).combine(panel)
    best = min(crps(q, panel.actual) for q in (panel.model, *panel.experts.swapaxes(0, 1)))
    assert crps(combined, panel.actual) < 1.01 * best


def test_a_hopeless_model_loses_its_weight() -> None:
    panel = market(400, widths=(0.25, 1.0, 1.0))
    panel = replace(panel, model=panel.model + panel.scale[:, None])
    combined = replay(panel, without_record(2)).combine(panel)
    alone = crps(panel.experts[:, 0], panel.actual)
    assert crps(combined, panel.actual) < 1.01 * alone
    assert learnt(panel).weights[0] < 0.1


@pytest.mark.parametrize(("hint", "least", "most"), [(0.0, 0.0, 0.3), (0.5, 0.5, 1.0)])
def test_the_median_is_shrunk_by_its_agreement_with_outcomes(
    hint: float, least: float, most: float
) -> None:
    panel = market(200, hint=hint)
    noise = np.random.default_rng(1).standard_normal(len(panel.actual)) * panel.scale
    panel = replace(panel, model=panel.model + (0.3 * noise)[:, None])
    assert least <= learnt(panel).kept <= most


def test_a_median_with_the_wrong_sign_is_not_reversed() -> None:
    assert learnt(market(200, hint=-0.5)).kept == 0


def test_an_absent_experts_weight_goes_to_the_others() -> None:
    panel = market(1)
    asleep = panel.experts.copy()
    asleep[:, 1] = np.nan
    state = State(gains=(0.0, 0.0, 5.0))
    combined = combine(state, panel.model, asleep)
    assert combined[0] == pytest.approx(0.02 * NORMAL * (2 + 1) / 2)


def test_an_always_absent_expert_changes_nothing() -> None:
    panel = market(60)
    asleep = np.full_like(panel.experts[:, :1], np.nan)
    wider = replace(panel, experts=np.concatenate([panel.experts, asleep], axis=1))
    assert learnt(wider).gains == pytest.approx((*learnt(panel).gains, 0.0))
    course = replay(panel, without_record(2))
    same = replay(wider, without_record(3))
    assert same.combine(wider) == pytest.approx(course.combine(panel))


def test_without_any_expert_there_is_no_quantile() -> None:
    nothing = np.full((1, 19), np.nan)
    assert np.isnan(combine(without_record(1), nothing, nothing[:, None])).all()


@pytest.mark.parametrize("step", [1, 3])
def test_the_combination_does_not_look_ahead(step: int) -> None:
    panel = market(40, step=step)
    poisoned = replace(panel, actual=panel.actual.copy())
    last = np.unique(panel.target)[25]
    poisoned.actual[panel.target >= last] *= -100
    before = panel.as_of <= last  # a forecast made on that day does not know its own close
    honest, shown = (replay(p, without_record(2)).combine(p) for p in (panel, poisoned))
    assert (honest[before] == shown[before]).all()
    assert (honest[~before] != shown[~before]).any()


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=4), seed=st.integers(0, 5))
def test_learning_in_nights_equals_learning_at_once(cuts: list[int], seed: int) -> None:
    panel = market(60, 3, step=2, seed=seed)
    whole = learnt(panel)
    state = without_record(2)
    for cut in [*sorted(cuts), 100]:
        known = panel.target <= START + cut * DAY
        state = replay(panel[known], state).newest
        state = replay(panel[known], state).newest  # a night that is processed twice
    assert state.gains == pytest.approx(whole.gains)
    assert state.log_factors == pytest.approx(whole.log_factors)
    assert (state.kept, state.sessions, state.forecasts) == pytest.approx(
        (whole.kept, whole.sessions, whole.forecasts)
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter(seed: int) -> None:
    panel = market(30, 4)
    shuffled = panel[np.random.default_rng(seed).permutation(len(panel.actual))]
    assert learnt(shuffled).gains == pytest.approx(learnt(panel).gains)


@settings(max_examples=50, deadline=None)
@given(
    factor=st.floats(1e-3, 1e3),
    widths=st.tuples(*[st.floats(0.1, 10.0)] * 3),
)
def test_weights_sum_to_one_and_do_not_depend_on_volatility(
    factor: float, widths: tuple[float, ...]
) -> None:
    panel = market(20, 3, widths=widths)
    scaled = Panel(
        panel.as_of,
        panel.target,
        panel.scale * factor,
        panel.actual * factor,
        panel.model * factor,
        panel.experts * factor,
    )
    weights = learnt(panel).weights
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    assert learnt(scaled).weights == pytest.approx(weights)


@pytest.mark.parametrize("move", [1e-3, 1e-8])
def test_one_forecast_after_a_halt_of_its_ticker_does_not_outweigh_all_the_others(
    move: float,
) -> None:
    """During a halt the expected move becomes tiny, and the next move is a thousand times that."""
    panel = market(200)
    scale, experts = panel.scale.copy(), panel.experts.copy()
    scale[640], experts[640] = move * scale[640], move * experts[640]
    halted = replace(panel, scale=scale, experts=experts)
    assert learnt(halted).weights == pytest.approx(learnt(panel).weights, abs=0.1)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["scale", "actual", "model"])
def test_a_forecast_without_numbers_does_not_change_the_weights(name: str, broken: float) -> None:
    panel = market(60)
    values = getattr(panel, name).copy()
    values[100, ...] = broken
    others = np.arange(len(panel)) != 100
    assert learnt(replace(panel, **{name: values})) == learnt(panel[others])


def test_a_model_without_weight_is_used_when_the_others_are_absent() -> None:
    panel = market(1)
    state = State(gains=(-2000.0, 0.0, 0.0))
    combined = combine(state, panel.model, np.full_like(panel.experts, np.nan))
    assert combined[0] == pytest.approx(0.02 * NORMAL * 2)
    assert shares(state, np.full_like(panel.experts, np.nan))[0].tolist() == [1, 0, 0]
