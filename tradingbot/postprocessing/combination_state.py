"""States of a combination: the numbers learnt from past forecasts and outcomes. Arrays only.

combination.py learns a State from forecasts and outcomes. The State decides how forecasters are
combined. A Trial has the State of a combination with one more challenger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tradingbot.evaluation.sequential_testing import mean_is_positive
from tradingbot.postprocessing.conformal import BANDS, widened
from tradingbot.typing import Floats

PRIOR_SESSIONS = 50  # number of imagined sessions without agreement, added to the real sessions
TRIAL_SESSIONS = 60  # minimum length of a challenger's trial
MEDIAN = 9  # index in the 19 quantiles


@dataclass(frozen=True)
class Rival:
    """A challenger in a combination, and the agreement of its median with outcomes (see State)."""

    name: str  # the model's name
    agreement: float = 0.0
    size: float = 0.0
    sessions: int = 0  # number of sessions with forecasts of this challenger

    @property
    def kept(self) -> float:
        """Return the factor, from 0 to 1, that shrinks the challenger's median towards 0."""
        return _kept(self.agreement, self.size, self.sessions)


@dataclass(frozen=True)
class State:
    """The numbers learnt from past forecasts and outcomes.

    Attributes:
        gains: By how much more weight on each forecaster would have lowered the loss, summed over
            sessions. Shape (1 + experts + rivals,), the model first. The weights are the softmax
            of the gains.
        agreement: Sum over sessions of the mean of median * outcome, both in units of the panel's
            `scale`.
        size: Sum over sessions of the mean of median², in the same units.
        log_factors: (9,) logs of the factors on the half-widths of each of BANDS.
        sessions: Number of sessions learnt.
        forecasts: Number of forecasts with an outcome in these sessions.
        until: Newest target session; None before the first session.
        rivals: Challengers that have joined the combination.
        trials: Challengers on trial.
        challengers: The names of rivals and of challengers on trial, in the order of a panel's last
            experts.
    """

    gains: tuple[float, ...]
    agreement: float = 0.0
    size: float = 0.0
    log_factors: tuple[float, ...] = (0.0,) * len(BANDS)
    sessions: int = 0
    forecasts: int = 0
    until: np.datetime64 | None = None
    rivals: tuple[Rival, ...] = ()
    trials: "tuple[Trial, ...]" = ()
    challengers: tuple[str, ...] = ()

    @property
    def weights(self) -> Floats:
        """Return the positive weights, whose sum is 1. Shape (1 + experts + rivals,)."""
        return _softmax(np.array(self.gains))

    @property
    def kept(self) -> float:
        """Return the factor, from 0 to 1, that shrinks the model's median towards 0."""
        return _kept(self.agreement, self.size, self.sessions)

    @property
    def plain(self) -> int:
        """Return the number of experts that are not models."""
        return len(self.gains) - 1 - len(self.rivals)

    def with_challengers(self, names: Sequence[str]) -> "State":
        """Return the state with these challengers.

        New challengers begin a trial. Challengers that are not in `names` are removed.
        """
        served = self._with_rivals_of(names)
        earned = {rival.name for rival in served.rivals}
        trials = {
            rival.name: replace(rival, state=rival.state._with_rivals_of(names))
            for rival in self.trials
        }
        on_trial = [name for name in names if name not in earned]
        return replace(
            served,
            trials=tuple(trials.get(name) or Trial.begun(served, name) for name in on_trial),
        )

    def _with_rivals_of(self, names: Sequence[str]) -> "State":
        of_experts = self.gains[: 1 + self.plain]
        gains = zip(self.rivals, self.gains[1 + self.plain :], strict=True)
        kept = [(rival, gain) for rival, gain in gains if rival.name in names]
        return replace(
            self,
            gains=(*of_experts, *(gain for _, gain in kept)),
            rivals=tuple(rival for rival, _ in kept),
            challengers=tuple(names),
        )


@dataclass(frozen=True)
class Trial:
    """A combination with one more challenger than the served one.

    Attributes:
        state: The state of the combination on trial. The challenger is the last of its rivals.
        sessions: Number of sessions since the trial began.
        lead: Sum over these sessions of the served combination's mean loss minus the trial's, in
            units of each forecast's expected move.
        lead_squares: Sum of the squares of these differences.
    """

    state: State
    sessions: int = 0
    lead: float = 0.0
    lead_squares: float = 0.0

    @classmethod
    def begun(cls, served: State, name: str) -> "Trial":
        """Begin a trial of this challenger, with a gain equal to the mean of the others."""
        gains = (*served.gains, sum(served.gains) / len(served.gains))
        rivals = (*served.rivals, Rival(name))
        return cls(replace(served, gains=gains, rivals=rivals, trials=()))

    @property
    def name(self) -> str:
        return self.state.rivals[-1].name

    def is_won(self, step: int) -> bool:
        """Return whether the trial has significantly lower losses than the served combination.

        `step` is that of `replay`.
        """
        return self.sessions >= TRIAL_SESSIONS and mean_is_positive(
            self.lead, self.lead_squares, self.sessions, overlap=step
        )


def _kept(agreement: float, size: float, sessions: int) -> float:
    if size <= 0:
        return 0.0
    doubt = PRIOR_SESSIONS * size / sessions
    return min(max(agreement / (size + doubt), 0.0), 1.0)


def without_record(experts: int) -> State:
    """Return the state before the first session: equal weights, the model's median shrunk to 0."""
    return State(gains=(0.0,) * (1 + experts))


def combine(state: State, model: Floats, experts: Floats) -> Floats:
    """Return the combined quantiles, (n, 19). NaN where no forecaster has a forecast.

    Args:
        state: The state whose weights, factors and shrinkage to apply.
        model: (n, 19) the model's quantiles.
        experts: (n, experts + challengers, 19) the experts' and challengers' quantiles.
    """
    return _widened(blend_of(state, stacked_of(state, model, experts)), state)


def shares(state: State, experts: Floats) -> Floats:
    """Return the weights of the forecasters in each forecast, 0 for sleeping experts.

    Shape (n, 1 + experts + rivals). `experts` is the argument of `combine`.
    """
    experts = of_state(state, experts)
    awake = np.column_stack([np.ones(len(experts), dtype=bool), ~np.isnan(experts[..., 0])])
    return _softmax(np.where(awake, np.array(state.gains), -np.inf))


def _softmax(gains: Floats) -> Floats:
    """Return the softmax along the last axis. NaN where all gains are minus infinity."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(gains - gains.max(axis=-1, keepdims=True))
        weights: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return weights


def of_state(state: State, experts: Floats) -> Floats:
    """Return `experts` without challengers that are not rivals of the state.

    Shape (n, experts + rivals, 19).
    """
    if not state.challengers:
        return experts
    places = (state.challengers.index(rival.name) for rival in state.rivals)
    return experts[:, [*range(state.plain), *(state.plain + place for place in places)]]


def stacked_of(state: State, model: Floats, experts: Floats) -> Floats:
    """Return the quantiles of model and experts in one array, with the models' medians shrunk.

    Shape (n, 1 + experts + rivals, 19).
    """
    kept = np.array([state.kept, *[1.0] * state.plain, *(rival.kept for rival in state.rivals)])
    stacked = np.concatenate([model[:, None], of_state(state, experts)], axis=1)
    shrunk: Floats = stacked - (1 - kept)[:, None] * stacked[..., [MEDIAN]]
    return shrunk


def blend_of(state: State, stacked: Floats) -> Floats:
    """Return the weighted means of the forecasters' quantiles, (n, 19). NaN where all sleep."""
    awake = _softmax(np.where(np.isnan(stacked[..., 0]), -np.inf, np.array(state.gains)))
    blended: Floats = np.einsum("nk,nkq->nq", awake, np.nan_to_num(stacked))
    return blended


def _widened(blended: Floats, state: State) -> Floats:
    wide: Floats = np.log(widened(np.exp(blended), np.exp(np.array(state.log_factors))))
    return wide
