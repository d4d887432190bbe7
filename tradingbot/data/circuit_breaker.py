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

REPEATS = 2  # retries of a request that failed quickly
POLL_INTERVAL = 0.1  # seconds between checks of the gate, which may open early


class RateLimited(DataUnavailable):
    """The source asks its callers to slow down (HTTP 429)."""


class CircuitBreaker:
    """Rate limit and circuit breaker for one source, shared by all threads.

    A refusal makes all threads wait, twice as long each time (`data_backoff` seconds of `timeouts`,
    up to `data_longest_backoff`). Then requests are sent one at a time until one succeeds. A
    request that fails otherwise is retried twice, unless it timed out, that is, took longer than
    `data_fast_failure`. After `data_limit` seconds of waiting, or of failures without any success,
    the source is given up: no request is sent for `data_rest` seconds.
    """

    def __init__(self, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or default_timeouts()
        self._lock = threading.Lock()  # guards everything below; times are of time.monotonic()
        # number of refusals; requests sent before the last one are not counted again
        self._round = 0
        self._open_at = 0.0
        self._trouble_at = 0.0
        self._reset()

    def __getstate__(self) -> dict[str, Timeouts]:
        # the state of the source is not shared between processes
        return {"timeouts": self._timeouts}

    def __setstate__(self, state: dict[str, Timeouts]) -> None:
        CircuitBreaker.__init__(self, **state)

    def _reset(self) -> None:
        self._refused_in_a_row = 0
        self._waited = 0.0
        self._failing_since: float | None = None
        self._given_up: str | None = None  # the reason

    def ask(
        self, symbol: str, request: Callable[[], Answer], stopped: threading.Event | None = None
    ) -> Answer:
        """Call `request()` when it is its turn, and retry it if that may help.

        `request` must do nothing slow besides sending the request, because a long duration counts
        as a time-out. If no attempt succeeds, the last exception is raised. If the source is given
        up or `stopped` is set, DataUnavailable is raised without a request.
        """
        refuse_in_backtest("DataService", HISTORY)
        stopped = stopped or threading.Event()
        spare = REPEATS
        pause: float | None = None  # seconds until the next attempt; None: no retry

        def attempt() -> Answer:
            nonlocal spare, pause
            pause = None
            turn = self._turn(symbol, stopped)
            began = time.monotonic()
            try:
                answer = request()
            except RateLimited as error:
                self._refused(turn, error.reason)
                pause = 0.0  # `_turn` waits, or raises because the source is given up
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
        """Wait until the gate is open. Return the number of the round."""
        while not stopped.is_set():
            now = time.monotonic()
            with self._lock:
                if now - self._trouble_at > self._timeouts.data_rest:
                    self._reset()
                if self._given_up is not None:
                    raise DataUnavailable(self._given_up, symbol=symbol)
                wait = self._open_at - now
                if wait <= 0:
                    # the next request may go when this one could have succeeded
                    if self._refused_in_a_row:
                        self._open_at = now + self._timeouts.data_backoff
                    return self._round
            stopped.wait(min(wait, POLL_INTERVAL))
        raise DataUnavailable("stopped before its candles arrived", symbol=symbol)

    def _refused(self, turn: int, reason: str) -> None:
        with self._lock:
            if turn != self._round:
                return  # another thread's refusal already delays all threads
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
        """Record a failure. Return whether the source is given up."""
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
