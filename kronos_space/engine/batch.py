"""The engine's input and output, and the grouping of prompts for one pass through the model."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kronos_space.engine.fused import Group
from kronos_space.engine.kv_cache import KVCache, Room
from kronos_space.engine.sampling import SamplingParams, random_numbers, sample


@dataclass(frozen=True)
class Prompt:
    """One series to continue.

    The context and the horizon together must not exceed the model's context length, in bars.
    """

    bars: NDArray[np.float32]  # (context, 6), normalised and clipped
    stamps: NDArray[np.int64]  # (context + horizon, 5): minute, hour, weekday, day, month
    horizon: int
    sampling: SamplingParams
    seed: int
    model: str = ""  # name of the model, for a Space with several models


@dataclass(frozen=True)
class Paths:
    """Sampled continuations of one series."""

    s1: NDArray[np.int64]  # (samples, horizon)
    s2: NDArray[np.int64]  # (samples, horizon)
    bars: NDArray[np.float32]  # (samples, horizon, 6), normalised like the prompt
    # (6,): the newest bar of the context, decoded from its tokens; the paths start from this bar
    reconstruction: NDArray[np.float32]


@dataclass
class Batch:
    """Prompts of one horizon that are computed together; prompts of a group are adjacent."""

    order: list[int]  # position of each prompt in the caller's list
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

    def parts(self, budget: int) -> Iterator["Batch"]:
        """Yield the batch, or split it if it is a single series with too many paths.

        Each part of a split batch has about `budget` tokens of paths, or fewer. A batch of several
        series is never split.
        """
        count = -(-self.path_rows * self.horizon // budget)
        if count <= 1 or len(self.prompts) > 1:
            yield self
            return
        [group] = self.groups
        for rows in torch.arange(self.path_rows).chunk(count):
            part = copy.copy(self)
            part.groups = [replace(group, paths=len(rows))]
            part.path_rows = len(rows)
            part.series_of_path = self.series_of_path[rows]
            part.future_stamps = self.future_stamps[rows]
            part.uniform = self.uniform[rows]
            yield part

    def reserve(self, caches: Sequence[KVCache], steps: int) -> None:
        """Reserve space in one layer's caches for `steps` steps of the paths."""
        for group, cache in zip(self.groups, caches, strict=True):
            cache.reserve(Room(group.paths, steps))

    def release(self, caches: Sequence[KVCache]) -> None:
        """Drop the paths' bars from one layer's caches."""
        for cache in caches:
            cache.release()

    def pick(self, logits: Tensor, step: int, token_index: int) -> Tensor:
        """Draw one token for each path: (path rows, tokens) -> (path rows,)."""
        sizes = [group.series * group.paths for group in self.groups]
        of_groups = (
            torch.split(logits, sizes),
            torch.split(self.uniform[:, step, token_index], sizes),
        )
        return torch.cat(
            [
                sample(rows, sampling, numbers)
                for sampling, rows, numbers in zip(self.samplings, *of_groups, strict=True)
            ]
        )


def dealt(prompts: Sequence[Prompt], lanes: int) -> list[list[int]]:
    """Return the positions of the prompts, divided into at most `lanes` equal shares."""
    order = sorted(range(len(prompts)), key=lambda i: _kind(prompts[i]))
    count = max(1, min(lanes, len(prompts)))
    return [order[lane::count] for lane in range(count)]


def batches(prompts: Sequence[Prompt], budget: int) -> Iterator[Batch]:
    """Yield batches of similar prompts of one horizon.

    A batch has at most `budget` tokens, unless a single prompt has more.
    """
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


def _kind(prompt: Prompt) -> tuple[int, int, int, float, int, float]:
    """Return what prompts of a group have in common, as a sort key."""
    s = prompt.sampling
    return prompt.horizon, len(prompt.bars), s.samples, s.temperature, s.top_k, s.top_p
