"""Run a training with progress output. It can be stopped and resumed."""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kronos_space.finetune import state
from kronos_space.finetune.training import (
    Recipe,
    best_learning_rate,
    best_mixture,
    train,
)
from kronos_space.finetune.windows import Windows
from kronos_space.weights.checkpoint import Checkpoint
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import signals_held

SMALL = 2_000_000  # parameters; smaller models use other learning rates
SMALL_RATES = (1e-3,)
RATES = (1e-4, 3e-5, 1e-5)  # the best one in a short trial is used
TRIAL = 0.1  # share of the steps


@dataclass
class Trainer:
    """Trains `base.model` in place.

    Attributes:
        recipe: Its learning rate is chosen here.
        key: Identifies the training; stored progress with another key is refused.
        path: File of the progress, for resuming.
    """

    base: Checkpoint
    training: Windows
    validation: Windows
    recipe: Recipe
    key: dict[str, Any]
    path: Path
    reporter: ProgressReporter

    def __post_init__(self) -> None:
        self.untrained = copy.deepcopy(self.base.model.state_dict())
        self.progress = state.load(self.path, self.key)

    def run(self) -> None:
        """Choose a learning rate, and train.

        Raises:
            FinetuneError: The disk is full.
            Stopped: A signal arrived.
        """
        self._choose_rate()
        self._train()

    def mix(self) -> dict[str, Any]:
        """Load the best mixture of trained and untrained weights.

        Return the recipe that was used.
        """
        share, loss = best_mixture(
            self.base.model, self.untrained, self.progress.best, self.validation
        )
        return self._about(share, loss)

    def load_best(self) -> dict[str, Any] | None:
        """Load the best trained weights on disk, without mixing in the untrained weights.

        Return None if the untrained weights are best. The progress is read from the disk again,
        because a signal may have stopped an update of `self.progress` halfway.
        """
        self.progress = state.load(self.path, self.key)
        if not self.progress.best_step:
            return None
        self.base.model.load_state_dict(self.progress.best)
        return self._about(1.0, self.progress.best_loss)

    def _about(self, share: float, loss: float) -> dict[str, Any]:
        return asdict(replace(self.recipe, learning_rate=self.progress.rate)) | {
            "best_step": self.progress.best_step,
            "share": share,
            "validation_loss": loss,
            "base_loss": self.progress.losses[0][1],
        }

    def _choose_rate(self) -> None:
        """Choose the learning rate by a short trial, unless that was done before."""
        small = sum(weight.numel() for weight in self.base.model.parameters()) < SMALL
        rates = SMALL_RATES if small else RATES
        if not self.progress.rate:
            if len(rates) > 1:
                self.reporter.step("rate", f"Trying {len(rates)} learning rates")
            trial = replace(self.recipe, steps=max(10, int(self.recipe.steps * TRIAL)))
            self.progress.rate = best_learning_rate(
                rates,
                self.base.model,
                self.training,
                self.validation,
                lambda rate: replace(trial, learning_rate=rate),
            )
            self._save()
        self.recipe = replace(self.recipe, learning_rate=self.progress.rate)

    def _train(self) -> None:
        progress, reporter = self.progress, self.reporter
        if progress.step:
            reporter.say(f"Resuming after step {progress.step} of {self.recipe.steps}")
        reporter.step("train", f"Training {self.base.name}", total=self.recipe.steps)
        for _ in range(progress.step):
            reporter.advance()
        reported = len(progress.losses)
        steps = train(self.base.model, self.training, self.validation, self.recipe, progress)
        for training_loss in steps:
            reporter.advance(f"loss {training_loss:.3f}")
            if len(progress.losses) > reported:
                reported = len(progress.losses)
                step, loss = progress.losses[-1]
                # not at step 1, together with the untrained model's validation
                if step == progress.step:
                    # save before reporting, so that the reported best survives a signal
                    self._save()
                best = " (best so far)" if step == progress.best_step else ""
                reporter.say(f"step {step}: validation loss {loss:.4f}{best}")

    def _save(self) -> None:
        with signals_held():
            state.save(self.path, self.key, self.progress)
