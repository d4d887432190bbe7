"""A refusing source gets requests at growing intervals, then none, then again."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tradingbot.data import circuit_breaker
from tradingbot.data.circuit_breaker import CircuitBreaker, RateLimited
from tradingbot.errors import DataError, DataUnavailable, UnknownSymbol
from tradingbot.settings import Timeouts


class Source:
    """A source that answers or raises as configured and records the times of requests."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[float] = []

    def __call__(self) -> object:
        self.asked.append(time.monotonic())
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @property
    def pauses(self) -> list[float]:
        return [later - now for now, later in zip(self.asked, self.asked[1:], strict=False)]


REFUSED = RateLimited("refuses (429)", symbol="SPY")
DOWN = DataUnavailable("no connection", symbol="SPY")


def test_a_refused_request_is_sent_again_after_pauses_that_double() -> None:
    source = Source(REFUSED, REFUSED, REFUSED, "bars")
    assert CircuitBreaker(Timeouts(data_backoff=0.05)).ask("SPY", source) == "bars"
    assert len(source.asked) == 4
    for pause, least in zip(source.pauses, (0.05, 0.1, 0.2), strict=True):
        assert least <= pause


def test_the_pauses_grow_no_longer_than_the_longest() -> None:
    source = Source(*[REFUSED] * 6, "bars")
    CircuitBreaker(Timeouts(data_backoff=0.01, data_longest_backoff=0.02)).ask("SPY", source)
    # doubled pauses would add up to at least 0.63 s; a busy machine can exceed any upper bound
    assert sum(source.pauses) < 5


def test_after_the_limit_the_source_gets_no_more_requests() -> None:
    breaker, source = CircuitBreaker(Timeouts(data_backoff=0.02, data_limit=0.1)), Source(REFUSED)
    with pytest.raises(DataUnavailable, match=r"SPY: refuses \(429\)"):
        breaker.ask("SPY", source)
    # after pauses of 0.02 and 0.04 s, another 0.08 s would exceed the limit
    assert len(source.asked) == 3
    with pytest.raises(DataUnavailable, match=r"QQQ: refuses \(429\)"):
        breaker.ask("QQQ", source)
    assert len(source.asked) == 3


def test_after_some_minutes_the_source_is_tried_again() -> None:
    breaker = CircuitBreaker(Timeouts(data_backoff=0.01, data_limit=0.015, data_rest=0.2))
    with pytest.raises(DataUnavailable):
        breaker.ask("SPY", Source(REFUSED))
    time.sleep(0.25)
    assert breaker.ask("SPY", Source("bars")) == "bars"


def test_one_refusal_delays_all_tickers_and_counts_once() -> None:
    breaker = CircuitBreaker(Timeouts(data_backoff=0.3))
    together = threading.Barrier(4, timeout=30)
    first_round, later = [REFUSED] * 4, []
    lock = threading.Lock()

    def request() -> str:
        with lock:
            error = first_round.pop() if first_round else None
            if error is None:
                later.append(time.monotonic())
        if error is not None:
            together.wait()  # all four requests are in flight when they are refused
            raise error
        return "bars"

    began = time.monotonic()
    threads = [
        threading.Thread(target=breaker.ask, args=(name, request))
        for name in ("SPY", "QQQ", "GLD", "IBM")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(later) == 4
    assert min(later) - began >= 0.3
    # four separate pauses would be 0.3 + 0.6 + 1.2 + 2.4 s
    assert max(later) - began < 2.4


def test_other_failures_are_retried_twice() -> None:
    source = Source(DOWN, DOWN, "bars")
    assert CircuitBreaker(Timeouts(data_backoff=0.01)).ask("SPY", source) == "bars"
    source = Source(DOWN)
    with pytest.raises(DataUnavailable, match="SPY: no connection"):
        CircuitBreaker(Timeouts(data_backoff=0.01)).ask("SPY", source)
    assert len(source.asked) == 3


def test_a_time_out_is_not_retried() -> None:
    source = Source(DOWN)
    with pytest.raises(DataUnavailable):
        CircuitBreaker(Timeouts(data_backoff=0.01, data_fast_failure=0.0)).ask("SPY", source)
    assert len(source.asked) == 1


@pytest.mark.parametrize("error", [UnknownSymbol("SPY: not known"), DataError("SPY: no prices")])
def test_a_permanent_error_is_not_retried(error: DataError) -> None:
    source = Source(error)
    with pytest.raises(type(error)):
        CircuitBreaker(Timeouts(data_backoff=0.01)).ask("SPY", source)
    assert len(source.asked) == 1


def test_a_source_that_fails_for_all_tickers_is_given_up() -> None:
    breaker, source = CircuitBreaker(Timeouts(data_backoff=0.05, data_limit=0.08)), Source(DOWN)
    for name in ("SPY", "QQQ", "GLD", "IBM"):
        with pytest.raises(DataUnavailable, match=f"{name}: no connection|SPY: no connection"):
            breaker.ask(name, source)
    assert len(source.asked) <= 3


def test_a_success_in_between_limits_the_failure_to_one_ticker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = [0.0]  # the clock advances half a second between two readings
    clock = SimpleNamespace(monotonic=lambda: seconds.append(seconds[-1] + 0.5) or seconds[-1])
    monkeypatch.setattr(circuit_breaker, "time", clock)
    breaker = CircuitBreaker(Timeouts(data_backoff=0.0, data_limit=10.0))
    for _ in range(4):
        with pytest.raises(DataUnavailable):
            breaker.ask("SPY", Source(DOWN))
        assert breaker.ask("QQQ", Source("bars")) == "bars"
    assert seconds[-1] > 20


@pytest.mark.parametrize("error", [REFUSED, DOWN])
def test_a_waiting_request_can_be_cancelled(error: DataUnavailable) -> None:
    breaker, source, stopped = (
        CircuitBreaker(Timeouts(data_backoff=60)),
        Source(error),
        threading.Event(),
    )
    ended: list[DataUnavailable] = []

    def ask(note: Callable[[DataUnavailable], None] = ended.append) -> None:
        try:
            breaker.ask("SPY", source, stopped)
        except DataUnavailable as caught:
            note(caught)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while not source.asked:
        time.sleep(0.001)
    stopped.set()
    thread.join(30)
    assert not thread.is_alive()
    assert len(source.asked) == 1
    assert str(ended[0]) == "SPY: stopped before its candles arrived"
