"""A backtest lives in the past: what knows the present must not be asked in there."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_in_backtest: ContextVar[bool] = ContextVar("in_backtest", default=False)


class LookAhead(RuntimeError):
    """In a backtest, a decision asked what only the present knows."""


@contextmanager
def in_the_past() -> Iterator[None]:
    """In this block `refuse_in_backtest` raises."""
    token = _in_backtest.set(True)
    try:
        yield
    finally:
        _in_backtest.reset(token)


LEDGER = "forecasts of the past are in the ledger: Bot.stored_forecast reads them"


def refuse_in_backtest(what: str, instead: str = LEDGER) -> None:
    """LookAhead when called in a backtest; `instead` says what may be asked there."""
    if _in_backtest.get():
        raise LookAhead(f"{what} knows the present, and a backtest must not; {instead}")
