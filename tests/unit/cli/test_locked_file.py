"""A SQLite file that another process holds: each command ends soon, with one line."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.records import Past
from tradingbot.ai.forecast_tool import kronos_forecast
from tradingbot.cli.main import app
from tradingbot.client import KronosClient
from tradingbot.data.service import DataService
from tradingbot.persistence.engine import dispose_engines, get_engine
from tradingbot.settings import Timeouts, use_timeouts

BRIEFLY = Timeouts(
    database_file_lock=0.05, database_retry=0.05, database_retry_briefly=0.05, space_backoff=0.01
)
COMMANDS = [
    *("run", "run --dry-run", "status", "score", "calibrate"),
    *("report", "portfolio", "export forecasts", "export scores", "export events"),
]


@contextmanager
def held(file: Path, how: str = "EXCLUSIVE") -> Iterator[None]:
    """Lock the file in this block, so that no other process can read or write it."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute(f"BEGIN {how}")
        yield


@pytest.fixture(autouse=True)
def sample_and_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_SPACE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("KRONOS_DATA_SOURCE", "sample")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("locked") / "kronos.db"
    Past(["AAPL"], sessions=2).store(f"sqlite:///{file}", candles=False)
    dispose_engines()
    return file


@pytest.fixture(params=["a database", "an empty file"])
def path(request: pytest.FixtureRequest, file: Path, tmp_path: Path) -> Path:
    return file if request.param == "a database" else tmp_path / "empty.db"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_the_file_that_another_process_holds(path: Path, command: str) -> None:
    with use_timeouts(BRIEFLY), held(path):
        done = CliRunner().invoke(app, [*command.split(), "--database-url", f"sqlite:///{path}"])
        dispose_engines()
    assert done.exit_code == 1, done.output
    *_, last = done.output.strip().splitlines()
    assert last == (
        f"Error: database sqlite:///{path}: database is locked; another process holds it; try "
        "again when that is done"
    )


def test_a_bot_gets_no_forecast_and_an_agent_a_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")
    with use_timeouts(BRIEFLY), held(path):
        with KronosClient(data=DataService("sample")) as client:
            assert client.predict("AAPL") is None
        assert "127.0.0.1" in kronos_forecast.invoke({"symbol": "AAPL"})
        dispose_engines()


def test_connecting_does_not_wait_for_a_process_that_writes(file: Path) -> None:
    """While another process writes, the file cannot be switched to WAL, but it can be read."""
    engine = get_engine(f"sqlite:///{file}")
    patience: list[int] = []

    def connect() -> None:
        with engine.connect() as connection:
            patience.append(connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one())

    with held(file, "IMMEDIATE"):
        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(timeout=8)
        assert patience == [10_000]
    thread.join()
    dispose_engines()
