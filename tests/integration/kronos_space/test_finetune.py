"""`kronos-space finetune`: from CSV files to a checkpoint with its verdict, by real Spaces."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from kronos_space.weights.checkpoint import load_checkpoint
from tests.support.commands import piped, run
from tests.support.finetuning import candles, tiny_model

COMMAND = "kronos_space.deployment.commands"
BARS = 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with candles of two tickers, and a small checkpoint to start from."""
    folder = tmp_path_factory.mktemp("finetune")
    (folder / "candles").mkdir()
    days = pd.date_range("2015-01-01", periods=600)
    for number, symbol in enumerate(("AAA-USD", "BBB-USD")):
        values = candles(symbol, bars=600, seed=number).values[:, :5]
        frame = pd.DataFrame(values, days, ["open", "high", "low", "close", "volume"])
        frame.to_csv(folder / "candles" / f"{symbol}.csv", index_label="date")
    model, tokenizer = tiny_model()
    model.save_pretrained(folder / "base" / "model")
    tokenizer.save_pretrained(folder / "base" / "tokenizer")
    (folder / "base" / "kronos.json").write_text(json.dumps({"name": "tiny", "max_context": BARS}))
    return folder


def arguments(out: str, *more: str) -> list[str]:
    given = ["--source", "csv:candles", "--base", "base", "--steps", "20", "--out", out, *more]
    return ["finetune", *given]


def test_a_checkpoint_is_trained_judged_and_can_be_served(place: Path) -> None:
    done = run(COMMAND, *arguments("tuned"), cwd=place, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "step 20: validation loss" in done.stderr
    about = json.loads((place / "tuned" / "kronos.json").read_text())
    assert about["verdict"]["n"] > 200
    assert f"{about['name']}: {about['verdict']['sentence']}" in done.stdout
    assert load_checkpoint(str(place / "tuned")).name == about["name"] == f"tiny+{about['until']}"
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("tuned")) == [
        "tuned"
    ]
    promoted = run(COMMAND, "promote", "tuned", "served", "--force", cwd=place, env=os.environ)
    assert promoted.returncode == 0, promoted.stderr
    assert load_checkpoint(str(place / "served")).name == about["name"]
    again = run(COMMAND, *arguments("tuned"), cwd=place, env=os.environ)
    assert (again.returncode, again.stdout) == (1, "")
    assert "tuned is there already; give another --out" in again.stderr


def test_after_ctrl_c_the_same_command_goes_on(place: Path) -> None:
    first = piped(COMMAND, *arguments("stopped", "--steps", "100000"), cwd=place, env=os.environ)
    said = ""
    while "step 5000:" not in said and "(best so far)" not in said:
        said = first.stderr.readline()
        assert said, "it ended by itself"
    first.send_signal(signal.SIGINT)
    _, rest = first.communicate(timeout=120)
    assert first.returncode == 130
    assert rest.splitlines()[-1] == "Stopped by Ctrl-C; the same command goes on"
    assert not (place / "stopped").exists()
    other = run(COMMAND, *arguments("stopped"), cwd=place, env=os.environ)
    assert other.returncode == 1
    assert "stopped.work holds a training with other settings (recipe)" in other.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--until", "2016-08-19"], "3 sessions are left for the verdict"),
        (["--until", "2015-02-01"], "32 sessions are left to learn from"),
        (["--symbols", "NOSUCH"], "NOSUCH"),
        (["--source", "csv:nowhere"], "csv:nowhere: no such folder"),
        (["--source", "nonsense"], "--source='nonsense': expected"),
        (["--base", "no-such-model"], "neither a known model nor a folder"),
    ],
)
def test_a_mistake_is_one_line(place: Path, given: list[str], told: str) -> None:
    done = run(COMMAND, *arguments("refused", *given), cwd=place, env=os.environ)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "refused").exists()
