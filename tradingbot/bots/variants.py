"""A strategy with other parameters, as if it had been made with them."""

import copy
from collections.abc import Mapping
from typing import Any

from tradingbot.bots.strategy import Strategy, keywords_of

SHARED = {"settings", "_given_data", "_sessions"}  # surroundings, which have no state of a trial


def variant(strategy: Strategy, chosen: Mapping[str, Any]) -> Strategy:
    """A copy with these parameters, and with nothing that another trial has left behind.

    What the constructor takes goes through it, with all that it makes of it. What else is an
    attribute is set, and the rest are `params`.
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
    except Exception:  # a connection, a lock: nothing that a decision changes
        return value


def _same(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # of an array
        return False
