"""Copies of a strategy with other parameters."""

import copy
from collections.abc import Mapping
from typing import Any

from tradingbot.bots.strategy import Strategy, keywords_of

SHARED = {"settings", "_given_data", "_sessions"}  # environment, without state of a trial


def variant(strategy: Strategy, chosen: Mapping[str, Any]) -> Strategy:
    """Return a copy with these parameters, without any state of other trials.

    Constructor arguments go through the constructor, with everything it derives from them. Existing
    attributes are set. The rest become `params`.
    """
    changed = copy.copy(strategy)
    attributes = vars(changed)
    attributes |= {name: _copied(value) for name, value in attributes.items() if name not in SHARED}
    taken = keywords_of(type(strategy), from_outside=True) & chosen.keys()
    if taken and strategy.made_with is not None:
        usual, wanted = (
            strategy.rebuilt({}),
            strategy.rebuilt({key: chosen[key] for key in taken}),
        )
        attributes |= {
            name: value
            for name, value in vars(wanted).items()
            if not _equal(value, vars(usual).get(name))
        }
    for name, value in chosen.items():
        if hasattr(changed, name):
            setattr(changed, name, value)
        elif name not in taken:
            changed.params[name] = value
    return changed


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # such as a connection or lock, which decisions do not change
        return value


def _equal(value: Any, other: Any) -> bool:
    try:
        return value is other or bool(value == other)
    except Exception:  # arrays
        return False
