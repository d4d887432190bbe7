"""`kronos-space deploy` as a process, with the real client and a Hub over HTTP."""

import json
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

import kronos_space
from kronos_space.deployment import commands
from kronos_space.deployment.errors import HubError
from kronos_space.deployment.hub import HubSpace
from tests.support.commands import piped, run
from tests.support.repository_hub import READ_TOKEN, TOKEN, Repository, RepositoryHub

FOLDER = Path(kronos_space.__file__).parent
REPO = "me/kronos"
SECRET = "s3cr3t-of-the-test"
# Short pauses; the seconds of a call are few only where the Hub hangs, because a loaded machine may
# need a second for an answer.
# The bots' machines have no torch and no web server, and can deploy too.
QUICK = """
import sys
sys.modules |= dict.fromkeys(("torch", "transformers", "fastapi", "tradingbot"))
from kronos_space.deployment import commands, http, hub, waiting
http.CALL_TIMEOUT, hub.BACKOFF, waiting.POLL = {seconds}, 0.05, 0.05
commands.main()
"""


@dataclass
class Done:
    code: int
    out: str  # standard output: the address and /health, or the planned changes
    err: str  # standard error: the progress

    @property
    def last(self) -> str:
        return self.err.splitlines()[-1]


@pytest.fixture
def hub() -> Iterator[RepositoryHub]:
    with RepositoryHub() as hub:
        yield hub


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def environment(hub: RepositoryHub, home: Path, **env: str) -> dict[str, str]:
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "KRONOS_"))
    }
    ours |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home)}
    return ours | {"HF_HUB_DISABLE_XET": "1"} | env  # LFS over HTTP, which the test Hub supports


def deploy(
    hub: RepositoryHub,
    home: Path,
    *arguments: str,
    token: str = TOKEN,
    repo: str = REPO,
    seconds: float = 60.0,
    **env: str,
) -> Done:
    environ = environment(hub, home, HF_TOKEN=token) | env
    quick = QUICK.format(seconds=seconds)
    done = run("-c", quick, "deploy", repo, *arguments, cwd=home, env=environ, family="libraries")
    print(done.stdout, done.stderr)  # noqa: T201
    for text in (done.stdout, done.stderr):
        assert SECRET not in text
        assert token not in text
        assert "Traceback" not in text
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_first_deploy_creates_builds_and_reports_the_space(
    hub: RepositoryHub, home: Path
) -> None:
    done = deploy(hub, home, "--variable", "KRONOS_THREADS=2", "--secret", "KRONOS_API_KEY",
        KRONOS_API_KEY=f"{SECRET}\n")  # fmt: skip

    assert done.code == 0
    address, health = done.out.splitlines()
    assert address == f"{hub.url}/{REPO}"
    assert json.loads(health)["status"] == "ok"
    space = hub.spaces[REPO]
    assert hub.changes() == ["create", "add-variable", "add-secret", "commit"]
    assert space.variables == {"KRONOS_THREADS": "2"}
    assert space.secrets["KRONOS_API_KEY"]["value"] == SECRET
    for file in ("README.md", "Dockerfile", ".dockerignore", "engine/engine.py",
                 "checkpoints/kronos-nano/model/model.safetensors"):  # fmt: skip
        assert space.files[file] == (FOLDER / file).read_bytes()
    for left in ("__pycache__", "verification/", "deployment/", "finetune/"):
        assert not [file for file in space.files if left in file]
    stages = [line.split()[0] for line in done.err.splitlines() if line.endswith(" s")]
    assert stages == ["BUILDING", "APP_STARTING", "RUNNING"]


def test_a_second_deploy_changes_nothing(hub: RepositoryHub, home: Path) -> None:
    settings = ("--variable", "KRONOS_THREADS=2", "--secret", "KRONOS_API_KEY")
    deploy(hub, home, *settings, KRONOS_API_KEY=SECRET)
    hub.calls.clear()

    done = deploy(hub, home, *settings, KRONOS_API_KEY=SECRET)

    assert (done.code, hub.changes()) == (0, [])
    assert done.err.splitlines()[0] == "nothing to change"
    assert json.loads(done.out.splitlines()[1])["boot_id"] == "1"


def test_only_differences_are_changed_and_the_new_container_is_awaited(
    hub: RepositoryHub, home: Path
) -> None:
    deploy(hub, home, "--secret", "KRONOS_API_KEY", KRONOS_API_KEY="another")
    space = hub.spaces[REPO]
    space.files["README.md"] = b"changed by hand"
    space.files["checkpoints/kronos-nano/model/model.safetensors"] += b"changed"
    space.files["old.py"] = b"gone since"
    hub.calls.clear()

    done = deploy(hub, home, "--secret", "KRONOS_API_KEY", KRONOS_API_KEY=SECRET)

    assert (done.code, hub.changes()) == (0, ["add-secret", "commit"])
    assert done.err.splitlines()[:4] == [
        "set the secret KRONOS_API_KEY",
        "upload README.md",
        "upload checkpoints/kronos-nano/model/model.safetensors",
        "delete old.py",
    ]
    assert space.files["README.md"] == (FOLDER / "README.md").read_bytes()
    assert "old.py" not in space.files
    assert ".gitattributes" in space.files
    assert json.loads(done.out.splitlines()[1])["boot_id"] == "2"
    assert "RUNNING_BUILDING after" in done.err


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    hub: RepositoryHub, home: Path
) -> None:
    done = deploy(hub, home, "--dry-run", "--variable", "KRONOS_THREADS=2",
        "--secret", "KRONOS_API_KEY", KRONOS_API_KEY=SECRET)  # fmt: skip

    assert (done.code, hub.changes(), hub.spaces) == (0, [], {})
    lines = done.out.splitlines()
    assert lines[:3] == [
        "would create the Space",
        "would set the variable KRONOS_THREADS=2",
        "would set the secret KRONOS_API_KEY",
    ]
    assert "would upload Dockerfile" in lines


def test_a_dry_run_after_a_deploy_says_that_nothing_would_change(
    hub: RepositoryHub, home: Path
) -> None:
    deploy(hub, home, "--no-wait")
    assert deploy(hub, home, "--dry-run").out == "nothing would change\n"


def test_a_paused_space_is_left_alone_when_nothing_differs_and_restarted_when_something_does(
    hub: RepositoryHub, home: Path
) -> None:
    deploy(hub, home)
    hub.spaces[REPO].stage = "PAUSED"
    hub.calls.clear()

    same = deploy(hub, home)
    assert (same.code, hub.changes()) == (0, [])
    assert same.last.startswith("it is PAUSED, and was not woken")

    other = deploy(hub, home, "--variable", "KRONOS_THREADS=1")
    assert (other.code, hub.changes()) == (0, ["add-variable", "restart"])
    assert "it was PAUSED: restarting" in other.err
    assert json.loads(other.out.splitlines()[1])["boot_id"] == "2"


@pytest.mark.parametrize("file", ["forecaster.py", "forecasting/forecaster.py"])
def test_a_space_of_an_earlier_version_counts_as_ours(
    file: str, hub: RepositoryHub, home: Path
) -> None:
    hub.spaces[REPO] = space = Repository()
    space.files |= {"app.py": b"of an earlier version", file: b"of an earlier version"}
    done = deploy(hub, home, "--dry-run")
    assert done.code == 0, done.err


def test_a_space_that_holds_another_application_is_left_alone(
    hub: RepositoryHub, home: Path
) -> None:
    hub.spaces[REPO] = space = Repository()
    space.files |= {"README.md": b"my demo", "app.py": b"import gradio"}
    before = dict(space.files)

    for arguments in ((), ("--dry-run",)):
        done = deploy(hub, home, *arguments, "--variable", "KRONOS_THREADS=2")
        assert (done.code, hub.changes(), space.files) == (2, [], before)
        assert "me/kronos is another application (app.py, …), whose files would be" in done.last


def test_a_space_that_was_made_on_the_website_and_is_still_empty_is_filled(
    hub: RepositoryHub, home: Path
) -> None:
    hub.spaces[REPO] = Repository()
    hub.spaces[REPO].files["README.md"] = b"---\ntitle: Kronos\n---"
    assert deploy(hub, home).code == 0
    assert hub.spaces[REPO].files["README.md"] == (FOLDER / "README.md").read_bytes()


def test_an_upload_that_is_interrupted_is_finished_by_the_next_run(
    hub: RepositoryHub, home: Path
) -> None:
    hub.faults["commit"] += ["hang"] * 3
    first = deploy(hub, home, "--variable", "KRONOS_THREADS=2", seconds=1.0)
    assert first.code == 1
    assert "the Hub could not take the files in 3 attempts" in first.last

    second = deploy(hub, home, "--variable", "KRONOS_THREADS=2")
    assert (second.code, hub.changes()) == (0, ["create", "add-variable", "commit"])
    assert deploy(hub, home, "--dry-run").out == "nothing would change\n"


def test_ctrl_c_while_it_waits_leaves_the_space_to_the_hub_and_ends_with_130(home: Path) -> None:
    with RepositoryHub(build=("BUILDING",)) as hub:
        environ = environment(hub, home)
        quick = QUICK.format(seconds=60.0)
        process = piped("-c", quick, "deploy", REPO, env=environ, family="libraries")
        output = [process.stdout.readline()]  # the address appears when the upload is complete
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert (output, out) == ([f"{hub.url}/{REPO}\n"], "")
    assert err.endswith("stopped; changes made so far stay, and the Hub continues with them\n")
    assert "Traceback" not in err
    assert hub.spaces[REPO].commits == 1


def test_a_build_that_fails_ends_with_the_tail_of_its_log_and_exit_code_1(home: Path) -> None:
    with RepositoryHub(build=("BUILDING", "BUILD_ERROR")) as hub:
        done = deploy(hub, home)
    assert done.code == 1
    assert done.last == "Error: me/kronos: BUILD_ERROR: ERROR: no space left"
    tail = [line for line in done.err.splitlines() if line.startswith("| ")]
    assert tail[-2:] == ["| step 99", "| ERROR: no space left"]
    assert len(tail) == 20


def test_a_space_that_dies_at_its_start_ends_with_the_tail_of_the_run_log(home: Path) -> None:
    with RepositoryHub(build=("BUILDING", "APP_STARTING", "RUNTIME_ERROR")) as hub:
        hub.log = ["kronos_space: KRONOS_MODEL='x': neither a known model nor a folder\n"]
        done = deploy(hub, home, "--variable", "KRONOS_MODEL=x")
    assert done.code == 1
    assert "| this is the run log" in done.err
    assert "RUNTIME_ERROR: kronos_space: KRONOS_MODEL='x'" in done.last


def test_a_json_log_shows_the_message_of_its_last_line(home: Path) -> None:
    with RepositoryHub(build=("BUILDING", "APP_STARTING", "RUNTIME_ERROR")) as hub:
        hub.log = ['{"level": "CRITICAL", "message": "KRONOS_MODEL=x: not known"}\n']
        done = deploy(hub, home, "--variable", "KRONOS_MODEL=x")
    assert done.last == "Error: me/kronos: RUNTIME_ERROR: KRONOS_MODEL=x: not known"


def test_a_space_that_does_not_come_up_in_time_is_reported_with_its_stage(home: Path) -> None:
    with RepositoryHub(build=("BUILDING",)) as hub:
        done = deploy(hub, home, "--timeout", "1")
    assert done.code == 1
    assert "not up within 1 s: stage BUILDING" in done.last


def test_without_waiting_the_address_is_printed_at_once(home: Path) -> None:
    with RepositoryHub(build=("BUILDING",)) as hub:
        done = deploy(hub, home, "--no-wait")
        assert (done.code, done.out) == (0, f"{hub.url}/{REPO}\n")


def test_a_private_space_is_created_private_and_its_visitor_token_stays_with_the_hub(
    hub: RepositoryHub, home: Path
) -> None:
    done = deploy(hub, home, "--private", "--timeout", "1")

    assert hub.spaces[REPO].private
    assert done.code == 1  # the test Hub's address is not under hf.space, so it gets no token
    assert hub.health_tokens == {None}


def test_a_public_space_is_made_private_when_asked(hub: RepositoryHub, home: Path) -> None:
    deploy(hub, home, "--no-wait")
    hub.calls.clear()

    done = deploy(hub, home, "--private", "--no-wait")

    assert (done.code, hub.changes()) == (0, ["settings"])
    assert hub.spaces[REPO].private


@pytest.mark.parametrize(
    ("token", "arguments", "says"),
    [
        ("", (), "HF_TOKEN is not set"),
        ("hf_wrong", (), "the token is not valid (401)"),
        ("hf_wrong", ("--dry-run",), "the token is not valid (401)"),
        (READ_TOKEN, (), "the token may not do this (403)"),
    ],
)
def test_a_missing_or_refused_token_is_a_one_line_error_with_exit_code_2(
    hub: RepositoryHub, home: Path, token: str, arguments: tuple[str, ...], says: str
) -> None:
    # an empty token would occur in every text
    done = deploy(hub, home, *arguments, token=token or "\0", HF_TOKEN=token)
    assert done.code == 2
    assert says in done.last
    assert hub.changes() == []


@pytest.mark.parametrize(
    ("repo", "arguments", "says"),
    [
        ("kronos", (), "'kronos': expected OWNER/NAME"),
        ("me/kro nos", (), "'me/kro nos': "),
        ("me/kronos..", (), "'me/kronos..': "),
        (REPO, ("--variable", "KRONOS_MAX_BATCH"), "expected NAME=VALUE"),
        (REPO, ("--variable", "KRONOS_MAX_BATCH=0"), "KRONOS_MAX_BATCH='0': expected a whole"),
        (REPO, ("--variable", "A-B=0"), "'A-B': expected a name of letters, digits and _"),
        (REPO, ("--variable", "KRONOS_API_KEY=x"), "anyone can read a variable"),
        (REPO, ("--variable", f"HF_TOKEN={SECRET}"), "HF_TOKEN: anyone can read a variable"),
        (REPO, ("--variable", f"db_password={SECRET}"), "anyone can read a variable"),
        (REPO, ("--secret", "KRONOS_API_KEY"), "KRONOS_API_KEY is not set in the environment"),
        (REPO, ("--secret", f"KRONOS_API_KEY={SECRET}"), "a command line is not safe"),
        (REPO, ("--secret", "HOME", "--variable", "HOME=x"), "as a variable and as a secret"),
    ],
)
def test_invalid_arguments_are_refused_with_exit_code_2_before_any_request(
    repo: str, arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos_space.deployment.run.HubSpace", None)
    done = CliRunner().invoke(commands.app, ["deploy", repo, *arguments], env={"HF_TOKEN": TOKEN})
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.output == done.stderr
    assert done.output.count("\n") == 1
    assert SECRET not in done.output


@pytest.mark.parametrize("url", [f"https://me:{SECRET}@hub", f"https://hub?key={SECRET}"])
def test_an_address_of_the_hub_with_a_secret_in_it_is_refused_and_hidden(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos_space.deployment.run.HubSpace", None)
    env = {"HF_TOKEN": TOKEN, "HF_ENDPOINT": url}
    done = CliRunner().invoke(commands.app, ["deploy", REPO], env=env)
    assert done.exit_code == 2
    assert done.output.startswith("Error: HF_ENDPOINT has a user, a password or a query")
    assert SECRET not in done.output


def test_a_hub_that_hangs_or_fails_briefly_is_retried(hub: RepositoryHub, home: Path) -> None:
    hub.faults |= {
        "whoami": deque([500]),
        "create": deque([503]),
        "commit": deque([504]),
        "runtime": deque(["hang", 500, 429]),
    }
    assert deploy(hub, home, seconds=1.0).code == 0
    assert hub.spaces[REPO].commits == 1


def test_a_hub_that_keeps_failing_is_a_one_line_error_with_exit_code_1(
    hub: RepositoryHub, home: Path
) -> None:
    hub.faults["info"] += [500] * 20
    done = deploy(hub, home)
    assert done.code == 1
    assert done.last == (
        "Error: me/kronos: the Hub could not describe the Space in 3 attempts: it answered 500; "
        "try again later"
    )
    assert hub.changes() == []


@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("whoami", lambda space: space.check_token()),
        ("info", lambda space: space.info()),
        ("variables", lambda space: space.variables()),
        ("secrets", lambda space: space.secrets()),
        ("runtime", lambda space: space.stage()),
        ("create", lambda space: space.create(private=False)),
        ("settings", lambda space: space.make_private()),
        ("add-variable", lambda space: space.set_variable("A", "1")),
        ("add-secret", lambda space: space.set_secret("A", "1", description="")),
        (
            "commit",
            lambda space: space.commit({"README.md": FOLDER / "README.md"}, [], message="x"),
        ),
        ("restart", lambda space: space.restart()),
    ],
)
def test_no_call_to_a_hanging_hub_waits_for_ever(
    hub: RepositoryHub,
    action: str,
    call: Callable[[HubSpace], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kronos_space.deployment.http.CALL_TIMEOUT", 0.1)
    monkeypatch.setattr("kronos_space.deployment.hub.BACKOFF", 0.0)
    hub.spaces[REPO] = Repository()
    hub.faults[action] += ["hang"] * 3
    with pytest.raises(HubError, match="in 3 attempts: ReadTimeout"):
        call(HubSpace(REPO, TOKEN, endpoint=hub.url))


def test_a_hub_that_cannot_be_reached_is_a_one_line_error_with_exit_code_1(home: Path) -> None:
    hub = RepositoryHub()
    hub._server.server_close()
    done = deploy(hub, home)
    assert done.code == 1
    assert "in 3 attempts: ConnectError" in done.last


def test_a_stale_error_of_the_last_build_does_not_end_the_wait_for_the_new_one(
    home: Path,
) -> None:
    with RepositoryHub(build=("BUILD_ERROR", "BUILDING", "APP_STARTING", "RUNNING")) as hub:
        hub.spaces[REPO] = Repository()
        done = deploy(hub, home)
    assert done.code == 0
    assert "BUILD_ERROR after 0 s" in done.err
