"""The inference worker: a queue in front of the thread that runs the engine.

Requests are served by weighted fair queueing. A series is due when it would be finished if all
waiting requests shared the engine evenly. So a request of one ticker does not wait for a request of
256, which still gets its share. Addresses do not count: behind a proxy all callers have the same.

Series of similar size that are due next are computed together. A long call of the engine is
interrupted between two steps for smaller requests, and ended when no caller waits for it.
"""

import asyncio
import threading
import time
from bisect import insort
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from operator import attrgetter
from typing import Any, Protocol

from kronos_space.engine.engine import TOKEN_BUDGET, Paths, Prompt
from kronos_space.engine.lanes import Steps
from kronos_space.exceptions import QueueFull, ShuttingDown, TooMuchWork

# Seconds that a call of the engine waits for requests that are being read.
PATIENCE = 0.05
# Bars in one call of the engine, counting contexts and every path's future bars.
CALL_BUDGET = TOKEN_BUDGET
# Seconds that a call of the engine computes before it is interrupted for small requests.
TURN = 0.5
# A call is interrupted for requests of at most this share of its size, to limit calls in progress.
# Small and large requests do not share a call, because a call ends for all its requests at once.
SMALL_SHARE = 1 / 4
# Seconds of work that may wait. Callers give up after some minutes, so requests that would take
# longer are refused while the caller can still try elsewhere or later.
MAX_WAIT = 120.0

Outcome = Paths | Exception  # of one series


class Observer(Protocol):
    """Called after every call of the engine, in the worker's thread."""

    def __call__(self, *, waits: Sequence[float], paths: int, seconds: float) -> None: ...


@dataclass(eq=False)
class _Job:
    """The prompts of one request, for which a caller waits."""

    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[Outcome]]
    outcomes: list[Outcome | None]
    missing: int
    gone: bool = False
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, eq=False)
class _Series:
    """One prompt of a job. `due` is a time of the worker's clock, in bars of work."""

    job: _Job
    position: int
    prompt: Prompt
    bars: int
    due: float


class InferenceWorker:
    """Runs the engine's work in a separate thread.

    Args:
        work: `Engine.work`. The thread advances the steps of several calls in turn.
        max_waiting: Limit of waiting series. A larger request is accepted if nothing waits.
        max_work: Limit of a request in bars of work, see `work_of`. None: no limit.
        observe: Called after every call of the engine.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Prompt]], Steps[list[Paths]]],
        *,
        max_waiting: int,
        max_work: int | None = None,
        observe: Observer | None = None,
    ) -> None:
        self._steps_of = work
        self._max_waiting = max_waiting
        self._max_work = max_work
        self._observe = observe
        self.running = 0  # number of series in progress
        self._queue: list[_Series] = []  # sorted by `due`
        self._changed = threading.Condition()
        self._arriving = 0
        self._clock = 0.0  # bars of work per request since the start, shared evenly
        self._closed = self._broken_off = False
        self._seconds_per_bar = 1e-4  # measured from the first call on
        self._thread = threading.Thread(target=self._work, name="kronos-engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Return the number of series in the queue."""
        return len(self._queue)

    def check_open(self) -> None:
        """Raise ShuttingDown or QueueFull if no further series would be accepted."""
        with self._changed:
            self._check_room(1, 0)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Mark that a request is being read. The worker waits briefly for it before a call."""
        with self._changed:
            self._arriving += 1
        try:
            yield
        finally:
            with self._changed:
                self._arriving -= 1
                self._changed.notify()

    def submit(self, prompts: Sequence[Prompt]) -> Coroutine[Any, Any, list[Outcome]]:
        """Queue the prompts. Return a coroutine that awaits their outcomes, in order.

        The outcome of a failed series is its exception. Cancelling the coroutine removes the
        prompts from the queue and ends their work.

        Raises:
            TooMuchWork, QueueFull, ShuttingDown: Immediately, not in the coroutine.
        """
        loop = asyncio.get_running_loop()
        job = _Job(loop, loop.create_future(), [None] * len(prompts), len(prompts))
        sizes = [work_of(prompt) for prompt in prompts]
        if self._max_work is not None and sum(sizes) > self._max_work:
            raise TooMuchWork(sum(sizes), self._max_work)
        with self._changed:
            self._check_room(len(prompts), sum(sizes))
            due = self._clock
            for position, (prompt, bars) in enumerate(zip(prompts, sizes, strict=True)):
                due += bars
                series = _Series(job, position, prompt, bars, due)
                insort(self._queue, series, key=attrgetter("due"))
            self._changed.notify()
        if not prompts:
            job.done.set_result([])
        return self._result(job)

    def drain(self) -> None:
        """Accept no more work, and finish what is queued. Safe in a signal handler."""
        self._closed = True

    def close(self) -> None:
        """End the thread. Waiting and running series fail with ShuttingDown."""
        with self._changed:
            self._closed = self._broken_off = True
            waiting, self._queue = self._queue, []
            self._changed.notify()
        for series in waiting:
            _settle(series, ShuttingDown("the service is shutting down"))
        self._thread.join()

    def _check_room(self, series: int, bars: int) -> None:
        if self._closed:
            raise ShuttingDown("the service is shutting down")
        if not self._queue:
            return
        free = self._max_waiting - len(self._queue)
        # half of the free places stay free, so that one caller cannot occupy all of them
        full = series > max(free // 2, min(free, 1))
        before = sum(s.bars for s in self._queue if s.due <= self._clock + bars)
        if full or before * self._seconds_per_bar > MAX_WAIT:
            seconds = sum(s.bars for s in self._queue) * self._seconds_per_bar
            raise QueueFull(retry_after=min(max(ceil(seconds), 1), 60))

    async def _result(self, job: _Job) -> list[Outcome]:
        try:
            return await job.done
        finally:
            with self._changed:
                job.gone = True
                self._queue = [series for series in self._queue if series.job is not job]

    def _work(self) -> None:
        while batch := self._wait():
            self._run(batch)

    def _wait(self) -> list[_Series]:
        """Wait for work. Return the first due series that fit one call, or [] once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            self._changed.wait_for(self._nothing_to_wait_for, timeout=PATIENCE)
            return self._take(CALL_BUDGET)

    def _nothing_to_wait_for(self) -> bool:
        enough = sum(series.bars for series in self._queue) >= CALL_BUDGET
        return not self._arriving or enough or self._closed

    def _take(self, budget: float) -> list[_Series]:
        """Return the first due series of similar size, up to `budget` bars or at least one."""
        batch: list[_Series] = []
        while self._queue and (not batch or _joins(self._queue[0], batch, budget)):
            batch.append(self._queue.pop(0))
            budget -= batch[-1].bars
        return batch

    def _take_small(self, running: Sequence[_Series]) -> list[_Series]:
        """Return small series of other callers, for which the call of `running` pauses."""
        of_jobs: dict[_Job, int] = {}
        for series in running:
            of_jobs[series.job] = of_jobs.get(series.job, 0) + series.bars
        budget = max(of_jobs.values()) * SMALL_SHARE
        batch: list[_Series] = []
        with self._changed:
            for series in self._queue:
                if series.job not in of_jobs and series.bars <= budget:
                    batch.append(series)
                    budget -= series.bars
            self._queue = [series for series in self._queue if series not in batch]
        return batch

    def _run(self, batch: list[_Series]) -> None:
        """Compute and settle the series of one call. If it fails, compute each one separately."""
        waits = [time.monotonic() - series.job.since for series in batch]
        self.running += len(batch)
        try:
            outcomes, seconds = self._computed(batch)
        except Exception as error:  # one of the series causes it
            outcomes, seconds = [error], 0.0
        finally:
            self.running -= len(batch)
        if len(outcomes) < len(batch):
            for series in batch:
                self._run([series])
            return
        bars = sum(series.bars for series in batch)
        with self._changed:
            jobs = {series.job for series in (*batch, *self._queue)}
            self._clock += bars / len(jobs)
        if seconds:
            self._seconds_per_bar += 0.3 * (seconds / bars - self._seconds_per_bar)
            if self._observe:
                paths = sum(series.prompt.sampling.samples for series in batch)
                self._observe(waits=waits, paths=paths, seconds=seconds)
        for series, outcome in zip(batch, outcomes, strict=True):
            _settle(series, outcome)

    def _computed(self, batch: list[_Series]) -> tuple[Sequence[Outcome], float]:
        """Return the series' paths, and the seconds that they took, 0 if the work was stopped."""
        steps = self._steps_of([series.prompt for series in batch])
        seconds = turn = 0.0
        while True:
            if self._broken_off or all(series.job.gone for series in batch):
                steps.close()
                return [ShuttingDown("the service was stopped")] * len(batch), 0.0
            if turn > TURN:
                turn = 0.0
                if self._queue and (small := self._take_small(batch)):
                    self._run(small)
            began = time.monotonic()
            try:
                next(steps)
            except StopIteration as end:
                return end.value, seconds + time.monotonic() - began
            turn += (took := time.monotonic() - began)
            seconds += took


def work_of(prompt: Prompt) -> int:
    """Return the bars of work: those of the context, and the future ones of every path."""
    return len(prompt.bars) + prompt.sampling.samples * prompt.horizon


def _joins(series: _Series, batch: Sequence[_Series], budget: float) -> bool:
    """Return whether a series can be computed together with these."""
    sizes = [series.bars, *(other.bars for other in batch if other.job is not series.job)]
    return series.bars <= budget and min(sizes) >= max(sizes) * SMALL_SHARE


def _settle(series: _Series, outcome: Outcome) -> None:
    """Store a series' outcome. The last outcome of a job wakes the caller if it still waits."""
    job = series.job
    job.outcomes[series.position] = outcome
    job.missing -= 1
    if job.missing or job.loop.is_closed():
        return

    def settle() -> None:
        if job.done.done():
            return
        outcomes = [each for each in job.outcomes if each is not None]
        stopped = [each for each in outcomes if isinstance(each, ShuttingDown)]
        if stopped:
            job.done.set_exception(stopped[0])
        else:
            job.done.set_result(outcomes)

    job.loop.call_soon_threadsafe(settle)
