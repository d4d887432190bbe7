"""A complete fine-tuning: candles, training, checkpoint, verdict."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from kronos_space.finetune.checkpoint import (
    add_verdict,
    name_of,
    read_about,
    symbols_hash,
    write_checkpoint,
)
from kronos_space.finetune.data_split import Spans, split, union
from kronos_space.finetune.errors import FinetuneError
from kronos_space.finetune.folder_lock import only_writer
from kronos_space.finetune.trainer import Trainer
from kronos_space.finetune.training import Recipe
from kronos_space.finetune.verdict import judge
from kronos_space.finetune.windows import Series, training_windows, validation_windows
from kronos_space.settings import Settings as SpaceSettings
from kronos_space.weights.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from tradingbot.data.service import DataService
from tradingbot.errors import DataError
from tradingbot.evaluation.training_cutoff import in_training
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, signals_held
from tradingbot.settings import Settings

SINCE = datetime(1997, 1, 1)  # the earliest day of the calendars
LONG, SHORT = (8, 512), (24, 256)  # windows per step and bars per window, by the model's context
MIN_HISTORY = SpaceSettings().min_history  # bars
TRAINING = "training.pt"  # the state of a training, in the work folder


@dataclass(frozen=True)
class Job:
    """The options of the command line."""

    source: str
    symbols: tuple[str, ...]
    until: date | None
    steps: int
    base: str
    seed: int
    out: Path


def finetune(job: Job, settings: Settings, reporter: ProgressReporter) -> dict[str, Any]:
    """Train, write the checkpoint folder, judge it, and return the contents of kronos.json.

    A stopped training is resumed. A trained checkpoint without a verdict is judged; one with a
    verdict is left unchanged.

    Raises:
        FinetuneError, KronosError: One line: what, why, and what to do.
        Stopped: A signal arrived. The best weights so far are saved as a checkpoint without a
            verdict.
    """
    work = job.out.with_name(f"{job.out.name}.work")
    with only_writer(job.out):
        about = _finished(job, work) or _train(job, settings, work, reporter)
        settings = replace(settings, data_source=about["source"])
        verdict = judge(job.out, about, settings, about["test_sessions"], work, reporter)
        with signals_held():
            add_verdict(job.out, verdict)
            shutil.rmtree(work, ignore_errors=True)
        return read_about(job.out)


def _finished(job: Job, work: Path) -> dict[str, Any] | None:
    """Return the metadata of a trained checkpoint that waits for its verdict, or None.

    Raises:
        FinetuneError: `job.out` exists, but was not written by the same command.
    """
    if not job.out.exists():
        return None
    about = read_about(job.out)
    given = {"--base": job.base, "--steps": job.steps, "--seed": job.seed}
    earlier = {"--base": about["base_path"]} | {
        f"--{name}": about["recipe"][name] for name in ("steps", "seed")
    }
    other = [name for name in given if given[name] != earlier[name]]
    unfinished = "unfinished" in about
    if "verdict" in about or other or (unfinished and not (work / TRAINING).exists()):
        with_other = f" with another {', '.join(other)}" if other else ""
        raise FinetuneError(f"{job.out} exists already{with_other}; give another --out")
    return None if unfinished else about


def _train(job: Job, settings: Settings, work: Path, reporter: ProgressReporter) -> dict[str, Any]:
    base = _base(job.base, settings.horizon)
    series = candles(job, settings, reporter)
    spans = split(union([ticker.days for ticker in series]), job.until, settings.horizon)
    _check_unseen(base.name, series, spans)
    about = _about(job, base, settings.data_source, [ticker.symbol for ticker in series], spans)
    trainer = _trainer(job, base, series, spans, about, work / TRAINING, reporter)
    try:
        trainer.run()
    except Stopped:
        with signals_held():
            _keep_best(job.out, trainer, about)
        raise
    about["recipe"] = trainer.mix()
    with signals_held():
        write_checkpoint(job.out, base.model, base.tokenizer, about)
    return about


def _base(name: str, horizon: int) -> Checkpoint:
    try:
        base = load_checkpoint(name)
    except CheckpointError as error:
        raise FinetuneError(str(error).replace("KRONOS_MODEL=", "--base=")) from error
    if horizon + MIN_HISTORY > base.max_context:
        raise FinetuneError(
            f"KRONOS_HORIZON={horizon}: {base.name} sees {base.max_context} bars, of which "
            f"{MIN_HISTORY} must be history; take a shorter horizon, or another --base"
        )
    return base


def _trainer(
    job: Job,
    base: Checkpoint,
    series: Sequence[Series],
    spans: Spans,
    about: Mapping[str, Any],
    path: Path,
    reporter: ProgressReporter,
) -> Trainer:
    batch, bars = LONG if base.max_context >= LONG[1] else SHORT
    recipe = Recipe(job.steps, batch, min(bars, base.max_context), 0.0, job.seed)
    reporter.step("tokens", "Tokenising windows")
    rng = np.random.default_rng(job.seed)
    drawn = recipe.steps * recipe.batch
    training = training_windows(series, spans, recipe.bars, drawn, rng, base.tokenizer)
    validation = validation_windows(series, spans, recipe.bars, base.tokenizer)
    fields = ("base_revision", "symbols_hash", "train_until", "validate_from", "until")
    key = {name: about[name] for name in fields} | {"recipe": asdict(recipe)}
    return Trainer(base, training, validation, recipe, key, path, reporter)


def _about(
    job: Job, base: Checkpoint, source: str, symbols: Sequence[str], spans: Spans
) -> dict[str, Any]:
    """Return the contents of kronos.json without the recipe and the verdict."""
    return {
        "name": name_of(base.name, str(spans.until)),
        "max_context": base.max_context,
        "description": f"{base.name}, fine-tuned on candles up to {spans.until}.",
        "base": base.name,
        "base_path": job.base,
        "base_revision": base.revision,
        "source": source,
        "symbols": list(symbols),
        "symbols_hash": symbols_hash(symbols),
        "train_until": str(spans.train_until),
        "validate_from": str(spans.validate_from),
        "until": str(spans.until),
        "test_sessions": spans.test_sessions,
    }


def _keep_best(folder: Path, trainer: Trainer, about: dict[str, Any]) -> None:
    """Write the best weights of a stopped training, and report where they are."""
    try:
        recipe = trainer.load_best()
        if recipe is None:
            return
        step, steps = trainer.progress.step, trainer.recipe.steps
        unfinished = f"Training was stopped after step {step} of {steps}"
        write_checkpoint(
            folder,
            trainer.base.model,
            trainer.base.tokenizer,
            about | {"recipe": recipe, "unfinished": unfinished},
        )
        trainer.reporter.say(
            f"{folder} holds the best weights so far, of step {recipe['best_step']}: a checkpoint "
            "without a verdict"
        )
    except FinetuneError as error:
        trainer.reporter.warn(str(error))


def candles(job: Job, settings: Settings, reporter: ProgressReporter) -> list[Series]:
    """Return the daily candles of each ticker, after the job's quality checks."""
    data = DataService(
        settings.data_source, now=utcnow(), timeouts=settings.timeouts, max_jump=settings.max_jump
    )
    symbols = job.symbols or tuple(data.symbols())
    if not symbols:
        raise FinetuneError(f"--source={settings.data_source} lists no tickers: give --symbols")
    reporter.step("fetch", "Fetching candles", total=len(symbols))
    found = []
    for symbol in symbols:
        try:
            frame = data.bars(symbol, since=SINCE)
            for warning in frame.attrs["warnings"]:
                reporter.say(f"{symbol}: {warning}")
            if frame.empty or np.ptp(frame["close"]) == 0:
                raise DataError("its closes never move", symbol=symbol)
            found.append(_series(symbol, frame))
        except DataError as error:
            reporter.warn(f"{symbol} is left out: {error}")
        reporter.advance()
    return found


def _series(symbol: str, frame: Any) -> Series:
    values = np.zeros((len(frame), 6))
    values[:, :4] = frame[["open", "high", "low", "close"]]
    if "volume" in frame:
        values[:, 4] = frame["volume"].fillna(0.0)
        values[:, 5] = values[:, 4] * values[:, :4].mean(axis=1)
    return Series(symbol, frame.index.to_numpy("datetime64[D]"), values)


def _check_unseen(base: str, series: Sequence[Series], spans: Spans) -> None:
    """Refuse a verdict on days that the base was trained on, which would be too favourable."""
    newest = datetime.fromisoformat(str(spans.newest))
    if all(in_training(base, ticker.symbol, newest) == "yes" for ticker in series):
        raise FinetuneError(
            f"{base} was trained on all days up to {spans.newest}, the last of the candles, so "
            "there is no verdict on it: give later candles"
        )
