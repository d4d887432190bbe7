"""`kronos-space publish`: upload a checkpoint to the Hub and download it, with the real client."""

import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from kronos_space.deployment import commands
from kronos_space.finetune.checkpoint import add_verdict, write_checkpoint
from kronos_space.finetune.verdict import in_words
from kronos_space.weights.checkpoint import load_checkpoint
from tests.support.commands import run
from tests.support.finetuning import ABOUT, GOOD, POOR, tiny_model
from tests.support.repository_hub import READ_TOKEN, TOKEN, Repository, RepositoryHub

# from huggingface_hub's upload of large files
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "me/tuned"
NOBODY = "http://127.0.0.1:9"  # the discard port: connections are refused
LOAD = """
import sys
from kronos_space.weights.checkpoint import CheckpointError, load_checkpoint
try:
    print(load_checkpoint(sys.argv[1]).name)
except CheckpointError as error:
    sys.exit(f"{error}")
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[RepositoryHub]:
    monkeypatch.setattr("kronos_space.deployment.hub.BACKOFF", 0.0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with RepositoryHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def poor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is no better than its base."""
    folder = tmp_path_factory.mktemp("publish") / "poor"
    write_checkpoint(folder, *tiny_model(), ABOUT)
    add_verdict(folder, in_words(POOR, "kronos-nano"))
    return folder


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "tuned"
    write_checkpoint(folder, *tiny_model(), ABOUT)
    add_verdict(folder, in_words(GOOD, "kronos-nano"))
    return folder


def publish(url: str, folder: Path, *more: str, token: str = TOKEN, repo: str = REPO) -> Result:
    env = {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HOME": str(folder.parent)}
    done = CliRunner().invoke(commands.app, ["publish", str(folder), repo, *more], env=env)
    assert not (token and token in done.output)
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit)
    return done


def load(url: str, home: Path, name: str, token: str) -> tuple[int, str]:
    env = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_TOKEN": token}
    done = run("-c", LOAD, name, cwd=home, env=os.environ | env, family="libraries")
    return done.returncode, (done.stdout or done.stderr).strip()


def test_a_checkpoint_is_published_privately_and_loaded_by_its_revision(
    hub: RepositoryHub, good: Path, tmp_path: Path
) -> None:
    done = publish(hub.url, good)

    assert done.exit_code == 0, done.output
    model = hub.models[REPO]
    assert model.private
    revision = f"{1:040x}"
    assert done.stdout.splitlines() == [
        f"{hub.url}/{REPO}/tree/{revision}",
        f"Use it: KRONOS_MODEL={REPO}@{revision}",
        "It is private: what loads it needs HF_TOKEN, a token that may read it",
    ]
    for name in ("README.md", "model/model.safetensors", "tokenizer/config.json"):
        assert model.files[name] == (good / name).read_bytes()
    home = tmp_path / "home"
    home.mkdir()
    name = f"{REPO}@{revision}"
    status, errors = load(hub.url, home, name, "hf_of_somebody_else")
    assert status == 1
    assert f"{REPO}@00000000 is not available from the Hub" in errors
    assert "HF_TOKEN if it is private" in errors
    assert load(hub.url, home, name, READ_TOKEN) == (0, load_checkpoint(str(good)).name)
    # the cached copy is used
    assert load(NOBODY, home, name, "") == (0, load_checkpoint(str(good)).name)


def test_no_path_of_this_machine_and_no_other_file_is_published(
    hub: RepositoryHub, good: Path
) -> None:
    (good / "notes.txt").write_text("mine")
    publish(hub.url, good)
    files = hub.models[REPO].files
    assert not [name for name, content in files.items() if ABOUT["base_path"].encode() in content]
    assert set(files) - {".gitattributes"} == {
        "README.md", "kronos.json",
        *(f"{part}/{file}" for part in ("model", "tokenizer")
          for file in ("config.json", "model.safetensors")),
    }  # fmt: skip
    published = json.loads(files["kronos.json"])
    assert published["verdict"]["better"]
    assert (published["until"], published["recipe"]) == (ABOUT["until"], ABOUT["recipe"])


def test_a_second_run_changes_nothing_and_a_changed_card_is_a_new_revision(
    hub: RepositoryHub, good: Path
) -> None:
    first = publish(hub.url, good, "--public")
    hub.calls.clear()

    second = publish(hub.url, good, "--public")
    assert (second.stdout, hub.changes()) == (first.stdout, [])
    assert second.stderr == "nothing to change\n"
    assert "private" not in second.stdout

    (good / "README.md").write_text("# by hand")
    third = publish(hub.url, good)
    assert hub.changes() == ["commit"]
    assert third.stderr == "upload README.md\n"
    assert f"KRONOS_MODEL={REPO}@{2:040x}" in third.stdout
    assert not hub.models[REPO].private  # unchanged


def test_a_checkpoint_that_is_not_better_needs_force_to_be_published(
    hub: RepositoryHub, poor: Path
) -> None:
    refused = publish(hub.url, poor)
    assert refused.exit_code == 1
    assert "not better than kronos-nano" in refused.stderr
    assert "--force publishes it anyway" in refused.stderr
    assert hub.calls == []
    assert publish(hub.url, poor, "--force").exit_code == 0
    assert b"not better than kronos-nano" in hub.models[REPO].files["README.md"]


@pytest.mark.parametrize(
    ("token", "repo", "faults", "status", "says"),
    [
        ("", REPO, {}, 2, "HF_TOKEN is not set"),
        ("hf_wrong", REPO, {}, 2, "the token is not valid (401)"),
        (READ_TOKEN, REPO, {}, 2, "the token may not do this (403)"),
        (TOKEN, "tuned", {}, 2, "'tuned': expected OWNER/NAME"),
        (TOKEN, "me/tu ned", {}, 2, "'me/tu ned': "),
        (TOKEN, REPO, {"create": [409]}, 2, "the Hub has something else of that name"),
        (TOKEN, REPO, {"whoami": ["hang"] * 3}, 1, "in 3 attempts: ReadTimeout"),
        (TOKEN, REPO, {"commit": [500] * 3}, 1, "could not take the files in 3 attempts"),
    ],
)
def test_a_refusal_of_the_hub_is_a_one_line_error(
    hub: RepositoryHub,
    poor: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    repo: str,
    faults: dict[str, list[int | str]],
    status: int,
    says: str,
) -> None:
    monkeypatch.setattr("kronos_space.deployment.http.CALL_TIMEOUT", 0.3)
    hub.faults |= {action: deque(planned) for action, planned in faults.items()}
    done = publish(hub.url, poor, "--force", token=token, repo=repo)
    assert (done.exit_code, done.stdout) == (status, ""), hub.calls
    assert says in done.stderr.splitlines()[-1]
    assert not any(model.commits for model in hub.models.values())


def test_a_hub_out_of_reach_is_a_one_line_error(poor: Path, hub: RepositoryHub) -> None:
    done = publish(NOBODY, poor, "--force")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "ConnectError" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_repository_of_another_model_is_left_alone(hub: RepositoryHub, poor: Path) -> None:
    hub.models[REPO] = Repository()
    hub.models[REPO].files |= {"config.json": b"{}", "model.safetensors": b"bert"}
    done = publish(hub.url, poor, "--force")
    assert done.exit_code == 2
    assert "me/tuned is another model (config.json, model.safetensors, …)" in done.stderr
    assert hub.changes() == []


def test_a_damaged_checkpoint_is_not_published(hub: RepositoryHub, good: Path) -> None:
    (good / "model" / "model.safetensors").write_bytes(b"half")
    done = publish(hub.url, good)
    assert done.exit_code == 1
    assert "not a checkpoint of Kronos, or damaged" in done.stderr
    assert hub.calls == []


def test_the_same_command_finishes_an_interrupted_upload(hub: RepositoryHub, good: Path) -> None:
    hub.faults["commit"] += [500] * 3
    assert publish(hub.url, good).exit_code == 1
    assert publish(hub.url, good).exit_code == 0
    assert hub.changes() == ["create", "commit"]


def test_a_revision_must_be_given_in_full(tmp_path: Path) -> None:
    env = {"KRONOS_MODEL": "me/tuned@main"}
    started = run("kronos_space", "--port", "1", cwd=tmp_path, env=os.environ | env)
    assert started.returncode == 2
    assert "OWNER/NAME@REVISION" in started.stderr
