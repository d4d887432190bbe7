"""A backtest lives in the past: what knows the present must not be asked in there.

`decisions.py` carries this into the threads, processes and pools that a decision uses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

IN_BACKTEST: ContextVar[bool] = ContextVar("in_backtest", default=False)
DECIDING: ContextVar[tuple[int, ...]] = ContextVar("deciding", default=())  # ids of bots


class LookAhead(RuntimeError):
    """In a backtest, a decision asked what only the present knows."""


@contextmanager
def in_the_past() -> Iterator[None]:
    """In this block `refuse_in_backtest` raises."""
    token = IN_BACKTEST.set(True)
    try:
        yield
    finally:
        IN_BACKTEST.reset(token)


def is_deciding(bot: object) -> bool:
    """Whether this is asked in a decision of this bot."""
    return id(bot) in DECIDING.get()


def in_backtest() -> bool:
    """Whether this is asked in a decision about the past."""
    return IN_BACKTEST.get()


HISTORY = "Bot.history has the bars up to the one that is decided on"
LEDGER = "forecasts of the past are in the ledger: Bot.stored_forecast reads them"


def refuse_in_backtest(what: str, instead: str = LEDGER) -> None:
    """LookAhead when called in a backtest; `instead` says what may be asked there."""
    if IN_BACKTEST.get():
        raise look_ahead(what, instead)


def look_ahead(what: str, instead: str = LEDGER) -> LookAhead:
    """The refusal of `what`."""
    return LookAhead(f"{what} knows the present, and a backtest must not; {instead}")
