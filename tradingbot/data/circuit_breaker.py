"""How long, and how, all threads together bear with a source that refuses or fails."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tradingbot.errors import DataUnavailable

Answer = TypeVar("Answer")


class RateLimited(DataUnavailable):
    """The source asks its callers to slow down (HTTP 429)."""


class CircuitBreaker:
    """The one way to a source, for all threads.

    A refusal makes everybody wait, twice as long each time (`first` seconds, up to `longest`), and
    then go on one by one until an answer comes. A request that fails otherwise is sent again twice,
    unless it timed out: that was waiting enough. After `limit` seconds of waiting, or of failures
    without any answer, the source is given up: for five minutes nobody asks it.
    """

    def __init__(self, *, first: float = 1.0, longest: float = 30.0, limit: float = 90.0) -> None:
        self._first, self._longest, self._limit = first, longest, limit
        self._lock = threading.Lock()  # for all below; times are of time.monotonic()
        self._round = 0  # grows with each refusal, for what was asked before it tells nothing new
        self._open_at = 0.0
        self._trouble_at = 0.0
        self._forget()

    def _forget(self) -> None:
        self._refused_in_a_row = 0
        self._waited = 0.0
        self._failing_since: float | None = None
        self._given_up: str | None = None  # why

    def ask(
        self, symbol: str, request: Callable[[], Answer], stopped: threading.Event | None = None
    ) -> Answer:
        """`request()` when it is its turn, and again where that may help.

        Raises what it raised last; DataUnavailable, unasked, when the source is given up or
        `stopped` is set.
        """
        stopped = stopped or threading.Event()
        retries = 2
        while True:
            turn = self._turn(symbol, stopped)
            began = time.monotonic()
            try:
                answer = request()
            except RateLimited as error:
                self._refused(turn, _without(symbol, error))
            except DataUnavailable as error:
                took = time.monotonic() - began
                if self._failed(began, _without(symbol, error)) or not retries or took > _FAST:
                    raise
                retries -= 1
                stopped.wait(self._first)
            else:
                self._answered(turn)
                return answer

    def _turn(self, symbol: str, stopped: threading.Event) -> int:
        """Wait until the gate is open; the number of the round."""
        while not stopped.is_set():
            now = time.monotonic()
            with self._lock:
                if now - self._trouble_at > _PEACE:
                    self._forget()
                if self._given_up is not None:
                    raise DataUnavailable(f"{symbol}: {self._given_up}")
                wait = self._open_at - now
                if wait <= 0:
                    if self._refused_in_a_row:  # the next goes when this one may have its answer
                        self._open_at = now + self._first
                    return self._round
            stopped.wait(min(wait, _GLANCE))
        raise DataUnavailable(f"{symbol}: stopped before its candles had come")

    def _refused(self, turn: int, reason: str) -> None:
        with self._lock:
            if turn != self._round:
                return  # another thread's refusal already holds up all
            pause = min(self._first * 2**self._refused_in_a_row, self._longest)
            self._trouble_at = time.monotonic()
            self._open_at = self._trouble_at + pause
            self._round += 1
            self._refused_in_a_row += 1
            self._waited += pause
            if self._waited > self._limit:
                self._given_up = reason

    def _failed(self, began: float, reason: str) -> bool:
        """Note a failure; whether the source is given up."""
        with self._lock:
            self._trouble_at = time.monotonic()
            if self._failing_since is None:
                self._failing_since = began
            if self._trouble_at - self._failing_since > self._limit:
                self._given_up = reason
            return self._given_up is not None

    def _answered(self, turn: int) -> None:
        with self._lock:
            self._failing_since = None
            if turn == self._round:
                self._refused_in_a_row, self._open_at = 0, 0.0


_FAST = 5.0  # seconds within which a failure is no time-out
_PEACE = 300.0  # seconds that a source is left alone; and after which trouble is forgotten
_GLANCE = 0.1  # seconds between two looks at the gate, which may open earlier


def _without(symbol: str, error: DataUnavailable) -> str:
    """The reason alone, for it will be told of other tickers."""
    return str(error).removeprefix(f"{symbol}: ")
