"""The engine equals full recomputation, whatever else is in the batch."""

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kronos_space.engine import engine as module
from kronos_space.engine import kv_cache, lanes
from kronos_space.engine.engine import Engine, Paths, Prompt
from kronos_space.engine.fused import FoldedBlock
from kronos_space.engine.sampling import (
    NotFinite,
    SamplingParams,
    random_numbers,
    sample,
)
from kronos_space.weights.checkpoint import Checkpoint, load_checkpoint
from tests.support.checkpoints import NANO

GREEDY = SamplingParams(samples=1, top_k=1)
EIGHT_PATHS = SamplingParams(samples=8)
PromptMaker = Callable[..., Prompt]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(str(NANO))


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Engine:
    return Engine(checkpoint)


def a_prompt(
    context: int = 60,
    horizon: int = 5,
    sampling: SamplingParams = EIGHT_PATHS,
    seed: int = 1,
) -> Prompt:
    """Return a normalised random walk with weekday stamps; it depends on the seed only."""
    walk = np.random.default_rng(seed).standard_normal((context, 6)).cumsum(axis=0)
    bars = np.clip((walk - walk.mean(0)) / (walk.std(0) + 1e-5), -5, 5).astype(np.float32)
    days = np.arange(context + horizon)
    zero = np.zeros_like(days)
    stamps = np.stack([zero, zero, days % 5, days % 28 + 1, days // 28 % 12 + 1], axis=1)
    return Prompt(bars, stamps, horizon, sampling, seed)


def recomputed(checkpoint: Checkpoint, prompt: Prompt) -> Paths:
    """Compute the same paths with the published modules, and the whole context for every token."""
    samples, horizon = prompt.sampling.samples, prompt.horizon
    numbers = random_numbers(prompt.seed, samples, horizon)

    def pick(logits: torch.Tensor, step: int, which: int) -> torch.Tensor:
        if prompt.sampling.greedy:
            return logits.argmax(-1)
        return sample(logits, prompt.sampling, numbers[:, step, which])

    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    context = len(prompt.bars)
    stamps = torch.from_numpy(prompt.stamps).expand(samples, -1, -1)
    with torch.inference_mode():
        bars = torch.from_numpy(prompt.bars).expand(samples, -1, -1)
        s1, s2 = tokenizer.encode(bars)
        for step in range(prompt.horizon):
            hidden = model.hidden(s1, s2, stamps[:, : context + step])
            next_s1 = pick(model.s1_logits(hidden[:, -1]), step, 0)
            next_s2 = pick(model.s2_logits(hidden, next_s1), step, 1)
            s1 = torch.cat([s1, next_s1.unsqueeze(1)], dim=1)
            s2 = torch.cat([s2, next_s2.unsqueeze(1)], dim=1)
        bars = tokenizer.decode(s1, s2)
    newest = bars[0, context - 1].numpy()
    return Paths(*(part[:, context:].numpy() for part in (s1, s2, bars)), newest)


def share_of_equal_tokens(some: Sequence[Paths], others: Sequence[Paths]) -> float:
    equal = [
        (getattr(a, name) == getattr(b, name)).ravel()
        for a, b in zip(some, others, strict=True)
        for name in ("s1", "s2")
    ]
    return float(np.concatenate(equal).mean())


def test_the_model_and_its_tokenizer_are_in_eval_mode(checkpoint: Checkpoint) -> None:
    for root in (checkpoint.model, checkpoint.tokenizer):
        assert not any(module.training for module in root.modules())


def test_the_second_token_depends_on_the_whole_context(checkpoint: Checkpoint) -> None:
    """In training mode the reference's dependency layer would see only the oldest bar."""
    hidden = torch.randn(1, 40, 128, generator=torch.Generator().manual_seed(0))
    s1 = torch.tensor([7])
    with torch.inference_mode():
        before = checkpoint.model.s2_logits(hidden, s1)
        for bar in range(40):
            changed = hidden.clone()
            changed[0, bar] += 1
            assert not torch.allclose(checkpoint.model.s2_logits(changed, s1), before, atol=1e-5)


@pytest.mark.parametrize(("context", "horizon"), [(1, 1), (33, 7), (64, 1), (200, 20)])
def test_cached_decoding_equals_recomputing_the_whole_context(
    checkpoint: Checkpoint, engine: Engine, context: int, horizon: int
) -> None:
    prompt = a_prompt(context, horizon, GREEDY)

    [fast] = engine.generate([prompt])

    slow = recomputed(checkpoint, prompt)
    assert fast.s1.tolist() == slow.s1.tolist()
    assert fast.s2.tolist() == slow.s2.tolist()
    np.testing.assert_allclose(fast.bars, slow.bars, atol=2e-6)
    np.testing.assert_allclose(fast.reconstruction, slow.reconstruction, atol=2e-6)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(samples=12, top_p=0.9),
        SamplingParams(samples=12, top_k=5, top_p=1.0),
        SamplingParams(samples=12, temperature=0.5, top_k=40, top_p=0.7),
        SamplingParams(samples=12, temperature=1e-39, top_p=1.0),
    ],
)
@pytest.mark.parametrize("max_scores", [kv_cache.MAX_SCORES, 1])
def test_sampled_paths_equal_recomputing_with_the_same_random_numbers(
    checkpoint: Checkpoint,
    engine: Engine,
    sampling: SamplingParams,
    max_scores: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kv_cache, "MAX_SCORES", max_scores)  # a limit of 1: one path at a time
    prompt = a_prompt(60, 4, sampling)

    [fast] = engine.generate([prompt])

    slow = recomputed(checkpoint, prompt)
    assert share_of_equal_tokens([fast], [slow]) >= 0.999
    np.testing.assert_allclose(fast.bars, slow.bars, atol=2e-6)


def test_a_batch_gives_each_series_what_it_gets_alone(engine: Engine) -> None:
    prompts = [a_prompt(seed=seed) for seed in range(6)]

    together = engine.generate(prompts)

    alone = [engine.generate([prompt])[0] for prompt in prompts]
    assert share_of_equal_tokens(together, alone) >= 0.999


def test_series_of_any_lengths_horizons_and_samplings_share_a_batch(engine: Engine) -> None:
    prompts = [
        a_prompt(context, horizon, SamplingParams(samples, top_p=top_p), seed)
        for seed, (context, horizon, samples, top_p) in enumerate(
            [(40, 5, 8, 0.9), (97, 5, 8, 0.9), (1, 5, 3, 1.0), (40, 2, 8, 0.5), (40, 5, 8, 0.9)]
        )
    ]

    together = engine.generate(prompts)

    for prompt, paths in zip(prompts, together, strict=True):
        shape = (prompt.sampling.samples, prompt.horizon)
        assert (paths.s1.shape, paths.s2.shape, paths.bars.shape) == (shape, shape, (*shape, 6))
    alone = [engine.generate([prompt])[0] for prompt in prompts]
    assert share_of_equal_tokens(together, alone) >= 0.999
    for paths, its in zip(together, alone, strict=True):
        np.testing.assert_allclose(paths.reconstruction, its.reconstruction, atol=2e-6)


def test_several_batches_are_returned_in_the_callers_order(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [a_prompt(context, seed=context) for context in (90, 30, 60, 31, 90)]
    expected = engine.generate(prompts)

    monkeypatch.setattr(module, "TOKEN_BUDGET", 100)

    assert len(list(module.batches(prompts, module.TOKEN_BUDGET))) == 5
    assert share_of_equal_tokens(engine.generate(prompts), expected) >= 0.999


@pytest.mark.parametrize(
    "budgets", [{"PATHS_BUDGET": 30}, {"BARS_BUDGET": 20}, {"PATHS_BUDGET": 30, "BARS_BUDGET": 20}]
)
def test_decoding_paths_in_parts_does_not_change_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, budgets: dict[str, int]
) -> None:
    monkeypatch.setattr(lanes, "TURN", 0.0)
    prompt = a_prompt(60, 6, SamplingParams(samples=11))
    [whole] = engine.generate([prompt])
    steps = len(list(engine.work([prompt])))

    for name, tokens in budgets.items():
        monkeypatch.setattr(module, name, tokens)

    assert len(list(engine.work([prompt]))) > steps
    [in_parts] = engine.generate([prompt])
    assert share_of_equal_tokens([in_parts], [whole]) >= 0.999
    np.testing.assert_allclose(in_parts.bars, whole.bars, atol=2e-6)
    np.testing.assert_allclose(in_parts.reconstruction, whole.reconstruction, atol=2e-6)


def test_work_can_be_interrupted_for_other_work_or_ended_between_the_bars(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "TURN", 0.0)
    long, other = a_prompt(60, 30, seed=1), a_prompt(40, 3, seed=2)
    expected = [engine.generate([prompt])[0] for prompt in (long, other)]
    work = engine.work([long])
    steps = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            [paths] = end.value
            break
        steps += 1
        assert not torch.is_inference_mode_enabled()
        if steps % 10 == 0:
            [between] = engine.generate([other])
            assert between.s1.tolist() == expected[1].s1.tolist()
            ended = engine.work([other])
            next(ended)
            ended.close()
    assert steps > long.horizon
    assert paths.s1.tolist() == expected[0].s1.tolist()
    assert paths.bars.tolist() == expected[0].bars.tolist()


def test_overflow_in_the_model_is_an_error_instead_of_a_forecast(
    checkpoint: Checkpoint,
) -> None:
    spoilt = copy.deepcopy(checkpoint)
    spoilt.model.head.proj_s2.weight.data *= 1e38
    engine = Engine(spoilt, threads=2)
    for sampling in (GREEDY, SamplingParams(samples=2), SamplingParams(samples=2, top_p=1.0)):
        with pytest.raises(NotFinite):
            engine.generate([a_prompt(sampling=sampling)])
        with pytest.raises(NotFinite):
            engine.generate([a_prompt(sampling=sampling), a_prompt(sampling=sampling, seed=2)])


def test_the_same_seed_draws_the_same_paths_and_another_seed_different_ones(engine: Engine) -> None:
    prompt = a_prompt(sampling=SamplingParams(samples=16))
    other_seed = replace(prompt, seed=2)

    [first], [again], [other] = (engine.generate([p]) for p in (prompt, prompt, other_seed))

    assert first.s1.tolist() == again.s1.tolist()
    assert first.s2.tolist() == again.s2.tolist()
    assert first.s1.tolist() != other.s1.tolist()


def test_the_first_paths_of_more_samples_are_the_paths_of_fewer(engine: Engine) -> None:
    few, many = (a_prompt(sampling=SamplingParams(samples=n)) for n in (5, 40))

    [some], [all_] = engine.generate([few]), engine.generate([many])

    assert (some.s1 == all_.s1[:5]).mean() >= 0.999


def test_any_number_of_threads_returns_the_same_paths_in_the_same_order(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [a_prompt(context, seed=context) for context in (100, 60, 61, 100, 40)]
    greedy = [replace(prompt, sampling=GREEDY) for prompt in prompts]
    one, *more = (Engine(checkpoint, threads=threads) for threads in (1, 2, 3, 16))

    for engine in more:
        for few_paths in (0, 64):
            monkeypatch.setattr(module, "FEW_PATHS", few_paths)
            drawn, best = engine.generate(prompts), engine.generate(greedy)
            assert share_of_equal_tokens(drawn, one.generate(prompts)) >= 0.999
            assert share_of_equal_tokens(best, one.generate(greedy)) == 1


@pytest.mark.parametrize("share", [0.01, 0.5, 0.98])
@pytest.mark.parametrize("context", [63, 64, 101])
def test_two_threads_that_share_one_context_return_the_paths_of_one_thread(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, context: int, share: float
) -> None:
    monkeypatch.setattr(module, "EARLIER_SHARE", share)
    prompt = a_prompt(context)
    one, two = (Engine(checkpoint, threads=threads) for threads in (1, 2))

    for turn in (lanes.TURN, 0.0):
        monkeypatch.setattr(lanes, "TURN", turn)
        [alone], [shared] = one.generate([prompt]), two.generate([prompt])

        assert share_of_equal_tokens([alone], [shared]) >= 0.999
        np.testing.assert_allclose(shared.bars, alone.bars, atol=2e-6)
        np.testing.assert_allclose(shared.reconstruction, alone.reconstruction, atol=2e-6)


def test_a_failure_in_one_half_of_a_context_ends_the_other(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(checkpoint, threads=2)
    heads_of = FoldedBlock.heads_of

    def fails_for_the_earlier(block: FoldedBlock, x: Tensor, groups: Any, first: int) -> Any:
        if first == 0:
            raise ArithmeticError("earlier half")
        return heads_of(block, x, groups, first)

    monkeypatch.setattr(FoldedBlock, "heads_of", fails_for_the_earlier)

    with pytest.raises(ArithmeticError, match="earlier half"):
        engine.generate([a_prompt(100)])


def test_one_thread_computes_all_series_together(checkpoint: Checkpoint) -> None:
    """Threads would not survive the fork of a process."""
    before = set(threading.enumerate())
    Engine(checkpoint, threads=1).generate([a_prompt(seed=seed) for seed in range(3)])

    started = set(threading.enumerate()) - before
    assert [thread.name for thread in started if thread.name.startswith("kronos-lane")] == []


def test_greedy_paths_do_not_depend_on_the_seed(engine: Engine) -> None:
    prompt = a_prompt(sampling=GREEDY)

    [one], [two] = engine.generate([prompt]), engine.generate([replace(prompt, seed=99)])

    assert one.s1.tolist() == two.s1.tolist()
    assert one.s2.tolist() == two.s2.tolist()


def test_an_empty_batch_returns_nothing(engine: Engine) -> None:
    assert engine.generate([]) == []


def test_a_prompt_that_does_not_fit_the_models_context_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match=r"context 250 \+ horizon 7 bars: .* at most 256"):
        engine.generate([a_prompt(250, 7)])


def test_stamps_are_required_for_the_forecast_bars_too(engine: Engine) -> None:
    prompt = a_prompt(40, 5)

    with pytest.raises(ValueError, match=r"stamps \(40, 5\): expected \(45, 5\)"):
        engine.generate([replace(prompt, stamps=prompt.stamps[:40])])


def test_arrays_that_are_not_bars_or_times_are_refused(engine: Engine) -> None:
    prompt = a_prompt(40, 5)
    bars, stamps = prompt.bars.copy(), prompt.stamps.copy()
    bars[3, 2] = np.nan
    stamps[44, 0] = 60

    with pytest.raises(ValueError, match="bars: expected finite numbers"):
        engine.generate([replace(prompt, bars=bars)])
    with pytest.raises(ValueError, match="stamps: expected each column from 0 to below"):
        engine.generate([replace(prompt, stamps=stamps)])
