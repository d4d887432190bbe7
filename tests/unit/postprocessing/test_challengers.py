"""A challenger changes the served forecast only when it is significantly better."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import insert, update

from tests.support.records import LAST, Past
from tests.unit.postprocessing.test_targets import (
    WAVES,
    guessing,
    hopeless,
    knowing_half,
    plain,
)
from tradingbot.combination_shares import describe_shares
from tradingbot.data.stored_candles import bars_in_database
from tradingbot.evaluation.metric_sums import crps
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import KronosCombination, KronosForecast
from tradingbot.postprocessing.combination import Course, Panel, replay, shares, without_record
from tradingbot.postprocessing.combination_learning import learn, rivals_of
from tradingbot.postprocessing.combination_state import TRIAL_SESSIONS, State
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.experts import EXPERTS
from tradingbot.postprocessing.repository import (
    load_combination,
    served_shares,
    store_combination,
)
from tradingbot.typing import Floats

pytestmark = pytest.mark.slow  # each test learns from hundreds of nights
Model = Callable[[Floats, Floats], tuple[Floats, Floats]]


@cache
def champion() -> Panel:
    return WAVES.panel(plain)


@cache
def alone() -> Course:
    """Return what is learnt without challengers."""
    return replay(champion(), without_record(len(EXPERTS)))


def with_models(models: Mapping[str, Model | Floats]) -> tuple[Panel, State]:
    """Return the champion's panel with these challengers, and a state that learns from it."""
    quantiles = [
        model if isinstance(model, np.ndarray) else WAVES.panel(model).model
        for model in models.values()
    ]
    experts = np.concatenate([champion().experts, np.stack(quantiles, axis=1)], axis=1)
    return replace(champion(), experts=experts), without_record(len(EXPERTS)).with_challengers(
        [*models]
    )


def learnt(models: Mapping[str, Model | Floats]) -> tuple[Course, Panel]:
    panel, start = with_models(models)
    return replay(panel, start), panel


@cache
def learnt_of_a_better_one() -> tuple[Course, Panel]:
    return learnt({"better": knowing_half})


def loss(quantiles: Floats) -> float:
    return float(crps(champion().actual, quantiles)[np.isfinite(champion().scale)].mean())


@pytest.mark.parametrize("model", [hopeless, guessing, plain])
def test_an_equal_challenger_does_not_change_the_served_forecast(model: Model) -> None:
    course, panel = learnt({"other": model})
    assert course.combine(panel) == pytest.approx(
        alone().combine(champion()), abs=1e-12, nan_ok=True
    )
    newest = course.newest
    assert newest.rivals == ()
    assert [trial.name for trial in newest.trials] == ["other"]
    assert newest.trials[0].sessions == newest.sessions > TRIAL_SESSIONS
    assert newest.weights == pytest.approx(alone().newest.weights)


def test_a_better_challenger_gets_a_weight_and_improves_the_served_forecast() -> None:
    course, panel = learnt_of_a_better_one()
    first = next(number for number, state in enumerate(course.states) if state.rivals)
    assert TRIAL_SESSIONS <= first < 2 * TRIAL_SESSIONS
    early = course.known(panel) < first
    served, before = course.combine(panel), alone().combine(champion())
    assert served[early] == pytest.approx(before[early], abs=1e-12, nan_ok=True)
    assert loss(served) < 0.99 * loss(before)
    assert course.newest.weights[-1] > 0.5
    assert course.newest.weights.sum() == pytest.approx(1)


def test_only_the_better_of_several_challengers_gets_a_weight() -> None:
    models = {"hopeless": hopeless, "better": knowing_half, "guessing": guessing}
    course, panel = learnt(models)
    newest = course.newest
    assert [rival.name for rival in newest.rivals] == ["better"]
    assert [trial.name for trial in newest.trials] == ["hopeless", "guessing"]
    # its record started again when the better one joined
    assert newest.trials[0].sessions < newest.sessions
    assert [rival.name for rival in newest.trials[0].state.rivals] == ["better", "hopeless"]
    only, its_panel = learnt_of_a_better_one()
    assert course.combine(panel) == pytest.approx(only.combine(its_panel), nan_ok=True)


def test_learning_night_by_night_equals_learning_at_once() -> None:
    panel, start = with_models({"hopeless": hopeless, "better": knowing_half})
    at_once = replay(panel, start).newest
    middle = np.unique(panel.target)[150]
    state = replay(panel[panel.target <= middle], start).newest
    state = replay(panel, state.with_challengers(["hopeless", "better"])).newest
    assert state == at_once


def test_the_weight_of_an_absent_challenger_goes_to_the_others() -> None:
    course, panel = learnt_of_a_better_one()
    asleep = panel.experts.copy()
    asleep[::2, -1] = np.nan
    weights = shares(course.newest, asleep)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert (weights[::2, -1] == 0).all()
    assert (weights[1::2, -1] > 0.5).all()
    others = weights[1::2, :-1] / weights[1::2, :-1].sum(axis=1, keepdims=True)
    assert weights[::2, :-1] == pytest.approx(others)


def test_a_challenger_absent_half_of_the_time_is_judged_on_its_own_sessions() -> None:
    quantiles = WAVES.panel(knowing_half).model.copy()
    sessions = np.unique(champion().target)
    quantiles[np.isin(champion().target, sessions[1::2])] = np.nan
    course, _ = learnt({"better": quantiles})
    trials = [state.trials[0].sessions for state in course.states if state.trials]
    assert trials == [number // 2 for number in range(1, len(trials) + 1)]
    assert [rival.name for rival in course.newest.rivals] == ["better"]


def test_removing_a_challenger_keeps_the_proportions_of_other_weights() -> None:
    course, _ = learnt({"better": knowing_half, "hopeless": hopeless})
    before = course.newest
    after = before.with_challengers(["hopeless"])
    assert after.rivals == ()
    assert [rival.name for rival in after.trials[0].state.rivals] == ["hopeless"]
    kept = before.weights[:-1] / before.weights[:-1].sum()
    assert after.weights == pytest.approx(kept)
    again = after.with_challengers(["hopeless", "better"])
    assert [trial.name for trial in again.trials] == ["hopeless", "better"]
    assert again.trials[1].sessions == 0


def test_the_order_in_which_challengers_are_listed_changes_nothing() -> None:
    course, panel = learnt({"hopeless": hopeless, "better": knowing_half})
    other, reversed_order = learnt({"better": knowing_half, "hopeless": hopeless})
    assert course.combine(panel) == pytest.approx(other.combine(reversed_order), nan_ok=True)


# in the ledger ----------------------------------------------------------------------------

KEY = ("mini", "r1+anchored", "1d")
PAST = Past(("AAPL", "MSFT"), sessions=110, horizon=2, width=0.4, revision=KEY[1])


@pytest.fixture
def ledger(database: str) -> str:
    store_ledger(database)
    return database


def store_ledger(url: str) -> None:
    """Store 110 nights of a champion, and of a challenger that predicts half of each move."""
    PAST.store(url)
    with get_db_session(url) as session:
        for symbol in PAST.symbols:
            closes = {bar["timestamp"]: bar["close"] for bar in PAST.candles(symbol)}
            rows = replace(PAST, model="me/right", width=0.8).forecasts(symbol)
            for row in rows:
                known = (
                    closes.get(row["target_date"], row["last_close"]) / row["last_close"]
                ) ** 0.5
                row["close_quantiles"] = {p: q * known for p, q in row["close_quantiles"].items()}
                row["challenger"] = True
            session.execute(insert(KronosForecast), rows)


def of_ledger(url: str, start: Combination | None = None, until: datetime = LAST) -> Combination:
    sessions = partial(get_db_session, url)

    def bars_of(symbol: str, interval: str, since: datetime) -> pd.DataFrame:
        with sessions() as session:
            return bars_in_database(session, symbol, interval, since)

    return learn(
        sessions,
        bars_of,
        start or Combination(KEY, {}),
        before=until,
        horizon=2,
        challengers=rivals_of(sessions, KEY, until),
    )


@pytest.fixture(scope="module")
def learnt_of_ledger(tmp_path_factory: pytest.TempPathFactory) -> Combination:
    url = f"sqlite:///{tmp_path_factory.mktemp('challengers') / 'kronos.db'}"
    store_ledger(url)
    return of_ledger(url)


def test_challengers_in_the_ledger_are_evaluated_and_their_state_stored(
    ledger: str,
) -> None:
    middle = of_ledger(ledger, until=LAST - timedelta(days=100))
    assert all(state.trials and not state.rivals for state in middle.pools.values())
    with get_db_session(ledger) as session:
        store_combination(session, middle)
    with get_db_session(ledger) as session:
        read = load_combination(session, KEY)
    assert read is not None
    for pool, state in middle.pools.items():
        again = read.pools[pool]
        assert replace(again, log_factors=state.log_factors) == state
    newest = of_ledger(ledger, read)
    assert {pool for pool, state in newest.pools.items() if state.rivals} == newest.pools.keys()
    assert newest.rivals == {"me/right"}
    with get_db_session(ledger) as session:
        store_combination(session, newest)
        shares = served_shares(session, KEY)
        assert load_combination(session, KEY).rivals == {"me/right"}
    assert shares is not None
    assert shares["me/right"] > shares["kronos"] > 0
    assert "% right" in describe_shares(shares)
    assert sum(shares.values()) == pytest.approx(1)


def test_a_challenger_has_no_challengers_and_a_removed_one_is_dropped(ledger: str) -> None:
    sessions = partial(get_db_session, ledger)
    assert rivals_of(sessions, KEY, LAST) == ["me/right"]
    assert rivals_of(sessions, ("me/right", KEY[1], "1d"), LAST) == []
    assert rivals_of(sessions, KEY, LAST + timedelta(days=30)) == []
    assert rivals_of(sessions, (*KEY[:2], "1h"), LAST) == []


@pytest.mark.parametrize(
    "damage",
    [
        {},
        {"names": ["other"], "rivals": [], "trials": []},
        {"names": [], "rivals": [{"name": "x", "agreement": None}], "trials": []},
        {"names": ["x"], "rivals": [{"name": "x", "size": -1.0, "sessions": 3}], "trials": []},
        {"names": [], "rivals": [], "trials": [{"sessions": 1}]},
    ],
    ids=range(5),
)
def test_damaged_challenger_rows_are_reported_and_learnt_again(
    database: str,
    learnt_of_ledger: Combination,
    damage: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with get_db_session(database) as session:
        store_combination(session, learnt_of_ledger)
        session.execute(update(KronosCombination).values(challengers=damage))
    with get_db_session(database) as session:
        assert load_combination(session, KEY) is None
    assert "is damaged" in caplog.text
