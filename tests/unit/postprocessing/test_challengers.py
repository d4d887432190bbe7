"""What a challenger does to the forecast that is served: nothing until it is surely better."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.postprocessing.test_targets import (
    WAVES,
    guessing,
    hopeless,
    knowing_half,
    plain,
)
from tradingbot.evaluation.metric_sums import crps
from tradingbot.postprocessing.combination import Course, Panel, replay, shares, untaught
from tradingbot.postprocessing.combination_state import TRIAL_SESSIONS, State
from tradingbot.postprocessing.experts import EXPERTS
from tradingbot.typing import Floats

Model = Callable[[Floats, Floats], tuple[Floats, Floats]]
CHAMPION = WAVES.panel(plain)


def with_models(models: Mapping[str, Model | Floats]) -> tuple[Panel, State]:
    """The champion's panel with these challengers, and the state that learns from it."""
    said = [
        model if isinstance(model, np.ndarray) else WAVES.panel(model).model
        for model in models.values()
    ]
    experts = np.concatenate([CHAMPION.experts, np.stack(said, axis=1)], axis=1)
    return replace(CHAMPION, experts=experts), untaught(len(EXPERTS)).with_challengers([*models])


def learnt(models: Mapping[str, Model | Floats]) -> tuple[Course, Panel]:
    panel, start = with_models(models)
    return replay(panel, start), panel


def loss(quantiles: Floats) -> float:
    return float(crps(CHAMPION.actual, quantiles)[np.isfinite(CHAMPION.scale)].mean())


ALONE = replay(CHAMPION, untaught(len(EXPERTS)))


@pytest.mark.parametrize("model", [hopeless, guessing, plain])
def test_a_challenger_that_knows_no_more_changes_nothing_that_is_served(model: Model) -> None:
    course, panel = learnt({"other": model})
    assert course.combine(panel) == pytest.approx(ALONE.combine(CHAMPION), abs=1e-12, nan_ok=True)
    newest = course.newest
    assert newest.rivals == ()
    assert [trial.name for trial in newest.trials] == ["other"]
    assert newest.trials[0].sessions == newest.sessions > TRIAL_SESSIONS
    assert newest.weights == pytest.approx(ALONE.newest.weights)


def test_a_better_challenger_earns_a_share_and_what_is_served_gains() -> None:
    course, panel = learnt({"better": knowing_half})
    first = next(number for number, state in enumerate(course.states) if state.rivals)
    assert TRIAL_SESSIONS <= first < 2 * TRIAL_SESSIONS
    early = course.known(panel) < first
    served, alone = course.combine(panel), ALONE.combine(CHAMPION)
    assert served[early] == pytest.approx(alone[early], abs=1e-12, nan_ok=True)
    assert loss(served) < 0.99 * loss(alone)
    assert course.newest.weights[-1] > 0.5
    assert course.newest.weights.sum() == pytest.approx(1)


def test_of_several_the_better_one_earns_a_share_and_the_others_do_not() -> None:
    models = {"hopeless": hopeless, "better": knowing_half, "guessing": guessing}
    course, panel = learnt(models)
    newest = course.newest
    assert [one.name for one in newest.rivals] == ["better"]
    assert [trial.name for trial in newest.trials] == ["hopeless", "guessing"]
    assert newest.trials[0].sessions < newest.sessions  # it began again beside the better one
    assert [one.name for one in newest.trials[0].state.rivals] == ["better", "hopeless"]
    only, its_panel = learnt({"better": knowing_half})
    assert course.combine(panel) == pytest.approx(only.combine(its_panel), nan_ok=True)


def test_learning_night_by_night_is_learning_all_at_once() -> None:
    panel, start = with_models({"hopeless": hopeless, "better": knowing_half})
    at_once = replay(panel, start).newest
    middle = np.unique(panel.target)[150]
    state = replay(panel[panel.target <= middle], start).newest
    state = replay(panel, state.with_challengers(["hopeless", "better"])).newest
    assert state == at_once


def test_a_challenger_that_sleeps_is_left_out_and_the_others_share_its_weight() -> None:
    course, panel = learnt({"better": knowing_half})
    asleep = panel.experts.copy()
    asleep[::2, -1] = np.nan
    weights = shares(course.newest, asleep)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert (weights[::2, -1] == 0).all()
    assert (weights[1::2, -1] > 0.5).all()
    others = weights[1::2, :-1] / weights[1::2, :-1].sum(axis=1, keepdims=True)
    assert weights[::2, :-1] == pytest.approx(others)


def test_a_challenger_that_was_asleep_on_half_of_the_sessions_is_judged_by_the_others() -> None:
    said = WAVES.panel(knowing_half).model.copy()
    sessions = np.unique(CHAMPION.target)
    said[np.isin(CHAMPION.target, sessions[1::2])] = np.nan
    course, _ = learnt({"better": said})
    trials = [state.trials[0].sessions for state in course.states if state.trials]
    assert trials == [number // 2 for number in range(1, len(trials) + 1)]
    assert [one.name for one in course.newest.rivals] == ["better"]


def test_a_removed_challenger_is_forgotten_and_the_other_weights_keep_their_proportions() -> None:
    course, _ = learnt({"better": knowing_half, "hopeless": hopeless})
    before = course.newest
    after = before.with_challengers(["hopeless"])
    assert after.rivals == ()
    assert [one.name for one in after.trials[0].state.rivals] == ["hopeless"]
    kept = before.weights[:-1] / before.weights[:-1].sum()
    assert after.weights == pytest.approx(kept)
    again = after.with_challengers(["hopeless", "better"])
    assert [trial.name for trial in again.trials] == ["hopeless", "better"]
    assert again.trials[1].sessions == 0


def test_the_order_in_which_challengers_are_listed_changes_nothing() -> None:
    one, panel = learnt({"hopeless": hopeless, "better": knowing_half})
    other, turned = learnt({"better": knowing_half, "hopeless": hopeless})
    assert one.combine(panel) == pytest.approx(other.combine(turned), nan_ok=True)
