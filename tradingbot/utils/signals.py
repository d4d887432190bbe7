"""SIGTERM and Ctrl-C as one exception, and blocks that they must not cut short."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asks the process to end. Like KeyboardInterrupt, no `except Exception` holds it."""

    def __init__(self, signum: int) -> None:
        super().__init__("Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name)
        self.exit_code = 128 + signum  # 130, 143


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """The first SIGINT or SIGTERM raises Stopped here; later ones wait for the cleaning up.

    SIGINT gets a handler too: a process that a script starts in the background ignores it.
    """
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise Stopped(signum)

    previous = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """SIGINT and SIGTERM that arrive in this block take effect at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only ever interrupt the main thread
        return
    held: list[int] = []
    previous = {
        number: signal.signal(number, lambda signum, frame: held.append(signum))
        for number in _STOPPING
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])
