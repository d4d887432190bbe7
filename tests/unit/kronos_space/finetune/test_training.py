"""The loss equals that of forecasting; training can stop, continue and be reproduced."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kronos_space.finetune.data_split import split
from kronos_space.finetune.training import (
    PATIENCE,
    Progress,
    Recipe,
    best_learning_rate,
    best_mixture,
    learning_rate,
    loss_of,
    mixed,
    train,
    validation_loss,
)
from kronos_space.finetune.windows import training_windows, validation_windows
from kronos_space.model.transformer import Kronos
from tests.support.finetuning import BARS, candles, tiny_model

pytestmark = pytest.mark.slow

MODEL, TOKENIZER = tiny_model()
SERIES = [candles()]
SPANS = split(SERIES[0].days, None, purge=5)
TRAINING = training_windows(SERIES, SPANS, BARS, 64, np.random.default_rng(0), TOKENIZER)
VALIDATION = validation_windows(SERIES, SPANS, BARS, TOKENIZER)
RECIPE = Recipe(steps=20, batch=4, bars=BARS, learning_rate=1e-2, seed=5)


def fresh() -> Kronos:
    return copy.deepcopy(MODEL)


def trained(model: Kronos, recipe: Recipe, progress: Progress, steps: int | None = None) -> None:
    for number, _ in enumerate(train(model, TRAINING, VALIDATION, recipe, progress), start=1):
        if number == steps:
            break


def test_the_loss_equals_that_of_forecasting_bar_by_bar() -> None:
    window = VALIDATION.at(torch.tensor([1]))
    losses = []
    with torch.inference_mode():
        for bar in range(int(window.lead), BARS):  # the same tokens that `model.s2_logits` predicts
            hidden = MODEL.hidden(window.s1[:, :bar], window.s2[:, :bar], window.stamps[:, :bar])
            coarse = MODEL.s1_logits(hidden[:, -1])
            fine = MODEL.s2_logits(hidden, window.s1[:, bar])
            losses += [
                F.cross_entropy(coarse, window.s1[:, bar]),
                F.cross_entropy(fine, window.s2[:, bar]),
            ]
        expected = torch.stack(losses).mean()
        torch.testing.assert_close(loss_of(MODEL, window), expected)


def test_training_lowers_the_loss_on_unseen_bars() -> None:
    model, progress = fresh(), Progress()
    trained(model, RECIPE, progress)
    assert progress.best_loss < progress.losses[0][1]
    model.load_state_dict(progress.best)
    assert validation_loss(model, VALIDATION) == pytest.approx(progress.best_loss, abs=1e-6)


def test_the_average_of_the_newest_steps_is_validated_and_not_a_single_noisy_step() -> None:
    model, progress = fresh(), Progress()
    trained(model, replace(RECIPE, learning_rate=0.1), progress, steps=10)
    found = {}
    for name, weights in (("average", progress.average), ("step", progress.model)):
        model.load_state_dict(weights)
        found[name] = validation_loss(model, VALIDATION)
    assert progress.losses[-1] == (10, pytest.approx(found["average"], abs=1e-6))
    assert found["average"] < found["step"]


def test_the_same_seed_gives_the_same_weights_and_another_seed_different_ones() -> None:
    found = []
    for seed in (5, 5, 6):
        model = fresh()
        trained(model, replace(RECIPE, seed=seed), Progress())
        found.append(model.head.proj_s1.weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_stopped_training_continues_to_the_same_weights() -> None:
    whole, stopped = fresh(), Progress()
    trained(whole, RECIPE, Progress())
    trained(fresh(), RECIPE, stopped, steps=2 * RECIPE.validation_interval)
    resumed = fresh()
    trained(resumed, RECIPE, copy.deepcopy(stopped))
    for (name, window), other in zip(
        whole.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(window, other), name


def test_training_ends_when_validation_stops_improving() -> None:
    progress = Progress()
    trained(fresh(), replace(RECIPE, steps=400, learning_rate=3.0), progress)
    assert progress.step < 400
    assert len([step for step, _ in progress.losses if step > progress.best_step]) == PATIENCE


def test_the_learning_rate_warms_up_and_decays_to_zero() -> None:
    rates = [learning_rate(step, RECIPE) for step in range(RECIPE.steps)]
    assert rates[0] < rates[1] == max(rates) == RECIPE.learning_rate
    assert all(later < earlier for earlier, later in pairwise(rates[2:]))
    assert rates[-1] < RECIPE.learning_rate / 50


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_mixed_weights_lie_between_both_models(share: float) -> None:
    base, tuned = tiny_model(0)[0].state_dict(), tiny_model(1)[0].state_dict()
    for name, weight in mixed(base, tuned, share).items():
        torch.testing.assert_close(weight, base[name] + share * (tuned[name] - base[name]))


def test_tuned_weights_that_are_worse_are_not_mixed_in() -> None:
    model, broken = fresh(), {name: weight * 50 for name, weight in MODEL.state_dict().items()}
    share, loss = best_mixture(model, MODEL.state_dict(), broken, VALIDATION)
    assert share == 0
    assert loss == pytest.approx(validation_loss(MODEL, VALIDATION))
    assert torch.equal(model.head.proj_s1.weight, MODEL.head.proj_s1.weight)


def test_the_search_for_a_learning_rate_leaves_the_model_unchanged() -> None:
    model = fresh()
    rate = best_learning_rate(
        (1e-7, 1e-2, 30.0), model, TRAINING, VALIDATION,
        lambda rate: replace(RECIPE, learning_rate=rate),
    )  # fmt: skip
    assert rate == 1e-2
    assert torch.equal(model.head.proj_s1.weight, MODEL.head.proj_s1.weight)
