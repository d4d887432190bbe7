"""What is known of forecasters by their record, and what it makes of a forecast: pure arrays.

A State follows from a record (combination.py) and says how forecasters are combined. A Trial is
the State of a combination with one challenger more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tradingbot.evaluation.sequential_testing import mean_is_positive
from tradingbot.postprocessing.conformal import BANDS, widened
from tradingbot.typing import Floats

PRIOR_SESSIONS = 50  # of no agreement at all: so much record halves the doubt in the median
TRIAL_SESSIONS = 60  # that a challenger needs at least
MEDIAN = 9  # of the 19 quantiles


@dataclass(frozen=True)
class Rival:
    """A challenger in a combination, and how well its median agrees with outcomes (see State)."""

    name: str  # the model's
    agreement: float = 0.0
    size: float = 0.0
    sessions: int = 0  # on which it had forecasts

    @property
    def kept(self) -> float:
        """The share of its median that is kept, from 0 to 1."""
        return _kept(self.agreement, self.size, self.sessions)


@dataclass(frozen=True)
class State:
    """What a record teaches.

    Attributes:
        gains: By how much following each expert alone would have lowered the loss, the model's
            first, the rivals' last: (1 + experts + rivals,). Weights are their softmax.
        agreement: Sum over sessions of the mean of median * outcome, in units of `scale`.
        size: Sum over sessions of the mean of median², likewise.
        log_factors: (9,) logs of what the half-widths of each of BANDS are multiplied by.
        sessions: How many there were.
        forecasts: How many had their outcome on them.
        until: The newest target session among them; None where there was none.
        rivals: The challengers that have earned a share.
        trials: Those that have not.
        challengers: The names of both, in the order of a panel's last experts.
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
        """(1 + experts + rivals,): positive, their sum is 1."""
        return _softmax(np.array(self.gains))

    @property
    def kept(self) -> float:
        """The share of the model's median that is kept, from 0 to 1."""
        return _kept(self.agreement, self.size, self.sessions)

    @property
    def plain(self) -> int:
        """The number of experts that are no models."""
        return len(self.gains) - 1 - len(self.rivals)

    def with_challengers(self, names: Sequence[str]) -> "State":
        """The state with these and no others: new ones begin a trial, others are forgotten."""
        served = self._with_rivals_of(names)
        earned = {one.name for one in served.rivals}
        trials = {
            one.name: replace(one, state=one.state._with_rivals_of(names)) for one in self.trials
        }
        on_trial = [name for name in names if name not in earned]
        return replace(
            served,
            trials=tuple(trials.get(name) or Trial.begun(served, name) for name in on_trial),
        )

    def _with_rivals_of(self, names: Sequence[str]) -> "State":
        own = self.gains[: 1 + self.plain]
        gains = zip(self.rivals, self.gains[1 + self.plain :], strict=True)
        kept = [(rival, gain) for rival, gain in gains if rival.name in names]
        return replace(
            self,
            gains=(*own, *(gain for _, gain in kept)),
            rivals=tuple(rival for rival, _ in kept),
            challengers=tuple(names),
        )


@dataclass(frozen=True)
class Trial:
    """A combination with one challenger more than the one that is served.

    Attributes:
        state: What the record teaches of it; the challenger is the last of its rivals.
        sessions: How many there were since it began.
        lead: Sum over these sessions of its mean loss below that of what is served, in units of
            each forecast's expected move.
        lead_squares: Sum of the squares of the same.
    """

    state: State
    sessions: int = 0
    lead: float = 0.0
    lead_squares: float = 0.0

    @classmethod
    def begun(cls, served: State, name: str) -> "Trial":
        """The trial of this challenger, which starts as good as the mean of the others."""
        gains = (*served.gains, sum(served.gains) / len(served.gains))
        rivals = (*served.rivals, Rival(name))
        return cls(replace(served, gains=gains, rivals=rivals, trials=()))

    @property
    def name(self) -> str:
        return self.state.rivals[-1].name

    def is_won(self, step: int) -> bool:
        """Whether it is surely better than what is served; `step` is as in `replay`."""
        return self.sessions >= TRIAL_SESSIONS and mean_is_positive(
            self.lead, self.lead_squares, self.sessions, overlap=step
        )


def _kept(agreement: float, size: float, sessions: int) -> float:
    if size <= 0:
        return 0.0
    doubt = PRIOR_SESSIONS * size / sessions
    return min(max(agreement / (size + doubt), 0.0), 1.0)


def untaught(experts: int) -> State:
    """Equal weights for the model and the experts; nothing is kept of the model's median."""
    return State(gains=(0.0,) * (1 + experts))


def combine(state: State, model: Floats, experts: Floats) -> Floats:
    """(n, 19) from the model's quantiles (n, 19) and the experts', the challengers' among them.

    NaN where neither the model nor an expert has anything to say.
    """
    return _widened(blend_of(state, stacked_of(state, model, experts)), state)


def shares(state: State, experts: Floats) -> Floats:
    """(n, 1 + experts + rivals): the weights once those that sleep have none.

    `experts` are those of `combine`.
    """
    experts = of_state(state, experts)
    awake = np.column_stack([np.ones(len(experts), dtype=bool), ~np.isnan(experts[..., 0])])
    return _softmax(np.where(awake, np.array(state.gains), -np.inf))


def _softmax(gains: Floats) -> Floats:
    """Along the last axis; NaN where no gain is above minus infinity."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(gains - gains.max(axis=-1, keepdims=True))
        weights: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return weights


def of_state(state: State, experts: Floats) -> Floats:
    """(n, experts + rivals, 19): without the challengers that have no part in the state."""
    if not state.challengers:
        return experts
    places = (state.challengers.index(one.name) for one in state.rivals)
    return experts[:, [*range(state.plain), *(state.plain + place for place in places)]]


def stacked_of(state: State, model: Floats, experts: Floats) -> Floats:
    """(n, 1 + experts + rivals, 19), the medians of the models shrunk."""
    kept = np.array([state.kept, *[1.0] * state.plain, *(one.kept for one in state.rivals)])
    stacked = np.concatenate([model[:, None], of_state(state, experts)], axis=1)
    shrunk: Floats = stacked - (1 - kept)[:, None] * stacked[..., [MEDIAN]]
    return shrunk


def blend_of(state: State, stacked: Floats) -> Floats:
    """(n, 19): weighted means over those that are awake; NaN where nobody is."""
    awake = _softmax(np.where(np.isnan(stacked[..., 0]), -np.inf, np.array(state.gains)))
    blended: Floats = np.einsum("nk,nkq->nq", awake, np.nan_to_num(stacked))
    return blended


def _widened(blended: Floats, state: State) -> Floats:
    wide: Floats = np.log(widened(np.exp(blended), np.exp(np.array(state.log_factors))))
    return wide
