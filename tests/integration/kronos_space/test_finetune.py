"""`kronos-space finetune`: from CSV files to an evaluated checkpoint, with real Spaces."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from kronos_space.weights.checkpoint import load_checkpoint
from tests.support.commands import piped, run
from tests.support.finetuning import write_place

COMMAND = "kronos_space.deployment.commands"
ENV = os.environ | {"KRONOS_THREADS": "1", "KRONOS_SAMPLES": "10"}
# importing torch takes a second
run, piped = partial(run, family="space"), partial(piped, family="space")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with candles of two tickers, and a small checkpoint to start from."""
    folder = tmp_path_factory.mktemp("finetune")
    write_place(folder)
    return folder


def arguments(out: str, *more: str) -> list[str]:
    given = ["--source", "csv:candles", "--base", "base", "--steps", "20", "--out", out, *more]
    return ["finetune", *given]


def test_a_checkpoint_is_trained_judged_and_can_be_served(place: Path) -> None:
    done = run(COMMAND, *arguments("tuned"), cwd=place, env=ENV)
    assert done.returncode == 0, done.stderr
    assert "step 20: validation loss" in done.stderr
    about = json.loads((place / "tuned" / "kronos.json").read_text())
    assert about["verdict"]["n"] > 200
    assert f"{about['name']}: {about['verdict']['sentence']}" in done.stdout
    assert load_checkpoint(str(place / "tuned")).name == about["name"] == f"tiny+{about['until']}"
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("tuned")) == [
        "tuned"
    ]
    promoted = run(COMMAND, "promote", "tuned", "served", "--force", cwd=place, env=ENV)
    assert promoted.returncode == 0, promoted.stderr
    assert load_checkpoint(str(place / "served")).name == about["name"]
    again = run(COMMAND, *arguments("tuned"), cwd=place, env=ENV)
    assert (again.returncode, again.stdout) == (1, "")
    assert "tuned exists already; give another --out" in again.stderr


def test_ctrl_c_leaves_the_best_weights_as_a_checkpoint_without_a_verdict(place: Path) -> None:
    first = piped(COMMAND, *arguments("stopped", "--steps", "600"), cwd=place, env=ENV)
    output = ""
    while output.startswith("step 0:") or "(best so far)" not in output:
        output = first.stderr.readline()
        assert output, "it ended by itself"
    beside = run(COMMAND, *arguments("stopped", "--steps", "600"), cwd=place, env=ENV)
    assert (beside.returncode, beside.stdout) == (1, "")
    assert "Error: stopped is being written by another finetune (stopped.lock)" in beside.stderr
    first.send_signal(signal.SIGINT)
    _, rest = first.communicate(timeout=120)
    assert first.returncode == 130
    kept, last = rest.splitlines()[-2:]
    assert kept.startswith("stopped holds the best weights so far, of step ")
    assert last == "Stopped by Ctrl-C; the same command resumes"
    assert load_checkpoint(str(place / "stopped")).name.startswith("tiny+")
    card = (place / "stopped" / "README.md").read_text()
    assert "**No verdict.**" in card
    assert "0 of 600." in card
    refused = run(COMMAND, "promote", "stopped", "served2", cwd=place, env=ENV)
    assert "it has no verdict" in refused.stderr
    other = run(COMMAND, *arguments("stopped"), cwd=place, env=ENV)
    assert other.returncode == 1
    assert "stopped exists already with another --steps; give another --out" in other.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--until", "2016-08-19"], "3 sessions are left for the verdict"),
        (["--until", "2015-02-01"], "32 sessions are left to learn from"),
        (["--symbols", "NOSUCH"], "NOSUCH"),
        (["--source", "csv:nowhere"], "csv:nowhere: no such folder"),
        (["--source", "nonsense"], "--source='nonsense': expected"),
        (["--base", "no-such-model"], "neither a known model nor a folder"),
    ],
)
def test_a_mistake_is_a_one_line_error(place: Path, given: list[str], message: str) -> None:
    done = run(COMMAND, *arguments("refused", *given), cwd=place, env=ENV)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "refused").exists()
