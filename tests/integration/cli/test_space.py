"""`kronosbot space status|wake|pause` against a test Hub that runs a Space."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.hub import REPO, TOKEN, Hub

HF_TOKEN = {"HF_TOKEN": TOKEN}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def settings(hub: Hub, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_SPACE_REPO": REPO,
        "KRONOS_SPACE_URL": hub.space_url,
        "KRONOS_WAKE_TIMEOUT": "30",
        **more,
    }


def space(command: str, folder: Path, environ: dict[str, str]) -> tuple[int, list[str], list[str]]:
    """Run the command; return the exit code and the lines of stdout and stderr."""
    done = commands.run("tradingbot.kronosbot", "space", command, cwd=folder, env=environ)
    assert "Traceback" not in done.stderr, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_a_paused_space_is_woken_checked_and_paused_again(tmp_path: Path, hub: Hub) -> None:
    environ = settings(hub, **HF_TOKEN)
    code, out, _ = space("status", tmp_path, environ)
    assert (code, out) == (
        0,
        [
            f"Space    {REPO}: PAUSED",
            "Health   not asked: it is PAUSED; `kronosbot space wake` wakes it",
        ],
    )

    code, out, err = space("wake", tmp_path, environ)
    assert code == 0, err
    assert err[0] == f"Waking {REPO} (PAUSED)"
    assert any(": RUNNING after" in line for line in err), "progress is reported"
    boot = hub.boot_id()
    assert out[:2] == [
        f"Space    {REPO}: RUNNING",
        f"Health   ok at {hub.space_url}: tiny, boot {boot}",
    ]
    assert hub.running, "it is left running"

    code, out, _ = space("status", tmp_path, environ)
    assert code == 0
    assert out == [
        f"Space    {REPO}: RUNNING", f"Health   ok at {hub.space_url}: tiny, boot {boot}",
    ]  # fmt: skip

    code, out, err = space("pause", tmp_path, environ)
    assert (code, out) == (0, [f"Space    {REPO}: PAUSED"]), err
    assert not hub.running


def test_waking_a_running_space_does_not_restart_it(tmp_path: Path, hub: Hub) -> None:
    hub.start_now()
    boot = hub.boot_id()
    code, _, err = space("wake", tmp_path, settings(hub, **HF_TOKEN))
    assert code == 0
    assert err == [f"Space {REPO} runs already"]
    assert hub.boot_id() == boot
    assert "restart" not in hub.actions()


def test_without_a_token_a_running_space_can_be_checked_but_not_changed(
    tmp_path: Path, hub: Hub
) -> None:
    hub.start_now()
    code, out, err = space("status", tmp_path, settings(hub))
    assert code == 0
    assert out == [f"Health   ok at {hub.space_url}: tiny, boot {hub.boot_id()}"]
    assert err == ["HF_TOKEN is not set, so the Hub is not asked for the stage"]
    for command in ("wake", "pause"):
        code, out, err = space(command, tmp_path, settings(hub))
        assert (code, out) == (2, [])
        [line] = err
        assert line.startswith("Error: HF_TOKEN is not set: only with a write token")
    assert hub.running
    assert hub.calls == []


def test_checking_the_status_does_not_wake_a_sleeping_space(tmp_path: Path, hub: Hub) -> None:
    hub.stage = "SLEEPING"
    code, out, _ = space("status", tmp_path, settings(hub, **HF_TOKEN))
    assert (code, out[1]) == (
        0, "Health   not asked: it is SLEEPING; `kronosbot space wake` wakes it",
    )  # fmt: skip
    assert hub.tokens == set(), "the Space was not asked"


def test_a_space_that_failed_shows_the_end_of_its_log_and_exits_1(tmp_path: Path, hub: Hub) -> None:
    hub.stage, hub.log = "RUNTIME_ERROR", ["MemoryError: the model is too large\n"]
    code, out, _ = space("status", tmp_path, settings(hub, **HF_TOKEN))
    assert code == 1
    assert out[0] == f"Space    {REPO}: RUNTIME_ERROR"
    assert out[-1] == "Log      MemoryError: the model is too large"

    hub.ends_as = "BUILD_ERROR"
    code, out, err = space("wake", tmp_path, settings(hub, **HF_TOKEN))
    assert (code, out) == (1, [])
    assert "BUILD_ERROR; MemoryError: the model is too large" in err[-1]
    assert "stop it with `kronosbot space pause`" in err[-1]


@pytest.mark.parametrize("command", ["status", "wake", "pause"])
def test_a_refused_token_exits_2_and_changes_nothing(
    tmp_path: Path, hub: Hub, command: str
) -> None:
    code, _, err = space(command, tmp_path, settings(hub, HF_TOKEN="hf_wrong"))
    assert code == 2
    assert err[-1].startswith("Error: ")
    assert "HF_TOKEN is not valid (401)" in err[-1]
    assert hub.starts == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_waking_that_is_interrupted_says_that_the_space_may_be_starting(
    tmp_path: Path, hub: Hub, number: int, code: int
) -> None:
    hub.ends_as = "APP_STARTING"
    environ = settings(hub, **HF_TOKEN, KRONOS_WAKE_TIMEOUT="600")
    process = commands.piped("tradingbot.kronosbot", "space", "wake", cwd=tmp_path, env=environ)
    while hub.actions().count("runtime") < 4:  # until it waits for the container
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert err.splitlines()[-1] == (
        f"Stopped by {name}; the Space may still be starting; stop it with `kronosbot space pause`"
    )
    assert "Traceback" not in err


def test_missing_settings_are_named(tmp_path: Path, hub: Hub) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("KRONOS_")}
    code, _, err = space("status", tmp_path, bare)
    assert (code, err) == (
        2,
        ["Error: neither HF_TOKEN nor KRONOS_SPACE_URL is set: set one of them"],
    )
    code, _, err = space("wake", tmp_path, {**bare, **HF_TOKEN, "HF_ENDPOINT": hub.url})
    assert code == 2
    assert err[0].startswith("Error: KRONOS_SPACE_URL is not set")
    assert hub.calls == []


DEFAULT_URL = "https://guestros-kronos-trading-api.hf.space"


@pytest.mark.parametrize(
    "arguments",
    [("run", "--dry-run", "--source", "sample"), ("space", "pause"), ("space", "wake"),
     ("space", "status")],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "KRONOS_SPACE_URL is not set"),
        ({"KRONOS_SPACE_URL": DEFAULT_URL}, "HF_SPACE_REPO is not set, and "),
        ({"KRONOS_SPACE_URL": DEFAULT_URL, "HF_SPACE_REPO": REPO.replace("someone", "me")},
         "KRONOS_SPACE_URL='"),
        ({"KRONOS_SPACE_URL": "https://my-own-kronos.hf.space"}, "HF_SPACE_REPO is not set: "),
        ({"KRONOS_SPACE_URL": "https://me:hf_test_token@host"}, "KRONOS_SPACE_URL has a user"),
    ],
)  # fmt: skip
def test_no_token_is_sent_before_the_owner_of_the_space_is_clear(
    arguments: tuple[str, ...], environ: dict[str, str], says: str, hub: Hub, tmp_path: Path
) -> None:
    here = {"HF_ENDPOINT": hub.url, "KRONOS_API_KEY": "k3y", **HF_TOKEN, **environ}
    done = commands.run(
        "tradingbot.kronosbot", *arguments, cwd=tmp_path, env={**os.environ, **here}
    )
    assert (done.returncode, done.stdout) == (2, "")
    *_, line = done.stderr.splitlines()
    assert line.startswith(f"Error: {says}")
    assert TOKEN not in done.stderr
    assert hub.calls == []
    assert not list(tmp_path.iterdir()), "no database was made either"


@pytest.mark.parametrize(
    ("environ", "first", "code"),
    [
        ({"HF_SPACE_REPO": REPO}, f"Waiting for {REPO} at http://127.0.0.1:9", 2),  # it is paused
        ({"HF_SPACE_REPO": REPO, **HF_TOKEN}, f"Waking {REPO} at http://127.0.0.1:9", 1),
        ({}, "Waiting for http://127.0.0.1:9", 1),
        (HF_TOKEN, "Waiting for http://127.0.0.1:9", 1),
    ],
)  # fmt: skip
def test_the_first_line_of_a_run_names_the_owner_of_the_space(
    environ: dict[str, str], first: str, code: int, hub: Hub, tmp_path: Path
) -> None:
    here = {"KRONOS_SPACE_URL": "http://127.0.0.1:9", "HF_ENDPOINT": hub.url,
            "KRONOS_WAKE_TIMEOUT": "1"}  # fmt: skip
    done = commands.run(
        "tradingbot.kronosbot", "run", "--dry-run", "--source", "sample",
        cwd=tmp_path, env={**os.environ, **here, **environ},
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert (done.returncode, lines[0]) == (code, first)
    unused = "HF_SPACE_REPO is not set, so the Space is neither woken nor paused"
    assert (unused in lines) is ("HF_TOKEN" in environ and "HF_SPACE_REPO" not in environ)


def test_without_a_command_the_commands_are_listed(tmp_path: Path) -> None:
    done = commands.run("tradingbot.kronosbot", "space", cwd=tmp_path, env=os.environ)
    for name in ("status", "wake", "pause", "HF_TOKEN", "Exit codes"):
        assert name in done.stdout + done.stderr
