"""Do several pieces of the engine's work at once, each on a thread with a part of the CPUs.

torch can split one operation among several threads. Such an operation begins by waking the threads
and ends by waiting for the slowest thread. A forecast has hundreds of operations that each take a
fraction of a millisecond, so much time would be lost. Less time is lost if each thread computes
different series, or a different part of the model.
"""

import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import torch

Result = TypeVar("Result")
# Work in steps of a fraction of a second, between which it can be interrupted or ended.
Steps = Generator[None, None, Result]
TURN = 0.05  # seconds after which the works wait for each other, so that they can be interrupted


class Lanes:
    """Threads for `together`. They start when they are first needed.

    Args:
        threads: Number of torch's threads in all lanes.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(2 * threads, "kronos-lane")  # a lane may be split again

    def together(self, works: Sequence[Steps[Any]], threads: int) -> Steps[list[Any]]:
        """Do the works at once with `threads` threads, and return their results in order.

        If there are fewer threads than works, the works are done one after the other. If a work
        fails, the other works are closed, and the exception of the failed work is raised.
        """
        share = threads // len(works)
        if len(works) == 1 or share < 1:
            return (yield from _one_by_one(works))
        running = dict(enumerate(works))
        results: dict[int, Any] = {}
        turns: dict[int, Future[tuple[bool, Any]]] = {}
        try:
            while True:
                turns = {i: self._pool.submit(_turn, running[i], share) for i in running}
                wait(turns.values())
                for i, future in turns.items():
                    ended, result = future.result()
                    if ended:
                        results[i] = result
                        del running[i]
                if not running:
                    return [results[i] for i in range(len(works))]
                yield
        finally:
            wait(turns.values())  # after Ctrl-C a turn may still be running
            for work in running.values():
                work.close()


class Handover(Generic[Result]):
    """Passes results from one work to another that is done at the same time, in order."""

    def __init__(self) -> None:
        self._results: SimpleQueue[Result] = SimpleQueue()

    def put(self, result: Result) -> None:
        self._results.put(result)

    def take(self) -> Steps[Result]:
        """Wait for the next result and return it. Meanwhile the work can be interrupted."""
        while True:
            try:
                return self._results.get(timeout=TURN)
            except Empty:
                yield


def use_threads(count: int) -> None:
    """Let torch use this many threads for the operations of the calling thread."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _turn(work: Steps[Any], threads: int) -> tuple[bool, Any]:
    """Do steps for the time of a turn. Return whether the work ended, and its result if so."""
    use_threads(threads)
    until = time.monotonic() + TURN
    with torch.inference_mode():
        while True:
            try:
                next(work)
            except StopIteration as end:
                return True, end.value
            if time.monotonic() >= until:
                return False, None


def _one_by_one(works: Sequence[Steps[Any]]) -> Steps[list[Any]]:
    results = []
    for work in works:
        result = yield from work
        results.append(result)
    return results
