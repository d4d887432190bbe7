"""The one inference worker: a bounded queue in front of a thread that owns the engine.

What waits together is computed together, whoever sent it. A full queue refuses at once, and a
caller that goes away takes what it still has waiting out of the queue.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol

from kronos_space.engine.engine import Paths, Prompt
from kronos_space.exceptions import QueueFull, ShuttingDown

# Seconds that a call of the engine may be put off while other requests are being read.
PATIENCE = 0.05
# Bars, contexts and every path's future, in one call of the engine: about a second of work, so that
# a caller that hangs up is noticed soon. The engine bounds its memory itself.
CALL_BUDGET = 16_384
# Seconds of work that may wait. Callers give up after some minutes: what could only be answered
# later than that is refused while they can still go elsewhere, or come back.
MAX_WAIT = 120.0


class Observer(Protocol):
    """Is told of every call of the engine, from the worker's thread."""

    def __call__(self, *, waits: Sequence[float], paths: int, seconds: float) -> None: ...


@dataclass(eq=False)
class _Job:
    """What one caller waits for."""

    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[Paths]]
    results: list[Paths | None]
    missing: int
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, eq=False)
class _Series:
    """One prompt of a job."""

    job: _Job
    position: int
    prompt: Prompt


class InferenceWorker:
    """Runs `generate` in a thread of its own.

    max_waiting: series that may wait, unless they are more than MAX_WAIT of work already; a larger
    request is still taken when nothing else waits.
    """

    def __init__(
        self,
        generate: Callable[[Sequence[Prompt]], list[Paths]],
        *,
        max_waiting: int,
        observe: Observer | None = None,
    ) -> None:
        self._generate = generate
        self._max_waiting = max_waiting
        self._observe = observe
        self.running = 0  # series that are being computed
        self._queue: deque[_Series] = deque()
        self._changed = threading.Condition()
        self._arriving = 0
        self._closed = False
        self._bars_waiting = 0
        self._seconds_per_bar = 1e-4  # measured from the first call on
        self._thread = threading.Thread(target=self._work, name="kronos-engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Series in the queue."""
        return len(self._queue)

    def check_open(self) -> None:
        """Raise ShuttingDown or QueueFull if not even one more series would be taken."""
        with self._changed:
            self._check_room(1)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Around reading a request: the worker waits a moment for it, to compute it with others."""
        with self._changed:
            self._arriving += 1
        try:
            yield
        finally:
            with self._changed:
                self._arriving -= 1
                self._changed.notify()

    def submit(self, prompts: Sequence[Prompt]) -> Coroutine[Any, Any, list[Paths]]:
        """Queue the prompts; what is returned awaits their paths, in order.

        Raises QueueFull or ShuttingDown at once. Cancelling the wait frees the places.
        """
        loop = asyncio.get_running_loop()
        job = _Job(loop, loop.create_future(), [None] * len(prompts), len(prompts))
        with self._changed:
            self._check_room(len(prompts))
            self._queue.extend(_Series(job, at, prompt) for at, prompt in enumerate(prompts))
            self._bars_waiting += sum(map(_bars, prompts))
            self._changed.notify()
        if not prompts:
            job.done.set_result([])
        return self._result(job)

    def drain(self) -> None:
        """Take no new work from now on; what waits is still computed. Safe in a signal handler."""
        self._closed = True

    def close(self) -> None:
        """End the thread: what runs is finished, what still waits is refused."""
        with self._changed:
            self._closed = True
            jobs = {series.job for series in self._queue}
            self._queue.clear()
            self._bars_waiting = 0
            self._changed.notify()
        for job in jobs:
            _settle(job, ShuttingDown("the service is shutting down"))
        self._thread.join()

    def _check_room(self, series: int) -> None:
        if self._closed:
            raise ShuttingDown("the service is shutting down")
        waiting = len(self._queue)
        seconds = self._bars_waiting * self._seconds_per_bar
        if waiting and (waiting + series > self._max_waiting or seconds > MAX_WAIT):
            raise QueueFull(retry_after=min(max(ceil(seconds), 1), 60))

    async def _result(self, job: _Job) -> list[Paths]:
        try:
            return await job.done
        finally:
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        with self._changed:
            if any(series.job is job for series in self._queue):
                self._queue = deque(series for series in self._queue if series.job is not job)
                self._bars_waiting = sum(_bars(series.prompt) for series in self._queue)

    def _work(self) -> None:
        while batch := self._take():
            started, self.running = time.monotonic(), len(batch)
            self._run(batch)
            self.running = 0
            seconds = time.monotonic() - started
            bars = sum(_bars(series.prompt) for series in batch)
            self._seconds_per_bar += 0.3 * (seconds / bars - self._seconds_per_bar)
            if self._observe:
                waits = [started - series.job.since for series in batch]
                paths = sum(series.prompt.sampling.samples for series in batch)
                self._observe(waits=waits, paths=paths, seconds=seconds)

    def _take(self) -> list[_Series]:
        """Wait for work; the oldest series that fit one call. Empty once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return []
            self._changed.wait_for(lambda: not self._arriving or self._closed, timeout=PATIENCE)
            batch: list[_Series] = []
            budget = CALL_BUDGET
            while self._queue and (not batch or _bars(self._queue[0].prompt) <= budget):
                batch.append(self._queue.popleft())
                budget -= _bars(batch[-1].prompt)
            self._bars_waiting -= CALL_BUDGET - budget
            return batch

    def _run(self, batch: list[_Series]) -> None:
        try:
            paths = self._generate([series.prompt for series in batch])
        except Exception as error:  # whatever it is, it is the callers' to report
            jobs = {series.job: None for series in batch}
            if len(jobs) == 1:
                _settle(next(iter(jobs)), error)
                return
            for job in jobs:  # one caller's series must not spoil the others'
                self._run([series for series in batch if series.job is job])
            return
        for series, result in zip(batch, paths, strict=True):
            job = series.job
            job.results[series.position] = result
            job.missing -= 1
            if not job.missing:
                _settle(job, None)


def _bars(prompt: Prompt) -> int:
    return len(prompt.bars) + prompt.sampling.samples * prompt.horizon


def _settle(job: _Job, error: Exception | None) -> None:
    """Wake the caller, from whatever thread; it may have gone away meanwhile."""

    def settle() -> None:
        if job.done.done():
            return
        if error is not None:
            job.done.set_exception(error)
        else:
            job.done.set_result([paths for paths in job.results if paths is not None])

    if not job.loop.is_closed():
        job.loop.call_soon_threadsafe(settle)
