"""Wait for Postgres with a time limit, and without blocking signals.

psycopg2 waits inside libpq, where Python cannot handle signals. A server that keeps connections
open but does not respond would block the process until it is killed. The Space would then be left
running.
"""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tradingbot.runtime.signals import asked_to_stop
from tradingbot.settings import Timeouts, default_timeouts


@contextmanager
def bounded_waits(timeouts: Timeouts | None = None) -> Iterator[None]:
    """In this block, limit the waits of all psycopg2 connections of the process.

    The limits are `database_greeting`, `database_answer` and `database_answer_after_signal` of
    `timeouts`. A server that does not respond in time counts as a lost connection: psycopg2's
    OperationalError.
    """
    from psycopg2 import extensions  # type: ignore[import-untyped]

    before = extensions.get_wait_callback()
    extensions.set_wait_callback(partial(_wait, timeouts or default_timeouts()))
    try:
        yield
    finally:
        extensions.set_wait_callback(before)


def _wait(timeouts: Timeouts, connection: Any) -> None:
    """Wait until `connection` has its result. Exceptions of signal handlers propagate."""
    from psycopg2 import OperationalError, extensions

    connecting = connection.status == extensions.STATUS_SETUP
    began = time.monotonic()
    while (state := connection.poll()) != extensions.POLL_OK:
        events = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
        poller = select.poll()
        poller.register(connection.fileno(), events)
        while not poller.poll(timeouts.signal_noticed * 1000):
            patience = timeouts.database_greeting if connecting else timeouts.database_answer
            if asked_to_stop():
                patience = min(patience, timeouts.database_answer_after_signal)
            if time.monotonic() - began > patience:
                raise OperationalError(f"the server has not answered for {patience:g} s")
