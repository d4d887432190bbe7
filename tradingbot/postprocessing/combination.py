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

A state follows from the one before and one session's outcomes alone, so that sessions can be
learned one by one. Nothing looks ahead: a forecast made at `as_of` uses sessions of earlier dates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.postprocessing.conformal import BANDS, moved, scores, widened
from tradingbot.typing import Floats, Times

RATE = 1.0  # of learning; losses are in units of each forecast's expected move, so none is tuned
PRIOR_SESSIONS = 50  # of no agreement at all: so much record halves the doubt in the median
MOST = 5.0  # expected moves: no forecast teaches more, as after a halt, where none is expected

_LEVELS = np.array(QUANTILE_LEVELS)
_MEDIAN = 9  # of the 19 quantiles


@dataclass(frozen=True)
class Panel:
    """n matured forecasts of one step, the model's and the experts', in any order.

    Quantiles and outcomes are logs of price ÷ last close. An expert that has nothing to say about
    a forecast has NaN there: it sleeps, and the others share its weight.
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
class State:
    """What a record teaches.

    Attributes:
        gains: By how much following each expert alone would have lowered the loss, the model's
            first: (1 + experts,). Weights are their softmax.
        agreement: Sum over sessions of the mean of median * outcome, in units of `scale`.
        size: Sum over sessions of the mean of median², likewise.
        log_factors: (9,) logs of what the half-widths of each of BANDS are multiplied by.
        sessions: How many there were.
        forecasts: How many had their outcome on them.
        until: The newest target session among them; None where there was none.
    """

    gains: tuple[float, ...]
    agreement: float = 0.0
    size: float = 0.0
    log_factors: tuple[float, ...] = (0.0,) * len(BANDS)
    sessions: int = 0
    forecasts: int = 0
    until: np.datetime64 | None = None

    @property
    def weights(self) -> Floats:
        """(1 + experts,): positive, their sum is 1."""
        return _softmax(np.array(self.gains))

    @property
    def kept(self) -> float:
        """The share of the model's median that is kept, from 0 to 1."""
        if self.size <= 0:
            return 0.0
        doubt = PRIOR_SESSIONS * self.size / self.sessions
        return min(max(self.agreement / (self.size + doubt), 0.0), 1.0)


def untaught(experts: int) -> State:
    """Equal weights for the model and the experts; nothing is kept of the model's median."""
    return State(gains=(0.0,) * (1 + experts))


def combine(state: State, model: Floats, experts: Floats) -> Floats:
    """(n, 19) from the model's quantiles (n, 19) and the experts' (n, experts, 19).

    NaN where neither the model nor an expert has anything to say.
    """
    return _widened(_blend(state, _stacked(state, model, experts)), state)


def shares(state: State, experts: Floats) -> Floats:
    """(n, 1 + experts): the weights, the model's first, once those that sleep have none."""
    awake = np.column_stack([np.ones(len(experts), dtype=bool), ~np.isnan(experts[..., 0])])
    return _softmax(np.where(awake, np.array(state.gains), -np.inf))


def _softmax(gains: Floats) -> Floats:
    """Along the last axis; NaN where no gain is above minus infinity."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(gains - gains.max(axis=-1, keepdims=True))
        weights: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return weights


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


def replay(panel: Panel, start: State) -> Course:
    """Learn from the panel after `start`, session by session; those it has seen are left out.

    Forecasts without an expected move (too short or flat a history), without all quantiles or
    without a price as their outcome teach nothing.
    """
    known = np.isfinite(panel.scale + panel.actual + panel.model.sum(axis=1))
    panel = panel[known & (panel.scale > 0)]
    sessions, states = [], [start]
    for session, of_session in _by_session(panel):
        if start.until is None or session > start.until:
            sessions.append(session)
            states.append(_learn(states[-1], of_session, session))
    return Course(np.array(sessions, "M8[s]"), tuple(states))


def _by_session(panel: Panel) -> Iterator[tuple[np.datetime64, Panel]]:
    order = np.argsort(panel.target, kind="stable")
    sessions, first = np.unique(panel.target[order], return_index=True)
    for session, rows in zip(sessions, np.split(order, first)[1:], strict=True):
        yield session, panel[rows]


def _learn(now: State, panel: Panel, session: np.datetime64) -> State:
    """The state once a target session's forecasts have their outcomes."""
    stacked = _stacked(now, panel.model, panel.experts)
    blended = _blend(now, stacked)
    missed = 2 * ((panel.actual[:, None] < blended) - _LEVELS)  # slope of the pinball loss
    ahead = ((blended[:, None] - stacked) / panel.scale[:, None, None]).clip(-MOST, MOST)
    fall = np.nan_to_num(missed[:, None] * ahead).mean(axis=(0, 2))  # who sleeps gains nothing
    median, actual = (
        (moves / panel.scale).clip(-MOST, MOST) for moves in (panel.model[:, _MEDIAN], panel.actual)
    )
    reach = scores(np.exp(blended), np.exp(panel.actual))
    return State(
        gains=tuple((np.array(now.gains) + RATE * fall).tolist()),
        agreement=now.agreement + float((median * actual).mean()),
        size=now.size + float((median**2).mean()),
        log_factors=tuple(moved(np.array(now.log_factors), reach).tolist()),
        sessions=now.sessions + 1,
        forecasts=now.forecasts + len(panel),
        until=session,
    )


def _stacked(state: State, model: Floats, experts: Floats) -> Floats:
    """(n, 1 + experts, 19): the model with its median shrunk, then the experts."""
    shrunk = model - (1 - state.kept) * model[:, [_MEDIAN]]
    return np.concatenate([shrunk[:, None], experts], axis=1)


def _blend(state: State, stacked: Floats) -> Floats:
    """(n, 19): weighted means over those that are awake; NaN where nobody is."""
    awake = _softmax(np.where(np.isnan(stacked[..., 0]), -np.inf, np.array(state.gains)))
    blended: Floats = np.einsum("nk,nkq->nq", awake, np.nan_to_num(stacked))
    return blended


def _widened(blended: Floats, state: State) -> Floats:
    wide: Floats = np.log(widened(np.exp(blended), np.exp(np.array(state.log_factors))))
    return wide
