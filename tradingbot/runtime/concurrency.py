"""Work that mostly waits for somebody else, several pieces of it at a time."""

import contextvars
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_background(work: Callable[[], Result]) -> Future[Result]:
    """Start `work` in a daemon thread of its own; the future holds what it returns or raises.

    It runs in a copy of the caller's context, which LangChain's tracing reads. Unlike with a
    ThreadPoolExecutor, the process does not wait for the thread at its end.
    """
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()  # from now on it cannot be cancelled
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(work))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """What `work` returns or raises; TimeoutError if it is not done after `seconds`.

    It is then left alone, in its thread: nothing can end a look-up of a host's name, say.
    """
    return in_background(work).result(max(0.0, seconds))


def as_they_end(
    work: Callable[[Item, threading.Event], Result], items: Iterable[Item], *, workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """`work(item, stopped)` for each item in `workers` threads; results in the order of their end.

    What a piece of work raises is raised here. When the caller stops listening (it closes the
    generator, or a signal raises in it), nothing more is begun, and the event `stopped` tells those
    that are at work. The process never waits for them at its end.
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

    # daemons: a request that nobody waits for any more must not hold up the end of the process
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
    """What `work` returned or raised, to be returned or raised again by who asks."""
    try:
        result = work(item, stopped)
    except BaseException as error:
        raised = error  # Python forgets `error` at the end of this block

        def raise_again() -> Result:
            raise raised

        return raise_again
    return lambda: result
