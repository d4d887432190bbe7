"""The exporter answers immediately, whatever the state of the database."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

import pytest
from sqlalchemy import make_url

from tests.support.postgres import DatabaseProxy, Postgres
from tests.support.records import Past
from tradingbot.errors import ConfigError, DatabaseUnavailable
from tradingbot.jobs.status import Status
from tradingbot.monitoring.metrics_server import Cached, make_exporter
from tradingbot.monitoring.snapshot import Snapshot, read_snapshot
from tradingbot.settings import Settings

WELL = Snapshot(Status(now=datetime(2024, 5, 15), database="db", clock=datetime(2024, 5, 15)))


@contextmanager
def serving(read: Callable[[], Snapshot], **options: float) -> Iterator[int]:
    server = make_exporter(Cached(read, **options), version="1", host="127.0.0.1", port=0)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def asked(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_exporter_serves_only_metrics_and_health() -> None:
    with serving(lambda: WELL) as port:
        status, text = asked(port, "/metrics")
        assert (status, "\nkronosbot_up 1.0\n" in text) == (200, True)
        assert asked(port, "/healthz") == (200, "ok\n")
        assert asked(port, "/healthz", "HEAD") == (200, "")
        assert asked(port, "/")[0] == 404
        assert asked(port, "/metrics/../secret")[0] == 404
        assert asked(port, "/metrics", "POST")[0] == 405


def test_scrapes_share_one_database_read_until_it_expires() -> None:
    reads: list[int] = []

    def read() -> Snapshot:
        reads.append(1)
        return WELL

    with serving(read) as port, ThreadPoolExecutor(8) as pool:
        assert {status for status, _ in pool.map(lambda _: asked(port, "/metrics"), range(24))} == {
            200
        }
    assert len(reads) == 1
    with serving(read, max_age=0.0) as port:
        assert asked(port, "/metrics")[0] == asked(port, "/metrics")[0] == 200
    assert len(reads) == 3


@pytest.mark.parametrize(
    "error", [DatabaseUnavailable("s3cret"), ConfigError("s3cret"), ValueError("s3cret")]
)
def test_a_failure_is_reported_as_up_0_until_it_is_over(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failing = True

    def read() -> Snapshot:
        if failing:
            raise error
        return WELL

    with serving(read, max_age=0.0) as port:
        for _ in range(2):
            status, text = asked(port, "/metrics")
            assert (status, "\nkronosbot_up 0.0\n" in text) == (200, True)
            assert "s3cret" not in text
        assert asked(port, "/healthz")[0] == 200, "a restart would not help"
        failing = False
        assert "\nkronosbot_up 1.0\n" in asked(port, "/metrics")[1]
    warnings = [record for record in caplog.records if "kronosbot_up is 0" in record.getMessage()]
    assert len(warnings) == 1, "once, not at every scrape"


def test_a_hanging_database_is_reported_as_up_0_and_occupies_one_thread() -> None:
    answered, reads = threading.Event(), []

    def read() -> Snapshot:
        reads.append(1)
        answered.wait(20)
        return WELL

    with serving(read, timeout=0.1) as port:
        for _ in range(3):
            assert "\nkronosbot_up 0.0\n" in asked(port, "/metrics")[1]
        assert len(reads) == 1
        answered.set()
        while "\nkronosbot_up 0.0\n" in asked(port, "/metrics")[1]:
            pass
        assert len(reads) == 1


def test_the_exporter_survives_a_database_outage(
    postgres_server: Postgres, postgres_url: str
) -> None:
    Past(["AAPL"], sessions=2).store(postgres_url)
    name = str(make_url(postgres_url).database)
    with DatabaseProxy(postgres_server, name) as proxy:

        def read() -> Snapshot:
            return read_snapshot(proxy.url, Settings(), source="yahoo", max_age=1)

        with serving(read, max_age=0.0, timeout=15.0) as port:  # a busy machine is slow

            def up() -> bool:
                return "\nkronosbot_up 1.0\n" in asked(port, "/metrics")[1]

            assert up()
            proxy.refuse()
            assert not up()
            proxy.accept()
            assert up()
            proxy.cut()
            assert up(), "no connection is kept that could be a dead one"


def test_a_silent_caller_does_not_delay_others() -> None:
    with serving(lambda: WELL) as port, socket.create_connection(("127.0.0.1", port)) as silent:
        assert asked(port, "/healthz")[0] == 200
        silent.sendall(b"GARBAGE\r\n\r\n")
        assert asked(port, "/healthz")[0] == 200


def test_a_port_in_use_is_a_settings_error() -> None:
    with (
        serving(lambda: WELL) as port,
        pytest.raises(ConfigError, match=f"port {port}: Address al"),
    ):
        make_exporter(Cached(lambda: WELL), version="1", host="127.0.0.1", port=port)
    with pytest.raises(ConfigError, match=r"cannot listen on 203\.0\.113\.9"):
        make_exporter(Cached(lambda: WELL), version="1", host="203.0.113.9", port=0)
