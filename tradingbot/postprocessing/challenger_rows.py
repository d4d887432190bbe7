"""Convert challengers' states to and from the JSON column of kronos_combinations."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tradingbot.postprocessing.combination_state import Rival, State, Trial
from tradingbot.postprocessing.experts import FORECASTERS

_NUMBERS = ("agreement", "size", "sessions", "forecasts")  # fields of a trial's state


def challengers_column(state: State) -> dict[str, Any] | None:
    """Return a state's rivals and trials as a JSON object, or None without challengers."""
    if not state.challengers:
        return None
    return {
        "names": list(state.challengers),
        "rivals": [asdict(rival) for rival in state.rivals],
        "trials": [_trial_object(trial) for trial in state.trials],
    }


def with_challengers(state: State, gains: Mapping[str, float], column: Any) -> State:
    """Return `state`, which has FORECASTERS only, with the challengers of its row added.

    Raises:
        ValueError: The numbers are impossible. Non-numeric values raise other errors.
    """
    if column is None:
        return state
    rivals = tuple(Rival(**rival) for rival in column["rivals"])
    all_gains = (*state.gains, *(gains[rival.name] for rival in rivals))
    state = replace(state, gains=all_gains, rivals=rivals, challengers=tuple(column["names"]))
    trials = tuple(_trial(state, trial) for trial in column["trials"])
    known = [*(rival.name for rival in rivals), *(trial.name for trial in trials)]
    if sorted(known) != sorted(state.challengers):
        raise ValueError(f"its challengers are {known}, and it names {column['names']}")
    _check(state)
    return replace(state, trials=trials)


def _trial_object(trial: Trial) -> dict[str, Any]:
    state = trial.state
    return {
        "sessions": trial.sessions,
        "lead": trial.lead,
        "lead_squares": trial.lead_squares,
        "state": {
            **{name: getattr(state, name) for name in _NUMBERS},
            "gains": list(state.gains),
            "log_factors": list(state.log_factors),
            "until": None if state.until is None else str(state.until),
            "rivals": [asdict(rival) for rival in state.rivals],
        },
    }


def _trial(served: State, found: Mapping[str, Any]) -> Trial:
    inner = found["state"]
    state = replace(
        served,
        **{name: inner[name] for name in _NUMBERS},
        gains=tuple(inner["gains"]),
        log_factors=tuple(inner["log_factors"]),
        until=None if inner["until"] is None else np.datetime64(inner["until"], "s"),
        rivals=tuple(Rival(**rival) for rival in inner["rivals"]),
        trials=(),
    )
    _check(state)
    lead, squares = float(found["lead"]), float(found["lead_squares"])
    if not (math.isfinite(lead + squares) and squares >= 0 and found["sessions"] >= 0):
        raise ValueError("a trial has numbers out of range")
    return Trial(state, found["sessions"], lead, squares)


def _check(state: State) -> None:
    rivals = [(rival.agreement, rival.size, rival.sessions) for rival in state.rivals]
    numbers = [*state.gains, *state.log_factors, *(number for of in rivals for number in of)]
    whole = len(state.gains) == len(FORECASTERS) + len(rivals)
    if not whole or not all(map(math.isfinite, numbers)):
        raise ValueError("a challenger has numbers out of range")
    if any(size < 0 or (size and sessions < 1) for _, size, sessions in rivals):
        raise ValueError("a challenger has counts out of range")
