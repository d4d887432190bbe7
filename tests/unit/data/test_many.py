"""Many tickers: parallel requests, independent failures, and one stop for all."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import requests

from tests.support import ROOT
from tests.support.fake_yahoo import FakeYahoo, Market, candles, ticker_of
from tradingbot.data.circuit_breaker import CircuitBreaker
from tradingbot.data.service import WORKERS, DataService
from tradingbot.data.sources.yahoo import YahooSource
from tradingbot.errors import DataError, DataUnavailable, UnknownSymbol
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.engine import get_db_session
from tradingbot.settings import Timeouts

SESSIONS = next_sessions("SPY", datetime(2023, 1, 1), 300)  # up to 2024-03-12
NOW = datetime(2024, 3, 4, 22)
EIGHT = ["SPY", "QQQ", "GLD", "AAPL", "MSFT", "7203.T", "BTC-USD", "EURUSD=X"]


def market() -> Market:
    return Market({name: candles(SESSIONS, 100.0 * n) for n, name in enumerate(EIGHT, start=1)})


def service(yahoo: FakeYahoo, **options: object) -> DataService:
    circuit_breaker = CircuitBreaker(
        Timeouts(data_backoff=0.01, data_longest_backoff=0.02, data_limit=0.05)
    )
    source = YahooSource(yahoo.session())
    return DataService(source, now=NOW, circuit_breaker=circuit_breaker, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_eight_tickers_in_parallel_equal_eight_single_requests(database: str) -> None:
    cached = service(FakeYahoo(market()), sessions=partial(get_db_session, database))
    alone = service(FakeYahoo(market()))
    for _ in ("fetched", "cached"):
        histories = dict(cached.histories(EIGHT, bars=100))
        assert set(histories) == set(EIGHT)
        for symbol, history in histories.items():
            pd.testing.assert_frame_equal(history, alone.history(symbol, bars=100))


def test_a_failing_ticker_does_not_affect_others(sqlite_url: str) -> None:
    candles_but_one = market()
    del candles_but_one.candles["GLD"]
    yahoo = FakeYahoo(candles_but_one)
    histories = dict(
        service(yahoo, sessions=partial(get_db_session, sqlite_url)).histories(
            [*EIGHT, "FOO.XYZ", "SPY"]
        )
    )
    assert isinstance(histories.pop("GLD"), UnknownSymbol)
    wrong = histories.pop("FOO.XYZ")
    assert type(wrong) is DataError
    assert "no exchange is known" in str(wrong)
    assert len(histories) == 7
    assert all(isinstance(history, pd.DataFrame) for history in histories.values())


def test_a_limited_number_of_requests_run_in_parallel() -> None:
    together = threading.Barrier(WORKERS, timeout=30)
    at_once, most = 0, 0
    lock = threading.Lock()
    answers = market()

    def chart(request: requests.PreparedRequest) -> tuple[int, str]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        together.wait()  # passes only if WORKERS requests run at the same time
        with lock:
            at_once -= 1
        return answers(request)

    histories = dict(service(FakeYahoo(chart)).histories(EIGHT))
    assert all(isinstance(history, pd.DataFrame) for history in histories.values())
    assert most == WORKERS


def test_a_slow_ticker_does_not_delay_others() -> None:
    answers, released = market(), threading.Event()

    def chart(request: requests.PreparedRequest) -> tuple[int, str]:
        if ticker_of(str(request.url)) == "SPY":
            assert released.wait(30)
        return answers(request)

    order = []
    for symbol, _ in service(FakeYahoo(chart)).histories(EIGHT):
        order.append(symbol)
        if len(order) == len(EIGHT) - 1:
            released.set()
    assert order[-1] == "SPY"


def test_closing_the_iterator_stops_the_requests() -> None:
    answers, released = market(), threading.Event()

    def chart(request: requests.PreparedRequest) -> tuple[int, str]:
        if ticker_of(str(request.url)) != EIGHT[0]:
            assert released.wait(30)
        return answers(request)

    yahoo = FakeYahoo(chart)
    others = set(threading.enumerate())
    with closing(service(yahoo).histories(EIGHT)) as histories:
        assert next(histories)[0] == EIGHT[0]
    released.set()
    for thread in set(threading.enumerate()) - others:
        thread.join(30)
        assert not thread.is_alive()
    assert len(yahoo.charts) <= 1 + WORKERS


def test_when_yahoo_refuses_all_workers_wait_together_and_then_continue() -> None:
    answers = market()
    refusals = iter(range(3))
    answers.refusing = lambda ticker: next(refusals, None) is not None
    source = YahooSource(FakeYahoo(answers).session())
    patient = DataService(
        source, now=NOW, circuit_breaker=CircuitBreaker(Timeouts(data_backoff=0.01, data_limit=30))
    )
    histories = dict(patient.histories(EIGHT))
    assert all(isinstance(history, pd.DataFrame) for history in histories.values())


def test_under_permanent_refusals_all_tickers_use_the_cache_after_few_requests(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = market()
    yahoo = FakeYahoo(answers)
    sessions = partial(get_db_session, database)
    first = dict(service(yahoo, sessions=sessions).histories(EIGHT[:5]))
    yahoo.charts.clear()
    answers.refusing = lambda ticker: True
    histories = dict(service(yahoo, sessions=sessions).histories(EIGHT))
    for symbol in EIGHT[:5]:
        pd.testing.assert_frame_equal(histories[symbol], first[symbol])
        assert "the cached bars up to 2024-03-04 are used" in histories[symbol].attrs["warnings"][0]
        assert f"{symbol}: Yahoo refuses more requests for now (429)" in caplog.text
    for symbol in EIGHT[5:]:
        error = histories[symbol]
        assert isinstance(error, DataUnavailable)
        assert str(error).startswith(f"{symbol}: Yahoo refuses more requests for now (429)")
    # yfinance sends each request twice; four threads, then one after the other up to the limit. A
    # delayed thread may come late. Separate limits would allow a dozen requests for each ticker.
    assert len(yahoo.charts) <= 2 * (WORKERS + 5) + 4 * len(EIGHT)


def test_an_error_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> pd.DataFrame:
        raise RuntimeError("a bug")

    monkeypatch.setattr(YahooSource, "fetch", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        dict(service(FakeYahoo(market())).histories(EIGHT))


def test_a_local_source_gives_its_tickers_in_order() -> None:
    histories = list(DataService("sample").histories(["MSFT", "NOPE", "AAPL"]))
    assert [symbol for symbol, _ in histories] == ["MSFT", "NOPE", "AAPL"]
    assert isinstance(histories[1][1], UnknownSymbol)


SCRIPT = """
import os, sys, time
from datetime import datetime
from tests.support.fake_yahoo import FakeYahoo, Market, candles
from tradingbot.markets.calendars import next_sessions
from tradingbot.data.service import DataService
from tradingbot.data.sources.yahoo import YahooSource
from tradingbot.runtime.signals import Stopped, stop_on_signals

def chart(request):
    os.write(1, b"asking\\n")  # whole: other threads say the same
    time.sleep(60)

service = DataService(YahooSource(FakeYahoo(chart).session()), now=datetime(2024, 3, 4, 22))
try:
    with stop_on_signals():
        dict(service.histories(["SPY", "QQQ", "GLD", "AAPL", "MSFT"]))
except Stopped as stopped:
    print("stopped", flush=True)
    sys.exit(stopped.exit_code)
"""


@pytest.fixture
def asking(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process whose requests to Yahoo are all in flight and never answered."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    try:
        for _ in range(WORKERS):
            assert process.stdout.readline() == "asking\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.integration
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_process_without_waiting_for_yahoo(
    asking: "subprocess.Popen[str]", signum: signal.Signals, code: int
) -> None:
    began = time.monotonic()
    asking.send_signal(signum)
    out, err = asking.communicate(timeout=120)
    assert (asking.returncode, out, err) == (code, "stopped\n", "")
    assert time.monotonic() - began < 20  # the requests take 60 s
