"""Run blocking work in background threads."""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_background(work: Callable[[], Result]) -> Future[Result]:
    """Start `work` in a new daemon thread. Return a future of the result or exception of `work`.

    The work runs in a copy of the caller's context variables, because LangChain's tracing reads
    context variables. At exit the process does not wait for the thread, as it would for a thread
    of a ThreadPoolExecutor.
    """
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()  # the future can no longer be cancelled
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(work))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Call `work` and return its result or raise its exception.

    After a time-out the work continues in its thread, because Python cannot interrupt a blocking
    call such as the look-up of a host name.

    Raises:
        TimeoutError: `work` took longer than `seconds`.
    """
    return in_background(work).result(max(0.0, seconds))


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item]
) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item with `read(item)`, while a background thread reads the next item."""
    reading: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        reading.append((item, in_background(partial(read, item))))
        if len(reading) > 1:
            earlier, found = reading.popleft()
            yield earlier, found.result()
    for last, found in reading:
        yield last, found.result()


def as_they_end(
    work: Callable[[Item, threading.Event], Result], items: Iterable[Item], *, workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """Call `work(item, stopped)` in `workers` threads. Yield items and results as calls complete.

    If a call of `work` raises an exception, the generator raises the same exception. The caller
    stops iterating when it closes the generator, or when a signal handler raises an exception.
    Then no further call starts, and the event `stopped` is set for the calls in progress. At exit
    the process does not wait for the calls in progress.
    """
    todo: SimpleQueue[Item] = SimpleQueue()
    ended: SimpleQueue[tuple[Item, Callable[[], Result]]] = SimpleQueue()
    stopped = threading.Event()
    for item in items:
        todo.put(item)
    count = todo.qsize()

    def run() -> None:
        while not stopped.is_set():
            try:
                item = todo.get_nowait()
            except Empty:
                return
            ended.put((item, _outcome(work, item, stopped)))

    # daemon threads: an abandoned request must not delay the exit of the process
    for _ in range(min(workers, count)):
        threading.Thread(target=run, daemon=True).start()
    try:
        for _ in range(count):
            item, outcome = ended.get()
            yield item, outcome()
    finally:
        stopped.set()


def _outcome(
    work: Callable[[Item, threading.Event], Result], item: Item, stopped: threading.Event
) -> Callable[[], Result]:
    """Call `work` and return a function that returns its result or raises its exception."""
    try:
        result = work(item, stopped)
    except BaseException as error:
        raised = error  # Python deletes `error` at the end of this block

        def raise_again() -> Result:
            raise raised

        return raise_again
    return lambda: result
