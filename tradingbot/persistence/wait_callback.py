"""Waiting for Postgres in a way that signals get through, and not for ever.

psycopg2 waits inside of libpq, where Python hears of no signal: a server that answers nothing, with
its connections standing, would hold the process until it is killed, and the Space would be left
running.
"""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tradingbot.runtime.signals import asked_to_stop

PATIENCE = 90.0  # seconds for an answer: no statement takes that long, nor waits so for a lock
PATIENCE_CONNECTING = 10.0
PATIENCE_STOPPED = 3.0  # once a signal asks the process to stop
TICK = 0.5  # seconds until it is noticed that one does


@contextmanager
def bounded_waits() -> Iterator[None]:
    """In this block every psycopg2 connection of the process waits like this.

    A server that does not answer in time is a lost connection: psycopg2's OperationalError.
    """
    from psycopg2 import extensions  # type: ignore[import-untyped]

    before = extensions.get_wait_callback()
    extensions.set_wait_callback(_wait)
    try:
        yield
    finally:
        extensions.set_wait_callback(before)


def _wait(connection: Any) -> None:
    """Until what `connection` was asked for is there. Raises what a signal's handler raises."""
    from psycopg2 import OperationalError, extensions

    connecting = connection.status == extensions.STATUS_SETUP
    began = time.monotonic()
    while (state := connection.poll()) != extensions.POLL_OK:
        events = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
        poller = select.poll()
        poller.register(connection.fileno(), events)
        while not poller.poll(TICK * 1000):
            patience = PATIENCE_CONNECTING if connecting else PATIENCE
            if asked_to_stop():
                patience = min(patience, PATIENCE_STOPPED)
            if time.monotonic() - began > patience:
                raise OperationalError(f"the server has not answered for {patience:g} s")
