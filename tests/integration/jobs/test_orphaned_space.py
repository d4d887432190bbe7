"""A killed run left its Space running, and the next run ends before it wakes the Space.

In each case the Space is paused, or a message says that it may still be running.
"""

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import REPO, TOKEN, Hub
from tests.support.jobs import of_hub
from tests.support.pgbouncer import pooled
from tests.support.quick_job import HURRIED
from tradingbot.cli.main import app
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import get_db_session, init_db
from tradingbot.persistence.run_log import RunLogWriter
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import use_timeouts

LOUD = "THE SPACE MAY STILL BE RUNNING"
QUICK = replace(HURRIED, run_lock=0.3, hub_backoff=0.01, database_retry_briefly=0.1)
SAMPLE = ["--source", "sample"]
NO_SERVER = "postgresql://me@127.0.0.1:9/kronos"

Arrange = Callable[[Hub, str, ExitStack], object]


@dataclass(frozen=True)
class EarlyEnd:
    """One way to end before the wake, with the sample's tickers by default."""

    name: str
    code: int
    then: str  # paused, loud (a warning), or left running for another user
    arguments: list[str] = field(default_factory=lambda: SAMPLE)
    environ: dict[str, str] = field(default_factory=dict)
    arrange: Arrange = lambda hub, database, stack: None


def faults(count: int = 100, **planned: Any) -> Arrange:
    def arrange(hub: Hub, database: str, stack: ExitStack) -> None:
        for action, fault in planned.items():
            hub.faults[action] += [fault] * count

    return arrange


def held(name: str, *, works: bool) -> Arrange:
    """Hold the lock of another run; the run is also in run_logs if it works."""

    def arrange(hub: Hub, database: str, stack: ExitStack) -> None:
        init_db(database)
        assert stack.enter_context(open_lock(database, name)).try_exclusive()
        if works:
            begin_row(database)
        else:  # without a row it looks like a run that is about to start
            for file in Path(database.removeprefix("sqlite:///")).parent.glob("*.lock"):
                facts = json.loads(file.read_text())
                file.write_text(json.dumps({**facts, "since": "2024-03-08T22:00:00+00:00"}))

    return arrange


def begin_row(database: str) -> RunLogWriter:
    sessions = partial(get_db_session, database)
    return RunLogWriter.begin(sessions, started_at=utcnow(), details={"shard": "0/1"})


def woken(hub: Hub, database: str, stack: ExitStack) -> None:
    """Create the run log of a killed run that woke the Space."""
    begin_row(database).note_woken(REPO, True)


def woken_too(hub: Hub, database: str, stack: ExitStack) -> None:
    """The same, of a run that woke the champion's Space as well, and paused that one."""
    row = begin_row(database)
    row.note_woken("someone/champion", True)
    row.note_woken(REPO, True)
    row.note_woken("someone/champion", False)


def signalled(hub: Hub, database: str, stack: ExitStack) -> None:
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(
        "tradingbot.jobs.nightly.active_tickers",
        lambda *args: signal.raise_signal(signal.SIGTERM),
    )


def fails(error: Exception) -> Arrange:
    def arrange(hub: Hub, database: str, stack: ExitStack) -> None:
        def fail(*args: Any, **options: Any) -> None:
            raise error

        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("tradingbot.jobs.nightly.active_tickers", fail)

    return arrange


WAYS = [
    EarlyEnd("a wrong number", 2, "paused", environ={"KRONOS_HORIZON": "abc"}),
    EarlyEnd("a wrong option", 2, "paused", arguments=["run", "--horizon", "abc"]),
    EarlyEnd("a wrong policy", 2, "loud", environ={"KRONOS_PAUSE": "perhaps"}),
    EarlyEnd("a wrong name of the Space", 2, "loud", environ={"HF_SPACE_REPO": "nonsense"}),
    EarlyEnd("a wrong address of the Space", 2, "loud", environ={"KRONOS_SPACE_URL": "ftp://me"}),
    EarlyEnd("a source that is not there", 2, "paused", arguments=["--source", "csv:nowhere"]),
    EarlyEnd("no tickers", 2, "paused", arguments=[], environ={"KRONOS_EXTRA_SYMBOLS": ""}),
    EarlyEnd(
        "a shard without tickers", 0, "paused",
        arguments=[*SAMPLE, "--shard", "1/7", "--symbols", "AAPL"],
    ),
    EarlyEnd(
        "a shard without tickers, and a pause that fails", 1, "loud",
        arguments=[*SAMPLE, "--shard", "1/7", "--symbols", "AAPL"],
        arrange=faults(pause=500),
    ),
    EarlyEnd("the database is away", 1, "loud", environ={"DATABASE_URL": NO_SERVER}),
    EarlyEnd("an unreadable database address", 2, "loud", environ={"DATABASE_URL": "nonsense"}),
    EarlyEnd("a mistake of ours", 1, "paused", arrange=fails(ZeroDivisionError("a bug"))),
    EarlyEnd("a signal", 143, "paused", arrange=signalled),
    EarlyEnd("the restart is refused", 2, "paused", arrange=faults(restart=403)),
    EarlyEnd("the Hub answers 503 to all", 1, "loud", arrange=faults(runtime=503, pause=503)),
    EarlyEnd("the Hub answers 503 for a while", 1, "paused", arrange=faults(8, runtime=503)),
    EarlyEnd("the token is wrong", 2, "loud", environ={"HF_TOKEN": "hf_wrong"}),
    EarlyEnd("another run is at work", 0, "left", arrange=held("run 0/1", works=True)),
    EarlyEnd("a run that does nothing holds the lock", 1, "paused",
        arrange=held("run 0/1", works=False)),
    EarlyEnd(
        "another run uses the Space", 0, "left",
        arguments=[*SAMPLE, "--shard", "1/7", "--symbols", "AAPL"],
        arrange=held(f"Space {REPO}", works=True),
    ),
    EarlyEnd("pausing is not wanted", 2, "left",
        environ={"KRONOS_HORIZON": "abc", "KRONOS_PAUSE": "never"}),
    EarlyEnd("only what a run woke is to be paused", 2, "left",
        environ={"KRONOS_HORIZON": "abc", "KRONOS_PAUSE": "if-woken"}),
    EarlyEnd("only what a run woke is to be paused, and one did", 2, "paused",
        environ={"KRONOS_HORIZON": "abc", "KRONOS_PAUSE": "if-woken"}, arrange=woken),
    EarlyEnd("without a token", 2, "left", environ={"KRONOS_HORIZON": "abc", "HF_TOKEN": ""}),
]  # fmt: skip


CANNOT_ASK = ("a wrong policy", "a wrong name of the Space", "a wrong address of the Space")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub(old_lingers=0.01) as hub:
        yield hub


@contextmanager
def settings(environ: dict[str, str], folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in environ.items():
            patch.setenv(name, value)
        yield


def run(way: EarlyEnd, hub: Hub, database: str, folder: Path, capsys: Any) -> tuple[int, str]:
    """Run the command in this process; return its exit code and output."""
    arguments = way.arguments if way.arguments[:1] == ["run"] else ["run", *way.arguments]
    with ExitStack() as stack:
        stack.enter_context(settings({**of_hub(hub, database), **way.environ}, folder))
        stack.enter_context(use_timeouts(QUICK))
        stack.enter_context(pytest.MonkeyPatch.context()).setattr("sys.argv", ["kronosbot"])
        way.arrange(hub, database, stack)
        code = app(arguments, standalone_mode=False)
    output = capsys.readouterr().err
    assert TOKEN not in output
    return code, output


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_space_left_running_is_paused_or_reported(
    way: EarlyEnd, hub: Hub, sqlite_url: str, tmp_path: Path, capsys: Any
) -> None:
    hub.start_now()
    code, output = run(way, hub, sqlite_url, tmp_path, capsys)
    assert (code, hub.running, LOUD in output) == (
        way.code, way.then != "paused", way.then == "loud",
    ), output  # fmt: skip
    assert "restart" not in hub.actions() or hub.calls[hub.actions().index("restart")][1] == 403


@pytest.mark.parametrize(
    "way",
    [
        way for way in WAYS
        if way.name not in CANNOT_ASK and not way.name.startswith("only what a run woke")
    ],
    ids=lambda way: way.name,
)  # fmt: skip
def test_a_sleeping_space_is_neither_paused_nor_reported(
    way: EarlyEnd, hub: Hub, sqlite_url: str, tmp_path: Path, capsys: Any
) -> None:
    _, output = run(way, hub, sqlite_url, tmp_path, capsys)
    assert LOUD not in output
    assert [status for action, status in hub.calls if action == "pause" and status == 200] == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500])
def test_a_temporarily_refused_pause_is_retried(
    status: int, hub: Hub, sqlite_url: str, tmp_path: Path, capsys: Any
) -> None:
    hub.start_now()
    hub.faults["pause"] += [status, status]
    way = WAYS[0]
    code, output = run(way, hub, sqlite_url, tmp_path, capsys)
    assert (code, hub.running, LOUD in output) == (2, False, False), output
    assert hub.actions().count("pause") == 3


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_transaction_pooler_is_refused_before_the_space_is_woken(
    mode: str, hub: Hub, postgres_url: str, tmp_path: Path, capsys: Any
) -> None:
    hub.start_now()
    with pooled(postgres_url, mode=mode) as url:
        way = EarlyEnd("pgbouncer", 2, "loud", environ={"DATABASE_URL": url})
        code, output = run(way, hub, postgres_url, tmp_path, capsys)
    assert (code, hub.running, LOUD in output) == (2, True, True), output
    assert "pool_mode=session" in output.splitlines()[-1]
    assert "restart" not in hub.actions()


CHALLENGERS = re.compile(f"settings of ({REPO}|the challengers' Spaces)$").search
BESIDE = {"KRONOS_SPACE_URL": "http://127.0.0.1:9", "HF_SPACE_REPO": "", "KRONOS_WAKE_TIMEOUT": "1"}
OF_A_CHALLENGER = [
    EarlyEnd("a wrong number", 2, "paused", environ={"KRONOS_HORIZON": "abc"}),
    EarlyEnd("no tickers", 2, "paused", arguments=[], environ={"KRONOS_EXTRA_SYMBOLS": ""}),
    EarlyEnd("the champion's Space is out of reach", 1, "paused"),
    EarlyEnd("that, and the pause fails", 1, "loud", arrange=faults(pause=500)),
    EarlyEnd("the database is away", 1, "loud", environ={"DATABASE_URL": NO_SERVER}),
    EarlyEnd("another run uses it", 1, "left", arrange=held(f"Space {REPO}", works=True)),
    EarlyEnd("another run is at work", 0, "left", arrange=held("run 0/1", works=True)),
    EarlyEnd("only what a run woke is to be paused", 2, "left",
        environ={"KRONOS_HORIZON": "abc", "KRONOS_PAUSE": "if-woken"}),
    EarlyEnd("only what a run woke is to be paused, and one did", 2, "paused",
        environ={"KRONOS_HORIZON": "abc", "KRONOS_PAUSE": "if-woken"}, arrange=woken_too),
    EarlyEnd("a wrong name of the champion's Space", 2, "paused",
        environ={"HF_SPACE_REPO": "nonsense"}),
    EarlyEnd("a wrong policy", 2, "loud", environ={"KRONOS_PAUSE": "perhaps"}),
    EarlyEnd("models that are none", 2, "loud", environ={"KRONOS_MODELS": f"mini=,base={REPO}"}),
]  # fmt: skip


@pytest.mark.parametrize("way", OF_A_CHALLENGER, ids=lambda way: way.name)
def test_a_challengers_space_left_running_is_paused_or_reported(
    way: EarlyEnd, hub: Hub, sqlite_url: str, tmp_path: Path, capsys: Any
) -> None:
    hub.start_now()
    environ = {**BESIDE, "KRONOS_MODELS": f"mini,base={REPO}", **way.environ}
    code, output = run(replace(way, environ=environ), hub, sqlite_url, tmp_path, capsys)
    loud = [line for line in output.splitlines() if LOUD in line]
    assert (code, hub.running, any(CHALLENGERS(line) for line in loud)) == (
        way.code, way.then != "paused", way.then == "loud",
    ), output  # fmt: skip
    assert "restart" not in hub.actions()
