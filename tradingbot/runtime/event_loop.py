"""A shared event loop in a background thread, for synchronous callers of asynchronous code.

All callers share one loop. A resource that stays open between two calls, such as a connection pool,
belongs to the loop in which it was opened, and works only while that loop runs.
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
    """Run the coroutine `work()` in the caller's context, and return or raise its outcome.

    Raises:
        TimeoutError: The coroutine did not finish within `seconds`, and was cancelled.
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
    """Return the shared loop. Start a new loop after a fork, or if the current loop is blocked."""
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
        # A coroutine raised the exception. The caller of the coroutine gets it, and the loop
        # continues for the other callers.
        except (SystemExit, KeyboardInterrupt):
            continue


def _responds(loop: asyncio.AbstractEventLoop) -> bool:
    response: Future[None] = Future()
    loop.call_soon_threadsafe(response.set_result, None)
    try:
        response.result(_RESPONSE)
    except TimeoutError:
        return False
    return True
