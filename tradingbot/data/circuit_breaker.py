"""Rate limiting and circuit breaking for a source of candles, shared by all threads."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import retry_if_exception

from tradingbot.errors import DataUnavailable
from tradingbot.runtime.lookahead import HISTORY, refuse_in_backtest
from tradingbot.runtime.retry import retry
from tradingbot.settings import Timeouts, default_timeouts

Answer = TypeVar("Answer")

REPEATS = 2  # of a request that failed at once
POLL_INTERVAL = 0.1  # seconds between two looks at the gate, which may open earlier


class RateLimited(DataUnavailable):
    """The source asks its callers to slow down (HTTP 429)."""


class CircuitBreaker:
    """The one way to a source, for all threads.

    A refusal makes everybody wait, twice as long each time (`data_backoff` seconds of `timeouts`,
    up to `data_longest_backoff`), and then go on one by one until an answer comes. A request that
    fails otherwise is sent again twice, unless it timed out, which is to take longer than
    `data_fast_failure`: that was waiting enough. After `data_limit` seconds of waiting, or of
    failures without any answer, the source is given up: for `data_rest` seconds nobody asks it.
    """

    def __init__(self, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or default_timeouts()
        self._lock = threading.Lock()  # for all below; times are of time.monotonic()
        self._round = 0  # grows with each refusal, for what was asked before it tells nothing new
        self._open_at = 0.0
        self._trouble_at = 0.0
        self._forget()

    def __getstate__(self) -> dict[str, Timeouts]:
        return {"timeouts": self._timeouts}  # what the source did concerns this process

    def __setstate__(self, state: dict[str, Timeouts]) -> None:
        CircuitBreaker.__init__(self, **state)

    def _forget(self) -> None:
        self._refused_in_a_row = 0
        self._waited = 0.0
        self._failing_since: float | None = None
        self._given_up: str | None = None  # why

    def ask(
        self, symbol: str, request: Callable[[], Answer], stopped: threading.Event | None = None
    ) -> Answer:
        """`request()` when it is its turn, and again where that may help.

        The time that `request` takes tells whether it timed out, so nothing slow besides the
        source belongs into it. Raises what it raised last; DataUnavailable, unasked, when the
        source is given up or `stopped` is set.
        """
        refuse_in_backtest("DataService", HISTORY)
        stopped = stopped or threading.Event()
        spare = REPEATS
        pause: float | None = None  # seconds until another attempt; None: there is none

        def attempt() -> Answer:
            nonlocal spare, pause
            pause = None
            turn = self._turn(symbol, stopped)
            began = time.monotonic()
            try:
                answer = request()
            except RateLimited as error:
                self._refused(turn, error.reason)
                pause = 0.0  # `_turn` waits, or says that the source is given up
                raise
            except DataUnavailable as error:
                timed_out = time.monotonic() - began > self._timeouts.data_fast_failure
                given_up = self._failed(began, error.reason)
                if spare and not timed_out and not given_up:
                    spare, pause = spare - 1, self._timeouts.data_backoff
                raise
            self._answered(turn)
            return answer

        return retry(
            attempt,
            again=retry_if_exception(lambda _: pause is not None),
            wait=lambda _: pause or 0.0,
            sleep=stopped.wait,  # once it is set, the next attempt's `_turn` raises
        )

    def _turn(self, symbol: str, stopped: threading.Event) -> int:
        """Wait until the gate is open; the number of the round."""
        while not stopped.is_set():
            now = time.monotonic()
            with self._lock:
                if now - self._trouble_at > self._timeouts.data_rest:
                    self._forget()
                if self._given_up is not None:
                    raise DataUnavailable(self._given_up, symbol=symbol)
                wait = self._open_at - now
                if wait <= 0:
                    if self._refused_in_a_row:  # the next goes when this one may have its answer
                        self._open_at = now + self._timeouts.data_backoff
                    return self._round
            stopped.wait(min(wait, POLL_INTERVAL))
        raise DataUnavailable("stopped before its candles had come", symbol=symbol)

    def _refused(self, turn: int, reason: str) -> None:
        with self._lock:
            if turn != self._round:
                return  # another thread's refusal already holds up all
            doubled = self._timeouts.data_backoff * 2**self._refused_in_a_row
            pause = min(doubled, self._timeouts.data_longest_backoff)
            self._trouble_at = time.monotonic()
            self._open_at = self._trouble_at + pause
            self._round += 1
            self._refused_in_a_row += 1
            self._waited += pause
            if self._waited > self._timeouts.data_limit:
                self._given_up = reason

    def _failed(self, began: float, reason: str) -> bool:
        """Note a failure; whether the source is given up."""
        with self._lock:
            self._trouble_at = time.monotonic()
            if self._failing_since is None:
                self._failing_since = began
            if self._trouble_at - self._failing_since > self._timeouts.data_limit:
                self._given_up = reason
            return self._given_up is not None

    def _answered(self, turn: int) -> None:
        with self._lock:
            self._failing_since = None
            if turn == self._round:
                self._refused_in_a_row, self._open_at = 0, 0.0
