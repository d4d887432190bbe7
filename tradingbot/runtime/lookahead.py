"""Prevent look-ahead: in a backtest, functions that return data of the present raise an error.

`decisions.py` applies the same rule in the threads, processes and pools that a decision uses. The
ledger, which the error messages name, is the table of all forecasts ever stored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

IN_BACKTEST: ContextVar[bool] = ContextVar("in_backtest", default=False)
DECIDING: ContextVar[tuple[int, ...]] = ContextVar("deciding", default=())  # IDs of bots


class LookAhead(RuntimeError):
    """A decision in a backtest asked for data of the present."""


@contextmanager
def in_the_past() -> Iterator[None]:
    """Make `refuse_in_backtest` raise in this block."""
    token = IN_BACKTEST.set(True)
    try:
        yield
    finally:
        IN_BACKTEST.reset(token)


def is_deciding(bot: object) -> bool:
    """Return whether the caller runs during a decision of this bot."""
    return id(bot) in DECIDING.get()


def in_backtest() -> bool:
    """Return whether the caller runs during a decision of a backtest."""
    return IN_BACKTEST.get()


HISTORY = "Bot.history has the bars up to the one of the decision"
LEDGER = "forecasts of the past are in the ledger: Bot.stored_forecast reads them"


def refuse_in_backtest(source: str, instead: str = LEDGER) -> None:
    """Raise LookAhead if called in a backtest.

    Args:
        source: The function that returns data of the present.
        instead: What to use in a backtest, as part of the error message.
    """
    if IN_BACKTEST.get():
        raise look_ahead(source, instead)


def look_ahead(source: str, instead: str = LEDGER) -> LookAhead:
    """Return the error for a use of `source` in a backtest. `instead` names the alternative."""
    return LookAhead(f"{source} knows the present, and a backtest must not; {instead}")
