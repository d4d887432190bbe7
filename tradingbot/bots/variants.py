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
    own = vars(changed)
    own |= {name: _copied(value) for name, value in own.items() if name not in SHARED}
    taken = keywords_of(type(strategy), from_outside=True) & chosen.keys()
    if taken and strategy.made_with is not None:
        usual, wanted = (
            strategy.rebuilt({}),
            strategy.rebuilt({key: chosen[key] for key in taken}),
        )
        own |= {
            name: value
            for name, value in vars(wanted).items()
            if not _same(value, vars(usual).get(name))
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


def _same(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # arrays
        return False
