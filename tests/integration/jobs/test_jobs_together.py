"""Several processes of the job at the same time, with a shared database and Space."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.hub import Hub
from tests.support.jobs import KRONOSBOT, NANO, job, of_hub, rows, runs
from tests.support.space_server import launch
from tradingbot.persistence.database_locks import open_lock

SAMPLE = ["AAPL", "GOOG", "IBM", "MSFT"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(launch=launch, environ={**os.environ, **NANO}) as hub:
        yield hub


def start(folder: Path, environ: dict[str, str], *arguments: str) -> commands.Piped:
    env = {**os.environ, **environ}
    return commands.piped(KRONOSBOT, "--source", "sample", *arguments, cwd=folder, env=env)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_run_names_the_active_one_and_ends(tmp_path: Path, database: str) -> None:
    with Hub(old_lingers=600) as hub:  # the Space starts slowly
        environ = of_hub(hub, database) | {"KRONOS_WAKE_TIMEOUT": "600"}
        first = start(tmp_path, environ)
        wait_until(lambda: "restart" in hub.actions())
        second = job("--source", "sample", folder=tmp_path, quick=True, **environ)
        assert second.code == 0
        assert "Waiting up to 5 s for another run to end: kronosbot 0/1, process" in second.err
        assert "Nothing to do: another run is at work, kronosbot 0/1, process" in second.err
        assert f"process {first.pid} on" in second.err
        assert hub.actions().count("restart") == 1
        assert "pause" not in hub.actions()
        assert [log.status for log in runs(database)] == ["running"], "the second run was none"
        first.terminate()
        _, err = first.communicate(timeout=120)
        assert (first.returncode, hub.stage) == (143, "PAUSED"), err


def test_a_killed_run_does_not_block_the_next(tmp_path: Path, hub: Hub, sqlite_url: str) -> None:
    environ = of_hub(hub, sqlite_url)
    with hub.held("batch") as asked:
        first = start(tmp_path, environ)
        assert asked.wait(60)
        first.kill()
        first.communicate()
    assert hub.running
    done = job("--source", "sample", folder=tmp_path, **environ, KRONOS_PAUSE="if-woken")
    assert done.code == 0, done.err
    assert len(rows(sqlite_url)) == 20
    assert not hub.running, "woken by the first run, and left running when it was killed"


def test_shards_share_the_tickers_and_the_space(
    tmp_path: Path, hub: Hub, postgres_url: str
) -> None:
    environ = {**of_hub(hub, postgres_url), "KRONOS_SHARDS": "2"}
    both = threading.Barrier(2, timeout=60)  # both start before either can finish

    def meet(event: str) -> None:
        if event == "batch":
            both.wait()

    hub.happens = meet
    pods = [start(tmp_path, {**environ, "JOB_COMPLETION_INDEX": str(index)}) for index in range(2)]
    output = [pod.communicate(timeout=120)[1] for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], output
    assert [(row.symbol, row.horizon_days) for row in rows(postgres_url)] == [
        (symbol, step) for symbol in SAMPLE for step in range(1, 6)
    ]
    assert sorted(log.counts["active"] for log in runs(postgres_url)) == [2, 2]
    assert sorted(log.details["shard"] for log in runs(postgres_url)) == ["0/2", "1/2"]
    assert (hub.starts, hub.stage, hub.running) == (1, "PAUSED", False)
    assert hub.actions().count("pause") == 1


def test_a_shard_without_tickers_changes_nothing(tmp_path: Path, hub: Hub, sqlite_url: str) -> None:
    done = job(
        "--source", "sample", "--shard", "1/7", "--symbols", "AAPL",
        folder=tmp_path, **of_hub(hub, sqlite_url),
    )  # fmt: skip
    assert done.code == 0
    assert "Nothing to do: shard 1/7 has none of the 1 tickers" in done.err
    assert set(hub.actions()) <= {"runtime", "other"}, "it was looked whether it runs"


def test_the_last_run_pauses_the_space_when_it_gets_a_signal(
    tmp_path: Path, hub: Hub, postgres_url: str
) -> None:
    environ = of_hub(hub, postgres_url)
    with (
        open_lock(postgres_url, f"Space {environ['HF_SPACE_REPO']}") as another_pod,
        hub.held("batch") as asked,
    ):
        assert another_pod.try_shared()
        hub.start_now()
        run = start(tmp_path, environ)
        assert asked.wait(60)
        assert hub.actions() == [], "it joined the Space that is up"
        another_pod.release()
        run.terminate()
        _, err = run.communicate(timeout=120)
    assert run.returncode == 143, err
    assert hub.starts == 1
    assert (hub.stage, hub.running) == ("PAUSED", False)
