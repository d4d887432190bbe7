"""Turn Ctrl-C, SIGTERM and SIGHUP into one exception, and protect blocks from interruption."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_STOPPING = tuple(  # SIGHUP (the terminal was closed) does not exist on every platform
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(BaseException):
    """A signal to stop. Like KeyboardInterrupt, it is not caught by `except Exception`."""

    def __init__(self, signum: int) -> None:
        super().__init__("Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name)
        self.exit_code = 128 + signum  # 130, 143, 129


def exit_on_signals(line: Callable[[str], str] = str) -> None:
    """Make a signal to stop end the process at once, and print one line on stderr.

    `line` converts the message to that line. Use this while there is nothing to clean up, as during
    imports. An exception that a signal handler raises during an import can get lost.
    """

    def leave(signum: int, _frame: FrameType | None) -> None:
        stopped = Stopped(signum)
        with suppress(OSError):
            os.write(2, f"{line(f'Stopped by {stopped}')}\n".encode())
        os._exit(stopped.exit_code)

    _handle(leave)


def ignore_signals() -> None:
    """Ignore signals to stop, because the process is about to end.

    Python restores the default handlers before it exits, and a second signal would then change the
    exit code.
    """
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise Stopped in this block at the first signal to stop.

    Later signals are ignored, so that they do not interrupt the clean-up. SIGINT is handled even if
    the process was started with SIGINT ignored, as in the background of a script. An ignored SIGHUP
    stays ignored, so that nohup works.
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
    """Delay signals to stop that arrive in this block until its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals interrupt only the main thread
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
    """Return whether a signal to stop has arrived, even if `signals_held` still delays it.

    Callers use short time-outs after a signal.
    """
    return _asked[0] < math.inf


def asked_to_stop_at() -> float:
    """Return the time.monotonic() of the first signal to stop, or infinity if none has arrived."""
    return _asked[0]


# Time of the first signal. A threading.Event would need a lock, which the thread that the handler
# interrupts could already hold.
_asked = [math.inf]


def _note_asked() -> None:
    _asked[0] = min(_asked[0], time.monotonic())


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install the handler for all signals to stop, except for an ignored SIGHUP.

    Return the previous handlers.
    """
    return {
        number: signal.signal(number, handler)
        for number in _STOPPING
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN
    }
