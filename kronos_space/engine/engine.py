"""The engine: prefill every series once, then decode all its sample paths together.

The steps are those of the reference's `auto_regressive_inference`, except that nothing is
computed twice: the context goes through encoder, model and decoder once per series, whatever
the number of paths, and each step costs one token a path.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kronos_space.engine.fused import FoldedModel, FoldedTokenizer, Group
from kronos_space.engine.hardware import has_fast_bfloat16, keep_freed_memory, usable_cpus
from kronos_space.engine.sampling import (
    SamplingParams,
    draw,
    filtered_probabilities,
    random_numbers,
)
from kronos_space.model.tokenizer import bits_to_tokens
from kronos_space.weights.checkpoint import Checkpoint

# Tokens computed at a time, context and forecasts: what bounds the memory. Fewer cost more per
# series, since each step of decoding is a few hundred small products however many rows they have;
# with more, what one operation leaves is out of the processor's caches when the next needs it.
TOKEN_BUDGET = 5120

STAMP_SIZES = (60, 24, 7, 32, 13)  # minute, hour, weekday, day, month
DTYPES = ("float32", "bfloat16", "auto")
# "auto" accepts bfloat16 when quantiles differ by no more than this on average, in units of the
# history's deviation: with a deviation of 10 % of the price, 0.5 % of the price.
CLOSE_ENOUGH = 0.05


@dataclass(frozen=True)
class Prompt:
    """What to continue: one series. context + horizon may not exceed the model's context."""

    bars: NDArray[np.float32]  # (context, 6), normalised and clipped
    stamps: NDArray[np.int64]  # (context + horizon, 5): minute, hour, weekday, day, month
    horizon: int
    sampling: SamplingParams
    seed: int


@dataclass(frozen=True)
class Paths:
    """How one series may go on."""

    s1: NDArray[np.int64]  # (samples, horizon)
    s2: NDArray[np.int64]  # (samples, horizon)
    bars: NDArray[np.float32]  # (samples, horizon, 6), normalised as the prompt


class Engine:
    """One loaded model with its weights folded for inference. Not thread-safe: one owner.

    `dtype` is what products are computed in; it ends up as "float32" or "bfloat16". "auto" takes
    bfloat16 where the CPU multiplies it fast and its answers to a made-up history are close to
    float32's. `threads` are torch's, for the whole process; None: the CPUs it may use.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, threads: int | None = None, dtype: str = "float32"
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r}: expected one of {', '.join(DTYPES)}")
        torch.set_num_threads(threads or usable_cpus())
        keep_freed_memory()
        self.checkpoint = checkpoint
        if dtype == "auto":
            self._fold("float32")
            if has_fast_bfloat16():
                exact = self._trial()
                self._fold("bfloat16")
                if not np.abs(self._trial() - exact).mean() <= CLOSE_ENOUGH:  # also when NaN
                    self._fold("float32")
        else:
            self._fold(dtype)

    def _fold(self, dtype: str) -> None:
        self.dtype = dtype
        positions = self.checkpoint.max_context
        product_dtype = getattr(torch, dtype)
        with torch.inference_mode():
            self._tokenizer = FoldedTokenizer(self.checkpoint.tokenizer, positions, product_dtype)
            self._model = FoldedModel(self.checkpoint.model, positions, product_dtype)

    def _trial(self) -> NDArray[np.float64]:
        """Quantiles of close for a made-up history, normalised: (levels, horizon)."""
        horizon = min(3, self.checkpoint.max_context - 1)
        context = min(128, self.checkpoint.max_context - horizon)
        walk = np.random.default_rng(0).standard_normal((context, 6)).cumsum(axis=0)
        bars = ((walk - walk.mean(axis=0)) / (walk.std(axis=0) + 1e-5)).astype(np.float32)
        stamps = np.zeros((context + horizon, 5), dtype=np.int64)
        prompt = Prompt(bars, stamps, horizon, SamplingParams(samples=256), seed=0)
        [paths] = self.generate([prompt])
        levels: NDArray[np.float64] = np.quantile(
            paths.bars[..., 3], [0.1, 0.25, 0.5, 0.75, 0.9], axis=0
        )
        return levels

    def generate(self, prompts: Sequence[Prompt]) -> list[Paths]:
        """Paths of every prompt, in the order of the prompts.

        Prompts may differ in length, horizon, samples and sampling. They are computed in
        batches of a bounded number of tokens, like with like.
        """
        for prompt in prompts:
            self._check(prompt)
        results: dict[int, Paths] = {}
        for batch in _batches(prompts, TOKEN_BUDGET):
            with torch.inference_mode():
                results.update(zip(batch.order, self._generate(batch), strict=True))
        return [results[i] for i in range(len(prompts))]

    def _check(self, prompt: Prompt) -> None:
        context, horizon = len(prompt.bars), prompt.horizon
        limit = self.checkpoint.max_context
        if context < 1 or horizon < 1 or context + horizon > limit:
            raise ValueError(
                f"context {context} + horizon {horizon} bars: expected at least 1 of each and "
                f"at most {limit} in all"
            )
        if prompt.stamps.shape != (context + horizon, 5):
            raise ValueError(
                f"stamps {prompt.stamps.shape}: expected {(context + horizon, 5)}, one per bar"
            )
        if not np.isfinite(prompt.bars).all():
            raise ValueError("bars: expected finite numbers, there is a NaN or an infinite one")
        if (prompt.stamps < 0).any() or (prompt.stamps >= STAMP_SIZES).any():
            # the next table's row would be taken without a word
            raise ValueError(f"stamps: expected each column from 0 to below {STAMP_SIZES}")

    def _generate(self, batch: "Batch") -> Iterator[Paths]:
        s1, s2 = self._encode(batch)
        own_s1, own_s2 = self._sample(batch, s1, s2)
        bars = self._decode(batch, s1, s2, own_s1, own_s2)
        counts = [prompt.sampling.samples for prompt in batch.prompts]
        for parts in zip(
            *(torch.split(rows, counts) for rows in (own_s1, own_s2, bars)), strict=True
        ):
            yield Paths(*(part.numpy().copy() for part in parts))

    def _encode(self, batch: "Batch") -> tuple[Tensor, Tensor]:
        """The contexts' tokens s1, s2: (context rows,)."""
        tokenizer = self._tokenizer
        x = tokenizer.embed(batch.bars)
        for block in tokenizer.encoder:
            x, _ = block.prefill(x, batch.groups)
        return bits_to_tokens(tokenizer.quant_embed(x) > 0)

    def _sample(self, batch: "Batch", s1: Tensor, s2: Tensor) -> tuple[Tensor, Tensor]:
        """The forecasts' tokens s1, s2: (path rows, horizon)."""
        model, groups = self._model, batch.groups
        x = model.embed(s1, s2, batch.stamps)
        caches = []
        for block in model.blocks:
            x, cache = block.prefill(x, groups)
            caches.append(cache)
        hidden = model.hidden(x)
        dependency = model.dependency.prefill(hidden, groups)
        for cache in (*caches, dependency):
            for group, layer in zip(groups, cache, strict=True):
                layer.reserve(group.paths, batch.horizon - 1)

        own_s1 = torch.empty(batch.path_rows, batch.horizon, dtype=torch.long)
        own_s2 = torch.empty_like(own_s1)
        hidden = hidden[batch.newest_rows]  # (series, d_model): all paths start from the same bar
        for step in range(batch.horizon):
            logits = model.s1_head(hidden)
            if step == 0:
                logits, hidden = (t[batch.series_of_path] for t in (logits, hidden))
            own_s1[:, step] = batch.pick(logits, step, 0)
            mixed = model.dependency.mix(hidden, own_s1[:, step], groups, dependency)
            own_s2[:, step] = batch.pick(model.s2_head(mixed), step, 1)
            if step == batch.horizon - 1:
                break
            stamps = batch.future_stamps[:, step]
            x = model.embed(own_s1[:, step], own_s2[:, step], stamps)
            for block, cache in zip(model.blocks, caches, strict=True):
                x = block.extend(x, groups, cache, first=step, new=1)
            hidden = model.hidden(x)
            model.dependency.append(hidden, groups, dependency)
        return own_s1, own_s2

    def _decode(
        self, batch: "Batch", s1: Tensor, s2: Tensor, own_s1: Tensor, own_s2: Tensor
    ) -> Tensor:
        """The forecasts' bars: (path rows, horizon, 6). All tokens are known: one pass for all."""
        tokenizer, groups = self._tokenizer, batch.groups
        context = tokenizer.tables(torch.stack([s1, s2], dim=-1))
        x = tokenizer.tables(torch.stack([own_s1.flatten(), own_s2.flatten()], dim=-1))
        for i, block in enumerate(tokenizer.decoder):
            if i < len(tokenizer.decoder) - 1:
                context, caches = block.prefill(context, groups)
            else:
                caches = block.prefill_cache(context, groups)
            for group, layer in zip(groups, caches, strict=True):
                layer.reserve(group.paths, batch.horizon)
            x = block.extend(x, groups, caches, first=0, new=batch.horizon)
        return torch.unflatten(tokenizer.head(x), 0, (-1, batch.horizon))


@dataclass
class Batch:
    """Prompts of one horizon that are computed together, those of one group side by side."""

    order: list[int]  # each prompt's place in the caller's list
    prompts: list[Prompt]
    groups: list[Group] = field(init=False)

    def __post_init__(self) -> None:
        self.horizon = self.prompts[0].horizon
        runs = [list(run) for _, run in groupby(self.prompts, key=_kind)]
        self.groups = [Group(len(run), len(run[0].bars), run[0].sampling.samples) for run in runs]
        self.samplings = [run[0].sampling for run in runs]
        contexts = torch.tensor([len(prompt.bars) for prompt in self.prompts])
        samples = torch.tensor([prompt.sampling.samples for prompt in self.prompts])
        self.bars = torch.from_numpy(np.concatenate([p.bars for p in self.prompts]))
        past, future = zip(
            *((p.stamps[: len(p.bars)], p.stamps[len(p.bars) :]) for p in self.prompts), strict=True
        )
        self.stamps = torch.from_numpy(np.concatenate(past))  # (context rows, 5)
        self.newest_rows = contexts.cumsum(0) - 1
        self.series_of_path = torch.arange(len(samples)).repeat_interleave(samples)
        self.path_rows = int(samples.sum())
        self.future_stamps = torch.from_numpy(np.stack(future))[self.series_of_path]
        self.uniform = torch.cat(
            [random_numbers(p.seed, p.sampling.samples, self.horizon) for p in self.prompts]
        )

    def pick(self, logits: Tensor, step: int, which: int) -> Tensor:
        """One token a path: (path rows, tokens) -> (path rows,)."""
        picked = []
        sizes = [group.series * group.paths for group in self.groups]
        uniform = self.uniform[:, step, which]
        for sampling, rows, numbers in zip(
            self.samplings, torch.split(logits, sizes), torch.split(uniform, sizes), strict=True
        ):
            if sampling.greedy:
                picked.append(rows.argmax(dim=-1))
            else:
                picked.append(draw(filtered_probabilities(rows, sampling), numbers))
        return torch.cat(picked)


def _kind(prompt: Prompt) -> tuple[int, int, int, float, int, float]:
    """What must agree inside a group; sorting by it puts like beside like."""
    s = prompt.sampling
    return prompt.horizon, len(prompt.bars), s.samples, s.temperature, s.top_k, s.top_p


def _batches(prompts: Sequence[Prompt], budget: int) -> Iterator[Batch]:
    """Like with like, each of one horizon and of at most `budget` tokens (or one prompt)."""
    order = sorted(range(len(prompts)), key=lambda i: _kind(prompts[i]))
    batch: list[int] = []
    tokens = 0
    for i in order:
        prompt = prompts[i]
        cost = len(prompt.bars) + prompt.sampling.samples * prompt.horizon
        if batch and (prompt.horizon != prompts[batch[0]].horizon or tokens + cost > budget):
            yield Batch(batch, [prompts[j] for j in batch])
            batch, tokens = [], 0
        batch.append(i)
        tokens += cost
    if batch:
        yield Batch(batch, [prompts[j] for j in batch])
