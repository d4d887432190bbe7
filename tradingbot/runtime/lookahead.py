"""A backtest lives in the past: what knows the present must not be asked in there.

Nor in the threads that a decision starts, or hands work to: they inherit its context, which
Python's threads by themselves do not.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache, partial
from typing import Any

_in_backtest: ContextVar[bool] = ContextVar("in_backtest", default=False)
_deciding: ContextVar[tuple[int, ...]] = ContextVar("deciding", default=())  # ids of bots


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


@contextmanager
def decision_of(bot: object) -> Iterator[None]:
    """In this block, and in the threads that it starts, `is_deciding(bot)` is true."""
    _let_threads_inherit()
    token = _deciding.set((*_deciding.get(), id(bot)))
    try:
        yield
    finally:
        _deciding.reset(token)


def is_deciding(bot: object) -> bool:
    """Whether this is asked in a decision of this bot."""
    return id(bot) in _deciding.get()


def in_backtest() -> bool:
    """Whether this is asked in a decision about the past."""
    return _in_backtest.get()


HISTORY = "Bot.history has the bars up to the one that is decided on"
LEDGER = "forecasts of the past are in the ledger: Bot.stored_forecast reads them"


def refuse_in_backtest(what: str, instead: str = LEDGER) -> None:
    """LookAhead when called in a backtest; `instead` says what may be asked there."""
    if _in_backtest.get():
        raise look_ahead(what, instead)


def look_ahead(what: str, instead: str = LEDGER) -> LookAhead:
    """The refusal of `what`."""
    return LookAhead(f"{what} knows the present, and a backtest must not; {instead}")


@cache  # once a process, with the first decision
def _let_threads_inherit() -> None:
    """Let a decision's threads, and its work in pools that are there already, have its context."""
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def start_in_context(thread: threading.Thread) -> None:
        if _deciding.get():
            vars(thread)["run"] = partial(copy_context().run, thread.run)
        start(thread)

    def submit_in_context(
        pool: ThreadPoolExecutor, work: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        if _deciding.get():
            work = partial(copy_context().run, work)
        return submit(pool, work, *args, **kwargs)

    setattr(threading.Thread, "start", start_in_context)  # noqa: B010
    setattr(ThreadPoolExecutor, "submit", submit_in_context)  # noqa: B010
