"""The Spaces of challengers are paused or reported, however a night ends."""

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.chaos.world import MODELS, write_models
from tests.support import commands
from tests.support.hub import Hub
from tests.support.jobs import NANO, Done, of_hub, runs
from tests.support.quick_job import OTHER_SPACES, PATIENTLY
from tests.support.space_server import launch

LOUD = "THE SPACE MAY STILL BE RUNNING"
SECOND, THIRD = "someone/second", "someone/third"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "models"
    write_models(folder)
    return ",".join(str(folder / name) for name in MODELS)


@pytest.fixture
def hub(models: str) -> Iterator[Hub]:
    with Hub(launch=launch, environ={**os.environ, **NANO}, old_lingers=0.05) as hub:
        for repo in (SECOND, THIRD):
            hub.add(repo).environ["KRONOS_MODELS"] = models
        yield hub


def night(
    hub: Hub,
    database: str,
    folder: Path,
    *,
    symbols: str = "IBM",
    signalled: signal.Signals | None = None,
    **settings: str,
) -> Done:
    """Run the job with a challenger in each of two Spaces.

    `signalled` is sent when the second one gets its first request for forecasts.
    """
    environ: dict[str, Any] = {
        **of_hub(hub, database),
        OTHER_SPACES: f"{hub.url}/spaces",
        PATIENTLY: "1",
        "KRONOS_MODELS": f"kronos-nano,tuned={SECOND},wild={THIRD}",
        **settings,
    }
    arguments = ("run", "--source", "sample", "--symbols", symbols)
    with hub.spaces[THIRD].held("batch") if signalled else nullcontext(Event()) as asked:
        process = commands.piped(
            "tests.support.quick_job", *arguments, cwd=folder, env={**os.environ, **environ}
        )
        if signalled:
            assert asked.wait(60)
            process.send_signal(signalled)
        out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return Done(process.wait(), out, err)


def phases(database: str) -> set[str]:
    """Return the phases of the newest run."""
    return set(runs(database)[-1].durations)


def test_a_pause_that_fails_ends_a_night_that_was_scored_with_1(
    hub: Hub, sqlite_url: str, tmp_path: Path
) -> None:
    hub.spaces[SECOND].faults["pause"] += [503] * 100
    done = night(hub, sqlite_url, tmp_path)
    assert done.code == 1, done.err
    loud = [line for line in done.err.splitlines() if LOUD in line]
    assert loud
    assert all(line.endswith(SECOND) for line in loud)
    assert "score" in phases(sqlite_url)
    assert runs(sqlite_url)[-1].exit_code == 1
    assert [space.running for space in hub.spaces.values()] == [False, True, False]


def test_a_pause_that_succeeds_at_last_is_no_failure(
    hub: Hub, sqlite_url: str, tmp_path: Path
) -> None:
    hub.spaces[SECOND].faults["pause"] += [503] * 4
    done = night(hub, sqlite_url, tmp_path)
    assert done.code == 0, done.err
    assert f"Space {SECOND}: was left running, paused now" in done.err
    assert not any(space.running for space in hub.spaces.values())


def test_the_last_word_about_a_space_that_is_paused_is_that_it_is_paused(
    hub: Hub, sqlite_url: str, tmp_path: Path
) -> None:
    hub.spaces[SECOND].faults["pause"] += ["late"] * 4  # the Hub errs, and pauses it
    done = night(hub, sqlite_url, tmp_path)
    assert done.code == 0, done.err
    about = [line for line in done.err.splitlines() if SECOND in line]
    assert any(LOUD in line for line in about)
    assert about[-1] == f"Space {SECOND}: is PAUSED now"


def test_a_signal_is_reported_although_a_pause_fails(
    hub: Hub, sqlite_url: str, tmp_path: Path
) -> None:
    hub.spaces[SECOND].faults["pause"] += [503] * 100
    done = night(hub, sqlite_url, tmp_path, signalled=signal.SIGTERM)
    assert done.code == 143, done.err
    assert LOUD in done.err
    assert [space.running for space in hub.spaces.values()] == [False, True, False]


def test_a_challengers_space_is_paused_by_a_night_with_too_few_forecasts(
    hub: Hub, sqlite_url: str, tmp_path: Path
) -> None:
    for space in hub.spaces.values():
        space.start_now()
    done = night(hub, sqlite_url, tmp_path, symbols="NOWHERE")
    assert done.code == 1, done.err
    assert "KRONOS_MIN_SUCCESS" in done.err
    assert not any(space.running for space in hub.spaces.values())


def test_a_killed_runs_spaces_are_paused_although_only_woken_ones_may_be(
    hub: Hub, sqlite_url: str, tmp_path: Path
) -> None:
    policy = {"KRONOS_PAUSE": "if-woken"}
    killed = night(hub, sqlite_url, tmp_path, signalled=signal.SIGKILL, **policy)
    assert killed.code == -signal.SIGKILL
    assert hub.spaces[SECOND].running
    done = night(hub, sqlite_url, tmp_path, **policy)
    assert done.code == 0, done.err
    assert not any(space.running for space in hub.spaces.values())
