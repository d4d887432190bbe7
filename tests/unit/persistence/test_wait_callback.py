"""A Postgres that does not answer blocks neither the process nor a signal."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from tests.support.postgres import DatabaseProxy, running_postgres
from tradingbot.errors import DatabaseUnavailable
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import dispose_engines, get_db_session
from tradingbot.persistence.wait_callback import bounded_waits
from tradingbot.runtime.signals import Stopped, signals_held, stop_on_signals
from tradingbot.settings import Timeouts


@pytest.fixture(scope="module")
def proxy() -> Iterator[DatabaseProxy]:
    with running_postgres() as postgres, DatabaseProxy(postgres, "postgres") as proxy:
        yield proxy
        dispose_engines()


@pytest.fixture(autouse=True)
def all_flows_again(proxy: DatabaseProxy) -> Iterator[None]:
    with bounded_waits():
        yield
        proxy.cut()
        proxy.flow()
        dispose_engines()


def ask(proxy: DatabaseProxy, before: Callable[[], object] = lambda: None) -> int | None:
    """Run a query in a new session; call `before` between connecting and the query."""
    with get_db_session(proxy.url, create=False) as session:
        session.execute(text("SELECT 1"))
        before()
        return session.scalar(text("SELECT 40 + 2"))


def sigterm_soon() -> None:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()


def test_statements_work_through_the_wait_callback(proxy: DatabaseProxy) -> None:
    assert ask(proxy) == 42
    with (
        pytest.raises(Exception, match="no_such_table"),
        get_db_session(proxy.url, create=False) as session,
    ):
        session.execute(text("SELECT * FROM no_such_table"))


def test_a_signal_is_handled_while_a_statement_hangs(proxy: DatabaseProxy) -> None:
    def stall() -> None:
        proxy.stall()
        sigterm_soon()

    began = time.monotonic()
    with pytest.raises(Stopped), stop_on_signals():
        ask(proxy, stall)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("connected", [True, False])
def test_a_stalled_server_counts_as_lost_after_a_time_limit(
    proxy: DatabaseProxy, connected: bool
) -> None:
    limits = Timeouts(database_answer=0.3) if connected else Timeouts(database_greeting=0.3)
    if not connected:
        proxy.stall()
    with (
        bounded_waits(limits),
        pytest.raises(DatabaseUnavailable, match=r"has not answered for 0\.3 s"),
    ):
        ask(proxy, proxy.stall)


def test_a_deferred_signal_shortens_the_wait(proxy: DatabaseProxy) -> None:

    def stall() -> None:
        proxy.stall()
        sigterm_soon()

    began = time.monotonic()
    with (
        bounded_waits(Timeouts(database_answer_after_signal=0.3)),
        pytest.raises(Stopped),
        stop_on_signals(),
        signals_held(),
    ):
        ask(proxy, stall)
    assert time.monotonic() - began < 5


def test_a_lock_can_be_released_after_a_signal_interrupted_its_query(proxy: DatabaseProxy) -> None:
    with open_lock(proxy.url, "run 0/1") as lock:
        assert lock.try_exclusive()
        proxy.stall()
        sigterm_soon()
        with pytest.raises(Stopped), stop_on_signals():
            lock.renew()
        proxy.cut()
        proxy.flow()
        lock.release()
        assert lock.try_exclusive(), "as ever"
