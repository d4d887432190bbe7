"""An event loop in a thread, for asynchronous work that a synchronous caller waits for.

All callers share one, so that what a coroutine keeps open between two calls, such as a pool of
connections, still belongs to a running loop.
"""

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

_RESPONSE = 2.0  # seconds: a loop that takes longer to respond is blocked

_lock = threading.Lock()
_shared: tuple[int, asyncio.AbstractEventLoop] | None = None  # process, loop


def wait_for(work: Callable[[], Coroutine[Any, Any, Result]], seconds: float) -> Result:
    """Return what the coroutine `work()` returns or raises, in the caller's context.

    TimeoutError if it is not done after `seconds`; it is then cancelled.
    """
    context = contextvars.copy_context()
    loop = _loop()

    async def in_context() -> Result:
        return await loop.create_task(work(), context=context)

    running = asyncio.run_coroutine_threadsafe(in_context(), loop)
    try:
        return running.result(seconds)
    finally:
        running.cancel()


def _loop() -> asyncio.AbstractEventLoop:
    """The shared loop. Another one takes its place after a fork, or when something blocks it."""
    global _shared
    with _lock:
        if _shared is None or _shared[0] != os.getpid() or not _responds(_shared[1]):
            loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(loop,), name="event-loop", daemon=True).start()
            _shared = os.getpid(), loop
        return _shared[1]


def _run(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
            return
        except (SystemExit, KeyboardInterrupt):  # of one piece of work, whose caller is told
            continue


def _responds(loop: asyncio.AbstractEventLoop) -> bool:
    response: Future[None] = Future()
    loop.call_soon_threadsafe(response.set_result, None)
    try:
        response.result(_RESPONSE)
    except TimeoutError:
        return False
    return True
