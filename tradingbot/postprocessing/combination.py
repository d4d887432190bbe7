"""Combine the model's quantiles with those of plain experts, by their record: pure arrays.

    course = replay(panel, untaught(3))  # what was known after each session
    quantiles = combine(course.newest, model, experts)

Every expert gives 19 quantiles of log(close ÷ last close). The combined quantile of a level is the
weighted mean of theirs, the weights being the same for all levels. After each target session they
move towards those experts that would have lowered the pinball loss (exponentiated gradient:
Kivinen and Warmuth 1997; for quantiles: Berrisch and Ziel, "CRPS learning", 2021, arXiv
2102.00968). The model's median is shrunk towards the last close first, by how well it has agreed
with the outcomes so far (as in EMOS: Gneiting et al. 2005). At the end the bands are widened or
narrowed to what the record asks for (conformal.py).

A challenger, a further model beside the first, is on trial: a second state learns what the
combination with it would be, and has no part in what is served. It takes the place of the first
once it is sure that it is the better one, however often that is looked at.

A state follows from the one before and one session's outcomes alone, so that sessions can be
learned one by one. Nothing looks ahead: a forecast made at `as_of` uses sessions of earlier dates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.postprocessing.combination_state import (
    MEDIAN,
    Rival,
    Trial,
    blend_of,
    of_state,
    stacked_of,
)
from tradingbot.postprocessing.combination_state import State as State
from tradingbot.postprocessing.combination_state import combine as combine
from tradingbot.postprocessing.combination_state import shares as shares
from tradingbot.postprocessing.combination_state import untaught as untaught
from tradingbot.postprocessing.conformal import moved, scores
from tradingbot.typing import Floats, Times

RATE = 1.0  # of learning; losses are in units of each forecast's expected move, so none is tuned
MOST = 5.0  # expected moves: no forecast teaches more, as after a halt, where none is expected

_LEVELS = np.array(QUANTILE_LEVELS)


@dataclass(frozen=True)
class Panel:
    """n matured forecasts of one step, the model's and the experts', in any order.

    Quantiles and outcomes are logs of price ÷ last close. An expert that has nothing to say about
    a forecast has NaN there: it sleeps, and the others share its weight. The last experts are the
    challengers of the state that learns from the panel.
    """

    as_of: Times  # (n,)
    target: Times  # (n,)
    scale: Floats  # (n,) the move to be expected: EWMA deviation of one bar times √step
    actual: Floats  # (n,)
    model: Floats  # (n, 19)
    experts: Floats  # (n, experts, 19)

    def __len__(self) -> int:
        return len(self.actual)

    def __getitem__(self, rows: Any) -> "Panel":
        return Panel(*(getattr(self, one.name)[rows] for one in fields(self)))


def joined(panels: Sequence[Panel]) -> Panel:
    """All their rows in one; at least one panel."""
    return Panel(
        *(np.concatenate([getattr(part, one.name) for part in panels]) for one in fields(Panel))
    )


@dataclass(frozen=True)
class Course:
    """The states of one pool of forecasts, from before its first session to its newest one."""

    sessions: Times  # (sessions,) ascending
    states: tuple[State, ...]  # (1 + sessions,)

    @property
    def newest(self) -> State:
        return self.states[-1]

    def known(self, panel: Panel) -> NDArray[np.int64]:
        """(n,): which of `states` was known when each forecast was made."""
        return np.searchsorted(self.sessions, panel.as_of.astype("M8[s]"), side="left")

    def combine(self, panel: Panel) -> Floats:
        """(n, 19): each forecast with the state that was known when it was made."""
        known = self.known(panel)
        combined = np.empty_like(panel.model)
        for index in np.unique(known):
            rows = known == index
            combined[rows] = combine(self.states[index], panel.model[rows], panel.experts[rows])
        return combined


def replay(panel: Panel, start: State, *, step: int = 1) -> Course:
    """Learn from the panel after `start`, session by session; those it has seen are left out.

    `step` is how many bars ahead the forecasts look, and so how many sessions in a row are of
    overlapping forecasts. Forecasts without an expected move (too short or flat a history), without
    all quantiles or without a price as their outcome teach nothing.
    """
    known = np.isfinite(panel.scale + panel.actual + panel.model.sum(axis=1))
    panel = panel[known & (panel.scale > 0)]
    sessions, states = [], [start]
    for session, of_session in _by_session(panel):
        if start.until is None or session > start.until:
            sessions.append(session)
            states.append(_learn(states[-1], of_session, session, step))
    return Course(np.array(sessions, "M8[s]"), tuple(states))


def _by_session(panel: Panel) -> Iterator[tuple[np.datetime64, Panel]]:
    order = np.argsort(panel.target, kind="stable")
    sessions, first = np.unique(panel.target[order], return_index=True)
    for session, rows in zip(sessions, np.split(order, first)[1:], strict=True):
        yield session, panel[rows]


def _learn(now: State, panel: Panel, session: np.datetime64, step: int) -> State:
    """The state once a target session's forecasts have their outcomes."""
    served = _moved(now, panel, session)
    if not now.trials:
        return served
    trials = [_tried(now, trial, panel, session) for trial in now.trials]
    won = next((trial for trial in trials if trial.is_won(step)), None)
    if won is None:
        return replace(served, trials=tuple(trials))
    others = [trial.name for trial in trials if trial is not won]  # their trials begin again
    return replace(won.state, trials=tuple(Trial.begun(won.state, name) for name in others))


def _tried(served: State, trial: Trial, panel: Panel, session: np.datetime64) -> Trial:
    """The trial after a session; only forecasts that its challenger made count."""
    column = served.plain + served.challengers.index(trial.name)
    panel = panel[np.isfinite(panel.experts[:, column, MEDIAN])]
    if not len(panel):
        return trial
    now = trial.state
    ours, theirs = (
        _losses(combine(state, panel.model, panel.experts), panel.actual) for state in (now, served)
    )
    lead = float((theirs - ours).mean())
    return Trial(
        _moved(now, panel, session),
        trial.sessions + 1,
        trial.lead + lead,
        trial.lead_squares + lead**2,
    )


def _losses(quantiles: Floats, actual: Floats) -> Floats:
    """(n,): the mean pinball loss over levels, twice, which is near to the CRPS."""
    off = actual[:, None] - quantiles
    losses: Floats = 2 * np.maximum(_LEVELS * off, (_LEVELS - 1) * off).mean(axis=1)
    return losses


def _moved(now: State, panel: Panel, session: np.datetime64) -> State:
    """Weights, medians and bands after a session; trials are as they were."""
    stacked = stacked_of(now, panel.model, panel.experts)
    blended = blend_of(now, stacked)
    missed = 2 * ((panel.actual[:, None] < blended) - _LEVELS)  # slope of the pinball loss
    ahead = ((blended[:, None] - stacked) / panel.scale[:, None, None]).clip(-MOST, MOST)
    fall = np.nan_to_num(missed[:, None] * ahead).mean(axis=(0, 2))  # who sleeps gains nothing
    median, actual = (
        (moves / panel.scale).clip(-MOST, MOST) for moves in (panel.model[:, MEDIAN], panel.actual)
    )
    reach = scores(np.exp(blended), np.exp(panel.actual))
    experts = of_state(now, panel.experts)
    return replace(
        now,
        gains=tuple((np.array(now.gains) + RATE * fall).tolist()),
        agreement=now.agreement + float((median * actual).mean()),
        size=now.size + float((median**2).mean()),
        log_factors=tuple(moved(np.array(now.log_factors), reach).tolist()),
        sessions=now.sessions + 1,
        forecasts=now.forecasts + len(panel),
        until=session,
        rivals=tuple(
            _agreed(one, experts[:, now.plain + at, MEDIAN], panel)
            for at, one in enumerate(now.rivals)
        ),
    )


def _agreed(one: Rival, medians: Floats, panel: Panel) -> Rival:
    """The rival once its forecasts of a session have their outcomes."""
    awake = np.isfinite(medians)
    if not awake.any():
        return one
    median, actual = (
        (moves[awake] / panel.scale[awake]).clip(-MOST, MOST) for moves in (medians, panel.actual)
    )
    return replace(
        one,
        agreement=one.agreement + float((median * actual).mean()),
        size=one.size + float((median**2).mean()),
        sessions=one.sessions + 1,
    )
