"""The context of a decision: work that it starts elsewhere has it too.

Python's threads, processes and pools do not inherit one by themselves. In a backtest it says that
the present must not be asked; see `lookahead.py`.
"""

import concurrent.futures.process
import concurrent.futures.thread
import multiprocessing.pool
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache, partial, wraps
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from typing import Any

from tradingbot.runtime.lookahead import DECIDING, IN_BACKTEST

_POOLS: dict[type, tuple[str, ...]] = {
    ThreadPoolExecutor: ("submit",),
    ProcessPoolExecutor: ("submit",),
    Pool: ("apply_async", "_map_async", "imap", "imap_unordered"),  # also that of threads
}
_WORKERS = (
    concurrent.futures.thread._worker,
    concurrent.futures.process._process_worker,
    multiprocessing.pool.worker,  # type: ignore[attr-defined]
)


@contextmanager
def decision_of(bot: object) -> Iterator[None]:
    """In this block, and in the work that it starts, `is_deciding(bot)` is true."""
    _let_work_inherit()
    token = DECIDING.set((*DECIDING.get(), id(bot)))
    try:
        yield
    finally:
        DECIDING.reset(token)


@cache  # once a process, with the first decision
def _let_work_inherit() -> None:
    """Let a decision's threads and processes, and its work in any pool, have its context.

    The workers of a pool are started outside of it: they may outlive the decision.
    """
    started: tuple[type[Any], ...] = (threading.Thread, BaseProcess)
    for kind in started:
        setattr(kind, "start", _starting(kind.start))  # noqa: B010
    for kind, names in _POOLS.items():
        for name in names:
            setattr(kind, name, _handing_over(getattr(kind, name)))


def _starting(start: Callable[[Any], None]) -> Callable[[Any], None]:
    """`Thread.start` or `Process.start` which knows of decisions."""

    @wraps(start)
    def start_in_context(started: Any) -> None:
        target = getattr(started, "_target", None)
        if not DECIDING.get():
            start(started)
        elif target in _WORKERS:
            _as_decided(False, (), start, started)
        else:
            if isinstance(started, threading.Thread):
                vars(started)["run"] = partial(copy_context().run, started.run)
            elif target is not None:
                started._target = _carried(target)
            start(started)

    return start_in_context


def _handing_over(method: Callable[..., Any]) -> Callable[..., Any]:
    """A pool's method that takes work first, and knows of decisions."""

    @wraps(method)
    def hand_over(pool: Any, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return method(pool, _carried(work) if DECIDING.get() else work, *args, **kwargs)

    return hand_over


def _carried(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, done as a part of this decision wherever it is; it can be pickled if `work` can."""
    return partial(_as_decided, IN_BACKTEST.get(), DECIDING.get(), work)


def _as_decided(
    in_past: bool, bots: tuple[int, ...], work: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    def decided() -> Any:
        IN_BACKTEST.set(in_past)
        DECIDING.set(bots)
        return work(*args, **kwargs)

    return copy_context().run(decided)
