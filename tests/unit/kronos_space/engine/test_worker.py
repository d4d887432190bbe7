"""The queue in front of the engine; a `FakeEngine` makes the order of events certain."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence

import numpy as np
import pytest

from kronos_space.engine import worker as module
from kronos_space.engine.engine import Paths, Prompt
from kronos_space.engine.lanes import Steps
from kronos_space.engine.sampling import SamplingParams
from kronos_space.engine.worker import InferenceWorker, Outcome
from kronos_space.exceptions import QueueFull, ShuttingDown, TooMuchWork


class FakeEngine:
    """A fake engine: one step for each bar, no computation, and steps only while open."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []  # the seeds of each call
        self.steps = 0
        self.busy = threading.Event()
        self.open = threading.Event()

    def work(self, prompts: Sequence[Prompt]) -> Steps[list[Paths]]:
        seeds = [prompt.seed for prompt in prompts]
        self.calls.append(seeds)
        for _ in range(max(prompt.horizon for prompt in prompts)):
            self.busy.set()
            assert self.open.wait(10)
            if 666 in seeds:
                raise ValueError("a series that breaks the engine")
            self.steps += 1
            yield
        return [Paths(np.array([[seed]]), EMPTY, EMPTY, EMPTY) for seed in seeds]


EMPTY = np.zeros((1, 1))


def prompt(seed: int, *, context: int = 10, horizon: int = 1) -> Prompt:
    bars = np.zeros((context, 6), np.float32)
    stamps = np.zeros((context + horizon, 5), np.int64)
    return Prompt(bars, stamps, horizon, SamplingParams(samples=1), seed)


def seeds_of(outcomes: Sequence[Outcome]) -> list[int]:
    return [int(outcome.s1[0, 0]) for outcome in outcomes if isinstance(outcome, Paths)]


@pytest.fixture
def gate() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def worker(gate: FakeEngine) -> Iterator[InferenceWorker]:
    worker = InferenceWorker(gate.work, max_waiting=4)
    yield worker
    gate.open.set()
    worker.close()


async def occupied(worker: InferenceWorker, gate: FakeEngine) -> asyncio.Task[list[Outcome]]:
    """Submit a series and wait until the engine computes it."""
    task = asyncio.create_task(worker.submit([prompt(0)]))
    await asyncio.to_thread(gate.busy.wait, 10)
    return task


def test_waiting_requests_are_computed_together_and_answered_separately(
    worker: InferenceWorker, gate: FakeEngine
) -> None:
    async def scenario() -> None:
        first = await occupied(worker, gate)
        second, third = worker.submit([prompt(1), prompt(2)]), worker.submit([prompt(3)])
        gate.open.set()
        answers = await asyncio.gather(first, second, third)
        assert [seeds_of(paths) for paths in answers] == [[0], [1, 2], [3]]

    asyncio.run(scenario())
    assert gate.calls == [[0], [1, 3, 2]]


def test_one_call_of_the_engine_stays_within_its_budget(
    worker: InferenceWorker, gate: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALL_BUDGET", 25)
    gate.open.set()

    async def scenario() -> None:
        prompts = [prompt(1), prompt(2), prompt(3, context=500), prompt(4)]
        assert seeds_of(await worker.submit(prompts)) == [1, 2, 3, 4]

    asyncio.run(scenario())
    assert gate.calls == [[1, 2], [3], [4]]


def test_a_full_queue_refuses_immediately_with_a_retry_time(
    worker: InferenceWorker, gate: FakeEngine
) -> None:
    async def scenario() -> None:
        first = await occupied(worker, gate)
        waiting = asyncio.create_task(worker.submit([prompt(n) for n in range(1, 4)]))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as full:
            worker.submit([prompt(8), prompt(9)])
        assert 1 <= full.value.retry_after <= 60
        worker.check_open()
        last = worker.submit([prompt(4)])
        with pytest.raises(QueueFull):
            worker.check_open()
        gate.open.set()
        await asyncio.gather(first, waiting, last)

    asyncio.run(scenario())
    assert sorted(gate.calls[1]) == [1, 2, 3, 4]


def test_a_queue_of_few_but_long_series_is_full_before_its_callers_give_up(
    worker: InferenceWorker, gate: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAIT", 1e-9)

    async def scenario() -> None:
        first = await occupied(worker, gate)
        waiting = asyncio.create_task(worker.submit([prompt(1)]))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            worker.submit([prompt(2)])
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        third = worker.submit([prompt(3)])  # the waiting series has been removed
        gate.open.set()
        await asyncio.gather(first, third)
        assert seeds_of(await worker.submit([prompt(4)])) == [4]

    asyncio.run(scenario())
    assert gate.calls == [[0], [3], [4]]


def test_a_request_larger_than_the_queue_is_accepted_when_nothing_waits(
    worker: InferenceWorker, gate: FakeEngine
) -> None:
    gate.open.set()

    async def scenario() -> None:
        assert len(await worker.submit([prompt(n) for n in range(9)])) == 9

    asyncio.run(scenario())


def test_a_caller_that_disconnects_frees_its_queue_places(
    worker: InferenceWorker, gate: FakeEngine
) -> None:
    async def scenario() -> None:
        first = await occupied(worker, gate)
        gone = asyncio.create_task(worker.submit([prompt(1), prompt(2), prompt(3)]))
        await asyncio.sleep(0)
        assert worker.waiting == 3
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert worker.waiting == 0
        last = worker.submit([prompt(4)])
        gate.open.set()
        await asyncio.gather(first, last)

    asyncio.run(scenario())
    assert gate.calls == [[0], [4]]


def test_the_engine_waits_a_moment_for_a_request_that_is_being_read(
    worker: InferenceWorker, gate: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 10)
    gate.open.set()

    async def scenario() -> None:
        with worker.arriving():
            first = worker.submit([prompt(1)])
            second = worker.submit([prompt(2)])
        await asyncio.gather(first, second)

    asyncio.run(scenario())
    assert gate.calls == [[1, 2]]


def test_a_series_that_breaks_the_engine_fails_alone(
    worker: InferenceWorker, gate: FakeEngine
) -> None:
    async def scenario() -> None:
        first = await occupied(worker, gate)
        mixed, good = worker.submit([prompt(666), prompt(2)]), worker.submit([prompt(1)])
        gate.open.set()
        _, answer, [broken, *healthy] = await asyncio.gather(first, good, mixed)
        assert seeds_of(answer) == [1]
        assert isinstance(broken, ValueError)
        assert seeds_of(healthy) == [2]
        assert seeds_of(await worker.submit([prompt(5)])) == [5]

    asyncio.run(scenario())


def test_draining_refuses_new_requests_and_computes_waiting_ones(
    worker: InferenceWorker, gate: FakeEngine
) -> None:
    async def scenario() -> None:
        first = await occupied(worker, gate)
        waiting = worker.submit([prompt(1)])
        worker.drain()
        with pytest.raises(ShuttingDown):
            worker.submit([prompt(2)])
        gate.open.set()
        assert seeds_of(await first) == [0]
        assert seeds_of(await waiting) == [1]

    asyncio.run(scenario())


def test_closing_interrupts_running_requests_and_refuses_waiting_ones(
    worker: InferenceWorker, gate: FakeEngine
) -> None:
    async def scenario() -> None:
        first = asyncio.create_task(worker.submit([prompt(0, horizon=10_000)]))
        await asyncio.to_thread(gate.busy.wait, 10)
        waiting = asyncio.create_task(worker.submit([prompt(1)]))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(worker.close))
        with pytest.raises(ShuttingDown):
            await waiting
        gate.open.set()
        with pytest.raises(ShuttingDown):
            await first
        await closing

    asyncio.run(scenario())
    assert gate.calls == [[0]]
    assert gate.steps == 1


def test_abandoned_work_is_interrupted_between_two_steps(
    worker: InferenceWorker, gate: FakeEngine
) -> None:
    async def scenario() -> None:
        gone = asyncio.create_task(worker.submit([prompt(0, horizon=10_000)]))
        await asyncio.to_thread(gate.busy.wait, 10)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        gate.open.set()
        assert seeds_of(await worker.submit([prompt(1)])) == [1]

    asyncio.run(scenario())
    assert gate.calls == [[0], [1]]
    assert gate.steps == 2


def test_a_request_beyond_the_limit_of_work_is_refused_even_when_nothing_waits(
    gate: FakeEngine,
) -> None:
    worker = InferenceWorker(gate.work, max_waiting=4, max_work=100)
    gate.open.set()

    async def scenario() -> None:
        assert len(await worker.submit([prompt(1, context=50), prompt(2, context=48)])) == 2
        with pytest.raises(TooMuchWork, match="101 bars of work: expected at most 100"):
            worker.submit([prompt(1, context=50), prompt(2, context=49)])

    asyncio.run(scenario())
    worker.close()


def test_callers_are_served_in_turn_the_smallest_request_first(
    gate: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALL_BUDGET", 22)  # two series in each call
    worker = InferenceWorker(gate.work, max_waiting=100)

    async def scenario() -> None:
        first = await occupied(worker, gate)
        many = worker.submit([prompt(n) for n in range(10, 16)])
        some = worker.submit([prompt(n) for n in range(20, 23)])
        running = worker.submit([prompt(30)])
        gate.open.set()
        await asyncio.gather(first, many, some, running)

    asyncio.run(scenario())
    worker.close()
    assert gate.calls == [[0], [10, 20], [30, 11], [21, 12], [22, 13], [14, 15]]


def test_a_long_series_is_interrupted_for_a_small_one_and_then_continues(
    worker: InferenceWorker, gate: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TURN", 0.0)
    order: list[int] = []

    async def noted(outcomes: Coroutine[None, None, list[Outcome]]) -> None:
        order.extend(seeds_of(await outcomes))

    async def scenario() -> None:
        long = asyncio.create_task(noted(worker.submit([prompt(0, horizon=200)])))
        await asyncio.to_thread(gate.busy.wait, 10)
        small = asyncio.create_task(noted(worker.submit([prompt(1)])))
        large = asyncio.create_task(noted(worker.submit([prompt(2, context=100)])))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(long, small, large)

    asyncio.run(scenario())
    assert gate.calls == [[0], [1], [2]]
    assert order == [1, 0, 2]


@pytest.mark.parametrize(
    ("contexts", "calls"),
    [
        ([10, 1000], [[1], [2]]),
        ([1000, 10], [[2], [1]]),
        ([10, 12, 1000, 11], [[1, 4, 2], [3]]),
        ([10, 60, 300, 1300], [[1], [2], [3], [4]]),
        ([300, 1000], [[1, 2]]),
    ],
)
def test_a_small_series_does_not_share_a_call_with_another_callers_much_larger_one(
    gate: FakeEngine, contexts: list[int], calls: list[list[int]]
) -> None:
    worker = InferenceWorker(gate.work, max_waiting=100)

    async def scenario() -> None:
        first = await occupied(worker, gate)
        others = [
            worker.submit([prompt(seed, context=context)])
            for seed, context in enumerate(contexts, start=1)
        ]
        gate.open.set()
        await asyncio.gather(first, *others)

    asyncio.run(scenario())
    worker.close()
    assert gate.calls == [[0], *calls]


def test_a_request_takes_at_most_half_of_the_free_queue_places(gate: FakeEngine) -> None:
    worker = InferenceWorker(gate.work, max_waiting=8)

    async def scenario() -> None:
        jobs = [await occupied(worker, gate)]
        jobs.append(asyncio.create_task(worker.submit([prompt(1)] * 4)))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            worker.submit([prompt(2)] * 3)
        for size in (2, 1, 1):
            jobs.append(asyncio.create_task(worker.submit([prompt(3)] * size)))
            await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            worker.submit([prompt(4)])
        gate.open.set()
        await asyncio.gather(*jobs)

    asyncio.run(scenario())
    worker.close()


def test_a_small_request_is_accepted_where_a_large_one_would_wait_too_long(
    worker: InferenceWorker, gate: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAIT", 0.1)  # 1,000 bars at the initial estimate

    async def scenario() -> None:
        first = await occupied(worker, gate)
        large = asyncio.create_task(worker.submit([prompt(1, context=5000)]))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            worker.submit([prompt(2, context=6000)])
        small = asyncio.create_task(worker.submit([prompt(3)]))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, large, small)

    asyncio.run(scenario())
    assert gate.calls == [[0], [3], [1]]
