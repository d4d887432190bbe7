"""Complete fine-tuning runs: reproducible, without future data, and resumable."""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from signal import SIGINT
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file

from kronos_space.finetune import run
from kronos_space.finetune.checkpoint import read_about
from kronos_space.finetune.errors import FinetuneError
from kronos_space.finetune.folder_lock import only_writer
from kronos_space.finetune.verdict import in_words
from kronos_space.weights.checkpoint import load_checkpoint
from tests.support.finetuning import GOOD, write_place
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped
from tradingbot.settings import Settings

pytestmark = pytest.mark.slow


class RecordingReporter(ProgressReporter):
    """Record progress messages. With `until`, stop at that step's validation, as by Ctrl-C."""

    def __init__(self, until: int | None = None, by: BaseException | None = None) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.until = until
        self.by = by or Stopped(SIGINT)

    def say(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(f"step {self.until}:"):
            raise self.by


def job_in(folder: Path) -> run.Job:
    write_place(folder)
    return run.Job(
        source=f"csv:{folder / 'candles'}", symbols=(), until=date(2016, 3, 31), steps=20,
        base=str(folder / "base"), seed=0, out=folder / "tuned",
    )  # fmt: skip


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> run.Job:
    monkeypatch.setattr(run, "judge", lambda *_: in_words(GOOD, "tiny"))
    return job_in(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """Return the weights of the job, trained in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "judge", lambda *_: in_words(GOOD, "tiny"))
        job = job_in(tmp_path_factory.mktemp("uninterrupted"))
        tuned(job)
    return weights(job.out)


def tuned(job: run.Job, reporter: RecordingReporter | None = None) -> dict[str, Any]:
    settings = replace(Settings.from_env({}), data_source=job.source)
    return run.finetune(job, settings, reporter or RecordingReporter())


def weights(folder: Path) -> dict[str, list[float]]:
    found = load_file(folder / "model" / "model.safetensors")
    return {name: weight.flatten().tolist() for name, weight in found.items()}


def poison(folder: Path, after: date) -> None:
    """Raise the prices after a day by a third."""
    for path in folder.glob("*.csv"):
        frame = pd.read_csv(path, index_col="date", parse_dates=True)
        frame.loc[frame.index > pd.Timestamp(after), ["open", "high", "low", "close"]] *= 1.3
        frame.to_csv(path)


def test_the_same_command_gives_the_same_weights_for_any_prices_after_until(
    job: run.Job, tmp_path: Path
) -> None:
    tuned(job)
    again, other = (
        replace(job, out=tmp_path / "again"),
        replace(job, out=tmp_path / "other", seed=1),
    )
    assert job.until is not None
    poison(tmp_path / "candles", after=job.until)
    tuned(again)
    assert weights(again.out) == weights(job.out)
    tuned(other)
    assert weights(other.out) != weights(job.out)
    known, later = (
        {**read_about(out), "source": "", "base_path": ""} for out in (job.out, again.out)
    )
    assert known == later


def test_a_training_that_was_stopped_is_a_checkpoint_and_continues_to_the_same_weights(
    job: run.Job, tmp_path: Path, uninterrupted: dict[str, list[float]]
) -> None:
    stopped = RecordingReporter(until=10)  # that step has been saved
    with pytest.raises(Stopped):
        tuned(job, stopped)
    assert "holds the best weights so far" in stopped.lines[-1]
    about = read_about(job.out)
    assert "verdict" not in about
    assert about["unfinished"].startswith("Training was stopped after step 10 of 20")
    assert load_checkpoint(str(job.out)).name == about["name"]

    going_on = RecordingReporter()
    finished = tuned(job, going_on)
    assert "Resuming after step 10 of 20" in going_on.lines
    assert "unfinished" not in finished
    assert weights(job.out) == uninterrupted
    assert {path.name for path in tmp_path.iterdir()} == {"base", "candles", "tuned"}


@pytest.mark.parametrize(
    ("change", "named"), [({"steps": 21}, "--steps"), ({"seed": 3}, "--seed"),
                          ({"base": "kronos-nano"}, "--base")]
)  # fmt: skip
def test_files_of_another_command_are_left_unchanged(
    job: run.Job, change: Mapping[str, Any], named: str
) -> None:
    tuned(job)
    before = read_about(job.out)
    with pytest.raises(FinetuneError, match=f"exists already with another {named}; give another"):
        tuned(replace(job, **change))
    with pytest.raises(FinetuneError, match="exists already; give another --out"):
        tuned(job)
    assert read_about(job.out) == before


@pytest.mark.parametrize(
    ("change", "horizon", "message"),
    [
        ({"base": "nowhere"}, 5, "--base='nowhere': neither a known model nor a folder"),
        ({}, 40, "KRONOS_HORIZON=40: tiny sees 64 bars, of which 32 must be history"),
        ({"symbols": ("AAA-USD",)}, 5, "there are no candles"),  # constant closes
    ],
)
def test_data_too_short_for_a_verdict_is_reported_before_training(
    job: run.Job, tmp_path: Path, change: Mapping[str, Any], horizon: int, message: str
) -> None:
    path = tmp_path / "candles" / "AAA-USD.csv"
    pd.read_csv(path).assign(open=9.0, high=9.0, low=9.0, close=9.0).to_csv(path, index=False)
    settings = replace(Settings.from_env({}), data_source=job.source, horizon=horizon)
    with pytest.raises(FinetuneError, match=message):
        run.finetune(replace(job, **change), settings, RecordingReporter())
    assert {path.name for path in tmp_path.iterdir()} == {"base", "candles"}


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Limit file sizes, so that writes fail as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# the state file exceeds these sizes at different steps
@pytest.mark.parametrize("size", [1_000, 90_000])
def test_after_a_full_disk_the_same_command_continues(
    job: run.Job, tmp_path: Path, size: int
) -> None:
    with no_file_above(size), pytest.raises(FinetuneError, match="cannot be written: ") as refused:
        tuned(job)
    assert "\n" not in str(refused.value)
    assert not job.out.exists()
    assert not list(tmp_path.rglob("*.part"))
    assert "verdict" in tuned(job)


@pytest.mark.parametrize("step", [0, 5, 20])
def test_a_killed_training_continues_to_the_same_weights(
    job: run.Job, step: int, uninterrupted: dict[str, list[float]]
) -> None:
    """The training is killed at a validation, before its result is on disk."""
    with pytest.raises(ZeroDivisionError):
        tuned(job, RecordingReporter(until=step, by=ZeroDivisionError()))
    tuned(job)
    assert weights(job.out) == uninterrupted


def test_a_stopped_training_without_its_state_does_not_overwrite_its_checkpoint(
    job: run.Job,
) -> None:
    with pytest.raises(Stopped):
        tuned(job, RecordingReporter(until=10))
    job.out.with_name("tuned.work").joinpath("training.pt").unlink()
    with pytest.raises(FinetuneError, match="exists already; give another --out"):
        tuned(job)


def test_a_folder_has_one_writer_and_a_killed_writer_holds_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "tuned"
    with only_writer(folder):
        for _ in range(2):
            with pytest.raises(FinetuneError, match="another finetune"), only_writer(folder):
                pass
    assert list(folder.parent.iterdir()) == []
    (folder.parent / "tuned.lock").touch()  # left by a killed process
    with only_writer(folder), only_writer(folder.with_name("other")):
        pass
    (folder.parent / "tuned.lock").mkdir()
    with pytest.raises(FinetuneError, match="cannot be written"), only_writer(folder):
        pass
