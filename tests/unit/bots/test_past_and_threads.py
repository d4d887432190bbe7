"""Backtest decisions in several threads and processes, and bots used by several threads."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.market import Market, ScriptedBot, flat_forecast
from tradingbot.bots.bot import Bot
from tradingbot.bots.kronos_trader import KronosTraderBot
from tradingbot.client import KronosClient
from tradingbot.data.service import DataService
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.persistence.models import BotRow
from tradingbot.runtime.decisions import _with_context
from tradingbot.runtime.lookahead import LookAhead
from tradingbot.settings import Settings
from tradingbot.utils.core import kronos_forecast, run_ai_with_tools

BARS = pd.DataFrame(
    {"open": 10.0, "high": 11.0, "low": 9.0, "close": np.arange(9.5, 10.5, 0.1)},
    index=pd.date_range("2024-05-01", periods=10, freq="B"),
)
SAMPLE = DataService("sample", min_bars=1)
CLIENT = KronosClient("http://127.0.0.1:9", data=SAMPLE)
OLD_POOL = ThreadPoolExecutor(1)
OLD_POOL.submit(int).result()  # starts its thread before any backtest
OLD_THREADS = ThreadPool(1)


@pytest.fixture(scope="module", autouse=True)
def _closed_at_the_end() -> Iterator[None]:
    with OLD_THREADS:
        yield


def started(work: Callable[[], Any]) -> Any:
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def pooled(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor() as pool:
        return pool.submit(work).result()


def of_multiprocessing(work: Callable[[], Any]) -> Any:
    with ThreadPool(1) as pool:
        return pool.apply(work)


def nested(work: Callable[[], Any]) -> Any:
    return started(lambda: pooled(work))


WAYS: list[Callable[..., Any]] = [
    lambda work: work(), started, pooled, lambda work: OLD_POOL.submit(work).result(),
    of_multiprocessing, nested, OLD_THREADS.apply,
]  # fmt: skip
ASKED: dict[str, Callable[[Bot], Any]] = {
    "fetch": lambda bot: bot.fetch("AAPL"),
    "fetch_all": lambda bot: bot.fetch_all(),
    "data": lambda bot: bot.data,
    "a service": lambda bot: SAMPLE.history("AAPL"),
    "predict": lambda bot: CLIENT.predict("AAPL"),
    "forecast_many": lambda bot: CLIENT.forecast_many(["AAPL"]),
    "the tool": lambda bot: kronos_forecast.invoke({"symbol": "AAPL"}),
    "an agent": lambda bot: run_ai_with_tools("", "", model="any"),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("way", WAYS, ids=range(len(WAYS)))
def test_methods_that_read_the_present_are_refused_in_every_thread_of_a_backtest(
    way: Callable[..., Any], ask: Callable[[Bot], Any]
) -> None:
    class Peeks(Bot):
        def decisionFunction(self, row: Any) -> int:
            with pytest.raises(LookAhead, match="knows the present"):
                way(lambda: ask(self))
            assert way(lambda: len(self.history)) == len(self.history)
            return 1

    result = Peeks("b", "AAPL", data=SAMPLE, settings=Settings()).backtest(BARS)
    assert len(result.trades) == 1


def peek() -> str:
    """Return what a worker can read; other processes import this function by name."""
    try:
        return type(SAMPLE.history("AAPL")).__name__
    except LookAhead:
        return "LookAhead"


def peeked_in_a_backtest(ways: Iterable[Callable[[], Any]]) -> list[Any]:
    """Return the result of each kind of worker, started by the decision on the first bar."""
    found: list[Any] = []

    class Peeks(Bot):
        def decisionFunction(self, row: Any) -> int:
            if not found:
                found.extend(way() for way in ways)
            return 0

    Peeks("b", "AAPL", settings=Settings()).backtest(BARS)
    return found


def test_a_pool_made_by_a_decision_returns_to_the_present_afterwards() -> None:
    made: list[Any] = []

    def make() -> list[str]:
        made.extend([ThreadPoolExecutor(1), ThreadPool(1)])
        return [made[0].submit(peek).result(), made[1].apply(peek), *made[1].map(_peek_at, [0])]

    assert peeked_in_a_backtest([make]) == [["LookAhead"] * 3]
    with made[0], made[1]:
        assert made[0].submit(peek).result() == made[1].apply(peek) == "DataFrame"


def _peek_at(_: int) -> str:
    return peek()


def test_work_sent_to_another_process_carries_its_point_in_time() -> None:
    [sent] = peeked_in_a_backtest([lambda: pickle.dumps(_with_context(peek))])
    assert pickle.loads(sent)() == "LookAhead"
    assert peek() == "DataFrame"


@pytest.mark.integration
def test_methods_that_read_the_present_are_refused_in_other_processes_of_a_backtest() -> None:
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=fork) as old, fork.Pool(1) as old_pool:
        assert old.submit(peek).result() == old_pool.apply(peek) == "DataFrame"
        queue = fork.SimpleQueue()

        def in_a_process() -> Any:
            started = fork.Process(target=lambda: queue.put(peek()))
            started.start()
            started.join()
            return queue.get()

        made: list[ProcessPoolExecutor] = []

        def in_a_new_pool() -> Any:
            made.append(ProcessPoolExecutor(1, mp_context=fork))
            return made[0].submit(peek).result()

        ways = [
            lambda: old.submit(peek).result(), lambda: old_pool.apply(peek),
            lambda: old_pool.map(_peek_at, [0])[0], in_a_process, in_a_new_pool,
        ]  # fmt: skip
        assert peeked_in_a_backtest(ways) == ["LookAhead"] * 5
        with made[0] as new:
            assert old.submit(peek).result() == new.submit(peek).result() == "DataFrame"


def test_a_thread_started_before_the_backtest_cannot_see_the_present(sqlite_url: str) -> None:
    asked, answered = threading.Semaphore(0), threading.Semaphore(0)
    found: list[Any] = []
    late = BARS.index[3].to_pydatetime()
    rising = {"last_close": 9.8, "low": 9.0, "high": 11.0, "prob_up": 0.5}
    with get_db_session(sqlite_url) as session:
        session.add(BotRow(name="b", portfolio={"USD": 5.0}))
        for model, days in (("then", 0.5), ("now", 500)):  # made before the next open, and after it
            made = flat_forecast(
                "AAPL", late, close=10.0, model=model, made_at=late + timedelta(days=days), **rising
            )
            store_forecasts(session, [made])

    class Delegates(Bot):
        def decisionFunction(self, row: Any) -> int:
            asked.release()
            answered.acquire()
            return 0

    sessions = partial(get_db_session, sqlite_url)
    bot = Delegates("b", "AAPL", data=SAMPLE, settings=Settings(), sessions=sessions)

    def look() -> Any:
        forecast = bot.stored_forecast(5)
        return bot.portfolio, forecast and forecast.model_name

    def work() -> None:
        for _ in BARS.index:
            asked.acquire()
            found.append(look())
            try:
                found.append(bot.fetch("AAPL"))
            except LookAhead as error:
                found.append(error)
            answered.release()

    thread = threading.Thread(target=work)
    thread.start()
    bot.backtest(BARS)
    thread.join()
    assert [type(item) for item in found[1::2]] == [LookAhead] * len(BARS)
    seen = [({"USD": 10_000.0}, "then" if at == 3 else None) for at in range(len(BARS))]
    assert found[::2] == seen
    assert bot.portfolio == {"USD": 5.0}
    assert len(bot.fetch("AAPL")) > 1


def test_other_threads_stay_in_the_present_during_a_backtest() -> None:
    in_the_middle, go_on = threading.Event(), threading.Event()

    class Slow(Bot):
        def decisionFunction(self, row: Any) -> int:
            in_the_middle.set()
            assert go_on.wait(60)
            return 0

    with ThreadPoolExecutor() as pool:
        replayed = pool.submit(Slow("a", "AAPL", settings=Settings()).backtest, BARS)
        assert in_the_middle.wait(60)
        assert pool.submit(SAMPLE.history, "AAPL").result(60) is not None
        assert len(ScriptedBot("b", "AAPL", answers={}, data=SAMPLE).backtest().equity) > 1
        go_on.set()
        replayed.result(60)


def test_backtests_of_one_bot_in_several_threads_are_independent() -> None:
    class Checks(Bot):
        def decisionFunction(self, row: Any) -> int:
            level = self.history["close"].iloc[0]
            assert row["close"] == level, "of another thread's history"
            assert self.portfolio["USD"] == level
            self.reason = f"{level}"
            threading.Event().wait(1e-6)  # allows another thread to run
            assert self.reason == f"{level}"
            return 0

    bot = Checks("b", "AAPL", settings=Settings())
    flat = {level: BARS.assign(open=level, high=level, low=level, close=level)
            for level in np.arange(100.0, 116.0)}  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        asked = {
            level: pool.submit(bot.backtest, frame, cash=level) for level, frame in flat.items()
        }
    assert [set(done.result().equity) for done in asked.values()] == [{level} for level in flat]


def test_rounds_of_one_bot_in_several_threads_run_in_turn(tmp_path: Path, database: str) -> None:
    market = Market(tmp_path / "candles")
    market.write("AAPL", [98.0, 100.0])
    market.write("IBM", [52.0, 50.0])
    seen: list[tuple[str, float]] = []

    class Looks(Bot):
        def decisionFunction(self, row: Any) -> int:
            symbol = self.symbol
            threading.Event().wait(0.001)
            assert self.symbol == symbol
            seen.append((symbol, row["close"]))
            return 1

    bot = market.bot(Looks, database, tickers=["AAPL", "IBM"])
    with ThreadPoolExecutor(4) as pool:
        rounds = [pool.submit(bot.run) for _ in range(4)]
    assert sum(len(done.result().fills) for done in rounds) == 2
    assert seen == [("AAPL", 100.0), ("IBM", 50.0)] * 4


# other processes ---------------------------------------------------------------------------

FORKS = """
import os, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import requests
from tradingbot import KronosClient
from tradingbot.errors import KronosError

class Tells(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        port = self.client_address[1]
        body = ('{"status": "ok", "model": "m", "model_revision": "r", "version": "1", '
                '"started_at": "2024-01-01T00:00:00Z", "uptime_s": 1, "boot_id": "%d"}' % port)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Tells)
threading.Thread(target=server.serve_forever, daemon=True).start()
for http in (None, requests.Session()):
    client = KronosClient(f"http://127.0.0.1:{server.server_port}", http=http)
    mine = client.health()["boot_id"]
    assert client.health()["boot_id"] == mine, "one connection"
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, client.health()["boot_id"].encode())
        os._exit(0)
    theirs = os.read(reading, 100).decode()
    assert theirs != mine, "the parent's connection"
    assert client.health()["boot_id"] == mine
print("done")
"""


@pytest.mark.integration
def test_a_forked_process_opens_new_connections() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("source", ["sample", "yahoo", "csv"])
def test_a_bot_with_fetched_data_can_be_pickled(
    tmp_path: Path, sqlite_url: str, source: str
) -> None:
    market = Market(tmp_path / "candles")
    market.write("AAPL", [98.0, 100.0])
    settings = Settings(data_source=market.source if source == "csv" else source)
    sessions = partial(get_db_session, sqlite_url)
    bot = ScriptedBot("b", "AAPL", answers={"AAPL": 1}, settings=settings, sessions=sessions)
    given = ScriptedBot(
        "b", "AAPL", answers={}, data=DataService(settings.data_source, sessions=sessions),
        client=KronosClient("http://127.0.0.1:9", settings=settings),
    )  # fmt: skip
    if source != "yahoo":
        bot.fetch("AAPL")
    for item in (bot, given):
        sent = pickle.loads(pickle.dumps(item))
        assert sent.params.keys() == item.params.keys()
    if source != "yahoo":
        pd.testing.assert_frame_equal(
            pickle.loads(pickle.dumps(bot)).fetch("AAPL"), bot.fetch("AAPL")
        )
    assert len(copy.copy(bot).backtest(BARS).trades) == 1


@pytest.mark.parametrize(
    ("options", "names"),
    [({"sessions": lambda: None}, "its sessions"), ({"lock": threading.Lock()}, "its params"),
     ({"data": open}, None)],
)  # fmt: skip
def test_a_bot_that_cannot_be_pickled_says_why(options: Any, names: str | None) -> None:
    bot = ScriptedBot("b", "AAPL", answers={}, **options)
    if names is None:
        pickle.dumps(bot)
        return
    with pytest.raises(pickle.PicklingError, match=f"bot b cannot be pickled, because of {names}"):
        pickle.dumps(bot)
    assert copy.copy(bot).params == bot.params


# the newest model as of a bar ------------------------------------------------------------------

DAYS = [datetime(2024, 5, day) for day in (6, 7, 8, 9, 10, 13, 14, 15)]
RISING = {"close": 103.0, "low": 99.0, "high": 107.0, "prob_up": 0.8}
FALLING = {"close": 97.0, "low": 93.0, "high": 101.0, "prob_up": 0.2}


def test_a_new_model_changes_no_earlier_decision(tmp_path: Path, database: str) -> None:
    market = Market(tmp_path / "candles")
    market.write("AAPL", [100.0] * 8)
    evening = timedelta(hours=22)
    stored = [
        flat_forecast("AAPL", day, last_close=100.0, model="old" if day < DAYS[5] else "new",
                made_at=day + evening, **(FALLING if number % 2 else RISING))
        for number, day in enumerate(DAYS)
    ]  # fmt: skip
    # a backtest of today's model stored forecasts for old days
    stored += [
        flat_forecast(
            "AAPL", day, last_close=100.0, model="newest", made_at=datetime(2024, 6, 1), **RISING
        )
        for day in DAYS[:3]
    ]
    with get_db_session(database) as session:
        store_forecasts(session, stored)
    bot = market.bot(KronosTraderBot, database, tickers=["AAPL"], fill="open")
    trades = bot.backtest(market.data().history("AAPL")).trades
    assert trades["side"].tolist() == ["buy", "sell"] * 3 + ["buy"]

    class Any_(Bot):
        def decisionFunction(self, row: Any) -> int:
            models.append(self.stored_forecast(5).model_name)
            return 0

    models: list[str] = []
    market.bot(Any_, database, tickers=["AAPL"]).backtest(market.data().history("AAPL"))
    assert models == ["old"] * 5 + ["new"] * 3
