"""Combine the model's quantiles with those of simple experts, weighted by past performance.

    course = replay(panel, without_record(3))  # the state after each session
    quantiles = combine(course.newest, model, experts)

The model and every expert give 19 quantiles of log(close ÷ last close). The combined quantile of a
level is the weighted mean of their quantiles, with the same weights for all levels. After each
target session the weights move towards the forecasters that would have lowered the pinball loss
(exponentiated gradient: Kivinen and Warmuth 1997; for quantiles: Berrisch and Ziel, "CRPS
learning", 2021, arXiv 2102.00968). Before combining, the model's median is shrunk towards the last
close. It is shrunk less, the better it has agreed with outcomes (as in EMOS: Gneiting et al. 2005).
After combining, the bands are widened or narrowed to their nominal coverage (conformal.py).

A challenger is a further model besides the first. It begins on trial: a second state learns the
combination with the challenger, without any effect on served forecasts. The challenger joins the
served combination when the trial's losses are significantly lower, in a test that is valid at any
time.

A state depends only on the previous state and one session's outcomes, so sessions can be learnt one
by one. There is no look-ahead: a forecast made at `as_of` uses sessions of earlier dates.
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
from tradingbot.postprocessing.combination_state import without_record as without_record
from tradingbot.postprocessing.conformal import moved, scores
from tradingbot.typing import Floats, Times

RATE = 1.0  # learning rate; needs no tuning, because losses are in units of the expected move
MAX_MOVE = 5.0  # limit of an outcome, in expected moves; after a halt outcomes can be far larger

_LEVELS = np.array(QUANTILE_LEVELS)


@dataclass(frozen=True)
class Panel:
    """n forecasts of one step with outcomes, from the model and the experts, in any order.

    Quantiles and outcomes are logs of price ÷ last close. NaN marks an expert without a forecast.
    Such an expert sleeps: the other forecasters share its weight. The last experts are the
    challengers of the state that learns from the panel.
    """

    as_of: Times  # (n,)
    target: Times  # (n,)
    scale: Floats  # (n,) expected move: EWMA deviation of one bar times √step
    actual: Floats  # (n,)
    model: Floats  # (n, 19)
    experts: Floats  # (n, experts, 19)

    def __len__(self) -> int:
        return len(self.actual)

    def __getitem__(self, rows: Any) -> "Panel":
        return Panel(*(getattr(self, field.name)[rows] for field in fields(self)))


def joined(panels: Sequence[Panel]) -> Panel:
    """Concatenate at least one panel."""
    return Panel(
        *(np.concatenate([getattr(part, field.name) for part in panels]) for field in fields(Panel))
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
        """Return for each forecast the index of the newest state known when it was made."""
        return np.searchsorted(self.sessions, panel.as_of.astype("M8[s]"), side="left")

    def combine(self, panel: Panel) -> Floats:
        """Combine each forecast, using the state known when it was made. Shape (n, 19)."""
        known = self.known(panel)
        combined = np.empty_like(panel.model)
        for index in np.unique(known):
            rows = known == index
            combined[rows] = combine(self.states[index], panel.model[rows], panel.experts[rows])
        return combined


def replay(panel: Panel, start: State, *, step: int = 1) -> Course:
    """Learn from the panel, session by session. Skip sessions that `start` includes.

    A forecast is ignored if one of its quantiles, its outcome or its expected move is unknown. The
    expected move is unknown if the history is too short, and 0 if its prices do not move.

    Args:
        step: Number of bars that the forecasts look ahead. The forecasts of this many consecutive
            sessions overlap.
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
    """Return the state after learning the outcomes of one target session."""
    served = _moved(now, panel, session)
    if not now.trials:
        return served
    trials = [_tried(now, trial, panel, session) for trial in now.trials]
    won = next((trial for trial in trials if trial.is_won(step)), None)
    if won is None:
        return replace(served, trials=tuple(trials))
    losing = [trial.name for trial in trials if trial is not won]  # losing trials begin again
    return replace(won.state, trials=tuple(Trial.begun(won.state, name) for name in losing))


def _tried(served: State, trial: Trial, panel: Panel, session: np.datetime64) -> Trial:
    """Return the trial after a session. Only forecasts that the challenger also made count."""
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
    """Return twice the pinball loss averaged over levels, which approximates the CRPS."""
    off = actual[:, None] - quantiles
    losses: Floats = 2 * np.maximum(_LEVELS * off, (_LEVELS - 1) * off).mean(axis=1)
    return losses


def _moved(now: State, panel: Panel, session: np.datetime64) -> State:
    """Return the state with weights, medians and bands after a session. Keep the trials."""
    stacked = stacked_of(now, panel.model, panel.experts)
    blended = blend_of(now, stacked)
    missed = 2 * ((panel.actual[:, None] < blended) - _LEVELS)  # slope of the pinball loss
    ahead = ((blended[:, None] - stacked) / panel.scale[:, None, None]).clip(-MAX_MOVE, MAX_MOVE)
    fall = np.nan_to_num(missed[:, None] * ahead).mean(axis=(0, 2))  # sleeping experts gain nothing
    median, actual = (
        (moves / panel.scale).clip(-MAX_MOVE, MAX_MOVE)
        for moves in (panel.model[:, MEDIAN], panel.actual)
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
            _agreed(rival, experts[:, now.plain + at, MEDIAN], panel)
            for at, rival in enumerate(now.rivals)
        ),
    )


def _agreed(rival: Rival, medians: Floats, panel: Panel) -> Rival:
    """Return the rival after a session, with the agreement of its medians added."""
    awake = np.isfinite(medians)
    if not awake.any():
        return rival
    median, actual = (
        (moves[awake] / panel.scale[awake]).clip(-MAX_MOVE, MAX_MOVE)
        for moves in (medians, panel.actual)
    )
    return replace(
        rival,
        agreement=rival.agreement + float((median * actual).mean()),
        size=rival.size + float((median**2).mean()),
        sessions=rival.sessions + 1,
    )
