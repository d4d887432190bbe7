"""The context of a bot's decision, which also applies in threads and processes of the decision.

The context is the value of two context variables: which bots are deciding, and whether the decision
is part of a backtest. In a backtest, functions that return present data raise an error; see
`lookahead.py`. Python's threads, processes and pools do not inherit context variables. This module
therefore patches them to pass on the context.
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
    Pool: ("apply_async", "_map_async", "imap", "imap_unordered"),  # ThreadPool inherits from Pool
}
_WORKERS = (
    concurrent.futures.thread._worker,
    concurrent.futures.process._process_worker,
    multiprocessing.pool.worker,  # type: ignore[attr-defined]
)


@contextmanager
def decision_of(bot: object) -> Iterator[None]:
    """Make `is_deciding(bot)` true in this block and in the threads and processes it starts."""
    _patch_threads_and_pools()
    token = DECIDING.set((*DECIDING.get(), id(bot)))
    try:
        yield
    finally:
        DECIDING.reset(token)


@cache  # once per process, at the first decision
def _patch_threads_and_pools() -> None:
    """Patch threads, processes and pools to pass on the context of a decision.

    A pool's worker threads and processes start without the context, because they may still run
    after the decision. Each piece of work that a decision submits to a pool has the context.
    """
    started: tuple[type[Any], ...] = (threading.Thread, BaseProcess)
    for kind in started:
        setattr(kind, "start", _start_with_context(kind.start))  # noqa: B010
    for kind, names in _POOLS.items():
        for name in names:
            setattr(kind, name, _submit_with_context(getattr(kind, name)))


def _start_with_context(start: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return `Thread.start` or `Process.start` with the decision's context passed on."""

    @wraps(start)
    def start_in_context(started: Any) -> None:
        target = getattr(started, "_target", None)
        if not DECIDING.get():
            start(started)
        elif target in _WORKERS:
            _run_in_context(False, (), start, started)
        else:
            if isinstance(started, threading.Thread):
                vars(started)["run"] = partial(copy_context().run, started.run)
            elif target is not None:
                started._target = _with_context(target)
            start(started)

    return start_in_context


def _submit_with_context(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a pool's method that passes the context on to the work, its first argument."""

    @wraps(method)
    def submit(pool: Any, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return method(pool, _with_context(work) if DECIDING.get() else work, *args, **kwargs)

    return submit


def _with_context(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return `work` bound to the decision's context. The result can be pickled if `work` can."""
    return partial(_run_in_context, IN_BACKTEST.get(), DECIDING.get(), work)


def _run_in_context(
    in_past: bool, bots: tuple[int, ...], work: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    def run() -> Any:
        IN_BACKTEST.set(in_past)
        DECIDING.set(bots)
        return work(*args, **kwargs)

    return copy_context().run(run)
