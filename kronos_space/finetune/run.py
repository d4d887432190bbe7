"""A fine-tuning from beginning to end: candles, training, checkpoint, verdict."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from kronos_space.finetune import state
from kronos_space.finetune.checkpoint import (
    add_verdict,
    name_of,
    read_about,
    symbols_hash,
    write_checkpoint,
)
from kronos_space.finetune.data_split import Spans, split, union
from kronos_space.finetune.errors import FinetuneError
from kronos_space.finetune.training import (
    Progress,
    Recipe,
    best_learning_rate,
    best_mixture,
    train,
)
from kronos_space.finetune.verdict import judge
from kronos_space.finetune.windows import Series, Windows, training_windows, validation_windows
from kronos_space.weights.checkpoint import Checkpoint, load_checkpoint
from tradingbot.data.service import DataService
from tradingbot.errors import DataError
from tradingbot.evaluation.training_cutoff import in_training
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import signals_held
from tradingbot.settings import Settings

SINCE = datetime(1997, 1, 1)  # no calendar is known for longer
LONG, SHORT = (8, 512), (24, 256)  # windows a step and their bars, by the model's context
SMALL = 2_000_000  # parameters; a smaller model learns at another rate
SMALL_RATES = (1e-3,)
RATES = (1e-4, 3e-5, 1e-5)  # of which the best in a short trial is taken
TRIAL = 0.1  # of the steps


@dataclass(frozen=True)
class Job:
    """What the command line asks for."""

    source: str
    symbols: tuple[str, ...]
    until: date | None
    steps: int
    base: str
    seed: int
    out: Path


def finetune(job: Job, settings: Settings, reporter: ProgressReporter) -> dict[str, Any]:
    """Train, write the checkpoint folder, judge it, and return what kronos.json says of it.

    A finished checkpoint without its verdict is judged; one with it is left alone.

    Raises:
        FinetuneError, KronosError: One line: what, why, and the way out.
    """
    work = job.out.with_name(f"{job.out.name}.work")
    if job.out.exists():
        about = read_about(job.out)
        if "verdict" in about:
            raise FinetuneError(f"{job.out} is there already; give another --out")
    else:
        about = _train(job, settings, work, reporter)
    settings = replace(settings, data_source=about["source"])
    verdict = judge(job.out, about, settings, about["test_sessions"], work, reporter)
    with signals_held():
        add_verdict(job.out, verdict)
        shutil.rmtree(work, ignore_errors=True)
    return read_about(job.out)


def _train(job: Job, settings: Settings, work: Path, reporter: ProgressReporter) -> dict[str, Any]:
    base = load_checkpoint(job.base)
    series = candles(job, settings, reporter)
    spans = split(union([one.days for one in series]), job.until, settings.horizon)
    _check_unseen(base.name, series, spans)
    batch, bars = LONG if base.max_context >= LONG[1] else SHORT
    recipe = Recipe(job.steps, batch, min(bars, base.max_context), 0.0, job.seed)
    reporter.step("tokens", "Tokenising windows")
    training = training_windows(
        series,
        spans,
        recipe.bars,
        recipe.steps * recipe.batch,
        np.random.default_rng(job.seed),
        base.tokenizer,
    )
    validation = validation_windows(series, spans, recipe.bars, base.tokenizer)
    symbols = [one.symbol for one in series]
    key = {
        "base": base.revision,
        "symbols": symbols_hash(symbols),
        "spans": str(spans),
        "recipe": asdict(recipe),
    }
    weights = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    progress = state.load(work / "training.pt", key)
    recipe = _with_rate(recipe, base, training, validation, work, key, progress, reporter)
    _steps(base, training, validation, recipe, progress, work, key, reporter)
    share, loss = best_mixture(base.model, weights, progress.best, validation)
    about = {
        "name": name_of(base.name, str(spans.until)),
        "max_context": base.max_context,
        "description": f"{base.name}, fine-tuned on candles up to {spans.until}.",
        "base": base.name,
        "base_path": job.base,
        "base_revision": base.revision,
        "source": settings.data_source,
        "symbols": symbols,
        "symbols_hash": symbols_hash(symbols),
        "train_until": str(spans.train_until),
        "validate_from": str(spans.validate_from),
        "until": str(spans.until),
        "test_sessions": spans.test_sessions,
        "recipe": asdict(recipe)
        | {
            "best_step": progress.best_step,
            "share": share,
            "validation_loss": loss,
            "base_loss": progress.losses[0][1],
        },
    }
    write_checkpoint(job.out, base.model, base.tokenizer, about)
    return about


def candles(job: Job, settings: Settings, reporter: ProgressReporter) -> list[Series]:
    """Return the daily candles of each ticker, judged as the job judges them."""
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
    """Refuse a verdict on days that the base was trained on: it would look too good there."""
    newest = datetime.fromisoformat(str(spans.newest))
    if all(in_training(base, one.symbol, newest) == "yes" for one in series):
        raise FinetuneError(
            f"{base} was trained on all days up to {spans.newest}, the last of the candles, so "
            "there is no verdict on it: give later candles"
        )


def _with_rate(
    recipe: Recipe,
    base: Checkpoint,
    training: Windows,
    validation: Windows,
    work: Path,
    key: dict[str, Any],
    progress: Progress,
    reporter: ProgressReporter,
) -> Recipe:
    """Return the recipe with the learning rate that a short trial chooses, the first time."""
    small = sum(weight.numel() for weight in base.model.parameters()) < SMALL
    rates = SMALL_RATES if small else RATES
    if not progress.rate:
        if len(rates) > 1:
            reporter.step("rate", f"Trying {len(rates)} learning rates")
        trial = replace(recipe, steps=max(10, int(recipe.steps * TRIAL)))
        progress.rate = best_learning_rate(
            rates, base.model, training, validation, lambda rate: replace(trial, learning_rate=rate)
        )
        state.save(work / "training.pt", key, progress)
    return replace(recipe, learning_rate=progress.rate)


def _steps(
    base: Checkpoint,
    training: Windows,
    validation: Windows,
    recipe: Recipe,
    progress: Progress,
    work: Path,
    key: dict[str, Any],
    reporter: ProgressReporter,
) -> None:
    """Train, telling the losses, and keep what is needed to go on."""
    if progress.step:
        reporter.say(f"Going on after step {progress.step} of {recipe.steps}")
    reporter.step("train", f"Training {base.name}", total=recipe.steps)
    for _ in range(progress.step):
        reporter.advance()
    told = len(progress.losses)
    for _ in train(base.model, training, validation, recipe, progress):
        reporter.advance()
        if len(progress.losses) > told:
            told = len(progress.losses)
            step, loss = progress.losses[-1]
            best = " (best so far)" if step == progress.best_step else ""
            reporter.say(f"step {step}: validation loss {loss:.4f}{best}")
            with signals_held():
                state.save(work / "training.pt", key, progress)
