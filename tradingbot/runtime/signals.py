"""Ctrl-C, SIGTERM and SIGHUP as one exception, and blocks that they must not cut short."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_STOPPING = tuple(  # SIGHUP, which tells that the terminal was closed, is not known everywhere
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(BaseException):
    """A signal asks the process to end. Like KeyboardInterrupt, no `except Exception` holds it."""

    def __init__(self, signum: int) -> None:
        super().__init__("Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name)
        self.exit_code = 128 + signum  # 130, 143, 129


def exit_on_signals(line: Callable[[str], str] = str) -> None:
    """From now on a signal to stop ends the process at once, with one line, made by `line`.

    For as long as there is nothing to clean up, as while modules are imported: an exception that
    a signal raises in there can get lost.
    """

    def leave(signum: int, _frame: FrameType | None) -> None:
        stopped = Stopped(signum)
        with suppress(OSError):
            os.write(2, f"{line(f'Stopped by {stopped}')}\n".encode())
        os._exit(stopped.exit_code)

    _handle(leave)


def ignore_signals() -> None:
    """From now on nothing stops the process: it is about to end, and its exit code stands.

    Python gives signals back their deadly meaning before it is gone, and a second one would then
    replace the code.
    """
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """The first signal to stop raises Stopped here; later ones wait for the cleaning up.

    SIGINT gets a handler even where it is ignored, as in a process that a script starts in the
    background. SIGHUP does not: who says nohup means it.
    """
    stopping = False
    _asked[0] = math.inf

    def stop(signum: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        _note_asked()
        if not stopping:
            stopping = True
            raise Stopped(signum)

    previous = _handle(stop)
    try:
        yield
    finally:
        _asked[0] = math.inf
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals to stop that arrive in this block take effect at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only ever interrupt the main thread
        return
    held: list[int] = []

    def hold(signum: int, _frame: FrameType | None) -> None:
        _note_asked()
        held.append(signum)

    previous = _handle(hold)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def asked_to_stop() -> bool:
    """Whether a signal to stop has come, held or not: a waiting caller should not wait for long."""
    return _asked[0] < math.inf


def asked_to_stop_at() -> float:
    """When the first one came, on time.monotonic(); infinity if none has."""
    return _asked[0]


# not an Event: its lock could be held by the very thread that a handler interrupts
_asked = [math.inf]


def _note_asked() -> None:
    _asked[0] = min(_asked[0], time.monotonic())


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install the handler for every signal to stop; what was there before."""
    return {
        number: signal.signal(number, handler)
        for number in _STOPPING
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN
    }
