"""The training itself: loss, recipe and loop."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kronos_space.finetune.windows import Windows
from kronos_space.model.transformer import Kronos

WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
MAX_NORM = 1.0  # maximum norm of the gradient
DECAY = 0.97  # of the moving average of the weights, per step; covers about the newest 33 steps
WARM_UP = 0.1  # share of the steps
PATIENCE = 5  # validations without improvement before stopping
VALIDATED_AT_ONCE = 32  # windows
# shares of the tuned weights in mixtures with the base model's
MIXTURES = (0.0, 0.25, 0.5, 0.75, 1.0)

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a training."""

    steps: int
    batch: int  # windows per step
    bars: int  # bars per window
    learning_rate: float
    seed: int

    @property
    def validation_interval(self) -> int:
        """Return the number of steps between validations."""
        return max(5, self.steps // 20)


@dataclass
class Progress:
    """The state of a training. With the recipe and the windows it is sufficient for resuming."""

    step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    best: Weights = field(default_factory=dict)
    losses: list[tuple[int, float]] = field(default_factory=list)  # step -> validation loss
    model: Weights = field(default_factory=dict)
    average: Weights = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    random: Tensor | None = None  # state of torch's generator
    rate: float = 0.0  # the chosen learning rate; 0: not chosen yet

    @property
    def done(self) -> bool:
        """Return whether the last validations brought no improvement."""
        worse = [loss for step, loss in self.losses if step > self.best_step]
        return len(worse) >= PATIENCE


def loss_of(model: Kronos, windows: Windows) -> Tensor:
    """Return the mean loss of the bars after the leading part, in nats per token.

    The loss is the negative log-likelihood of a token. As in a forecast, s1 of a bar is predicted
    from the bars before it. s2 is predicted from the same bars and the true s1 of its bar. Dropouts
    are active in training mode.
    """
    s1, s2 = windows.s1, windows.s2
    hidden = model.hidden(s1[:, :-1], s2[:, :-1], windows.stamps[:, :-1])
    query = model.embedding.emb_s1(s1[:, 1:])
    mixed = model.dep_layer.cross_attn(query, hidden, causal=True, rotate=False)
    counted = torch.arange(1, s1.shape[1]) >= windows.lead[:, None]  # of the targets
    coarse = model.s1_logits(hidden[counted])
    fine = model.head.proj_s2(model.dep_layer.norm((hidden + mixed)[counted]))
    losses = [
        F.cross_entropy(logits, tokens[:, 1:][counted])
        for logits, tokens in ((coarse, s1), (fine, s2))
    ]
    return (losses[0] + losses[1]) / 2


def validation_loss(model: Kronos, windows: Windows) -> float:
    """Return the loss over all windows, without dropouts."""
    model.eval()
    with torch.inference_mode():
        parts = [
            (loss_of(model, windows.at(rows)).item(), len(rows))
            for rows in torch.split(torch.arange(len(windows)), VALIDATED_AT_ONCE)
        ]
    return sum(loss * count for loss, count in parts) / len(windows)


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the rate of a step, from 0 on: a linear warm-up, then half a cosine down to 0."""
    warm_up = max(1, int(recipe.steps * WARM_UP))
    if step < warm_up:
        return recipe.learning_rate * (step + 1) / warm_up
    share = (step - warm_up) / max(1, recipe.steps - warm_up)
    return recipe.learning_rate * (1 + math.cos(math.pi * share)) / 2


def train(
    model: Kronos, training: Windows, validation: Windows, recipe: Recipe, progress: Progress
) -> Iterator[float]:
    """Train `model` in place, update `progress`, and yield each step's loss.

    A moving average of the weights is validated, because single steps are noisy. A `progress` with
    steps is resumed. At the end, after the last step or when validation has stopped improving,
    `progress.best` has the averaged weights with the lowest validation loss. The same recipe,
    windows and number of threads give the same weights.
    """
    torch.manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY
    )
    average = copy.deepcopy(model)
    if progress.step:
        model.load_state_dict(progress.model)
        # a training of an earlier version has no average
        average.load_state_dict(progress.average or progress.model)
        optimizer.load_state_dict(progress.optimizer)
        if progress.random is not None:
            torch.set_rng_state(progress.random)
    else:
        _validate(model, validation, progress)  # the base model may be the best
    while progress.step < recipe.steps and not progress.done:
        rows = torch.randint(len(training), (recipe.batch,))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, recipe)
        model.train()
        loss = loss_of(model, training.at(rows))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        progress.step += 1
        _move(average, model, progress.step)
        if progress.step % recipe.validation_interval == 0 or progress.step == recipe.steps:
            _validate(average, validation, progress)
            progress.model = copy.deepcopy(model.state_dict())
            progress.average = copy.deepcopy(average.state_dict())
            progress.optimizer = copy.deepcopy(optimizer.state_dict())
            progress.random = torch.get_rng_state()
        yield loss.item()


def _move(average: Kronos, model: Kronos, step: int) -> None:
    """Move the average towards the weights after a step.

    In the first steps the average moves faster, because the base model's weights are far away.
    """
    kept = min(DECAY, (step - 1) / (step + 4))
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(weight, 1 - kept)


def _validate(model: Kronos, windows: Windows, progress: Progress) -> None:
    loss = validation_loss(model, windows)
    progress.losses.append((progress.step, loss))
    if loss < progress.best_loss:
        progress.best_loss, progress.best_step = loss, progress.step
        progress.best = copy.deepcopy(model.state_dict())


def mixed(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> Weights:
    """Return the weights at `share` of the way from the base model's to the tuned ones."""
    return {
        name: torch.lerp(weight, tuned[name], share) if weight.is_floating_point() else weight
        for name, weight in base.items()
    }


def best_mixture(
    model: Kronos, base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], validation: Windows
) -> tuple[float, float]:
    """Load the mixture with the lowest validation loss into `model`. Return its share and loss.

    Mixtures with the base model's weights forget less than the tuned weights.
    """
    losses = {}
    for share in MIXTURES:
        model.load_state_dict(mixed(base, tuned, share))
        losses[share] = validation_loss(model, validation)
    share = min(losses, key=losses.__getitem__)
    model.load_state_dict(mixed(base, tuned, share))
    model.eval()
    return share, losses[share]


def best_learning_rate(
    rates: tuple[float, ...],
    model: Kronos,
    training: Windows,
    validation: Windows,
    recipe: Callable[[float], Recipe],
) -> float:
    """Return the rate whose short trial ends with the lowest validation loss."""
    if len(rates) == 1:
        return rates[0]
    base = copy.deepcopy(model.state_dict())
    losses = {}
    for rate in rates:
        progress = Progress()
        model.load_state_dict(base)
        for _ in train(model, training, validation, recipe(rate), progress):
            pass
        losses[rate] = min(loss for step, loss in progress.losses if step)
    model.load_state_dict(base)
    return min(losses, key=losses.__getitem__)
