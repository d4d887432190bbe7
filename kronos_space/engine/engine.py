"""The engine: prefill every series once, then decode all its sample paths together.

The steps are those of the reference's `auto_regressive_inference`, without repeated computation.
The context passes through encoder, model and decoder once per series, for any number of paths.
Each step costs one token per path.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kronos_space.engine.batch import Batch, Paths, Prompt, batches, dealt
from kronos_space.engine.fused import FoldedModel, FoldedTokenizer
from kronos_space.engine.hardware import fast_dtype, keep_freed_memory, usable_cpus
from kronos_space.engine.lanes import Lanes, Steps, use_threads
from kronos_space.engine.passes import Caches, Passes, Tokens, halves, whole
from kronos_space.engine.quantiles import path_quantiles
from kronos_space.engine.sampling import SamplingParams
from kronos_space.weights.checkpoint import Checkpoint

__all__ = ["DTYPES", "TOKEN_BUDGET", "Engine", "Paths", "Prompt"]

# Maximum number of tokens of contexts and forecasts that are computed at a time. This limits the
# memory. With fewer tokens a series takes longer, because each decoding step is a few hundred small
# products, however many rows it has. With more tokens the intermediate results no longer fit in the
# processor's caches.
TOKEN_BUDGET = 5120
# Tokens of one series' paths that are decoded at a time. With fewer tokens, each token takes more
# time. With more tokens, decoding takes more memory: 20 KiB per token with Kronos-mini.
PATHS_BUDGET = 8192
# Up to this number of paths, one thread draws them as fast as several do. Another thread computes
# the decoder's context in the meantime.
FEW_PATHS = 64
# Tokens of decoded paths that are turned into bars in one step. A small request waits for one such
# step of a large request: half a second with Kronos-mini and its longest context.
BARS_BUDGET = 4096

# Two threads share the context of one series if it has at least this number of bars.
LONG_CONTEXT = 64
# Share of the context's bars that the thread with the earlier bars computes. The other thread has
# fewer bars, because later bars attend to more bars.
EARLIER_SHARE = 0.56

STAMP_SIZES = (60, 24, 7, 32, 13)  # minute, hour, weekday, day, month
DTYPES = ("float32", "bfloat16", "int8", "auto")
# "auto" uses a faster type if its quantiles differ from those of float32 by at most this number on
# average. The unit is the history's standard deviation. If the standard deviation is 10 % of the
# price, the limit is 0.5 % of the price.
CLOSE_ENOUGH = 0.05


class Engine:
    """One loaded model with its weights folded for inference. Not thread-safe.

    Args:
        checkpoint: The model and its tokenizer.
        threads: Number of torch's threads in the whole process. None: all usable CPUs.
        dtype: Type of matrix products. "auto" selects the fastest type that the CPU has
            instructions for, if the quantiles for a synthetic history are close to those of
            float32. The attribute `dtype` is "float32", "bfloat16" or "int8".
    """

    def __init__(
        self, checkpoint: Checkpoint, *, threads: int | None = None, dtype: str = "float32"
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r}: expected one of {', '.join(DTYPES)}")
        self._lanes = Lanes(threads or usable_cpus())
        use_threads(self._lanes.threads)
        keep_freed_memory()
        self.checkpoint = checkpoint
        self._fold("float32" if dtype == "auto" else dtype)
        faster = fast_dtype() if dtype == "auto" else None
        if faster:
            exact = self._trial()
            self._fold(faster)
            if not np.abs(self._trial() - exact).mean() <= CLOSE_ENOUGH:  # also true for NaN
                self._fold("float32")

    def _fold(self, dtype: str) -> None:
        self.dtype = dtype
        positions = self.checkpoint.max_context
        product_dtype = getattr(torch, dtype)
        with torch.inference_mode():
            self._passes = Passes(
                FoldedTokenizer(self.checkpoint.tokenizer, positions, product_dtype),
                FoldedModel(self.checkpoint.model, positions, product_dtype),
            )

    def _trial(self) -> NDArray[np.float64]:
        """Return quantiles of the close for a synthetic history, normalised: (levels, horizon)."""
        horizon = min(3, self.checkpoint.max_context - 1)
        context = min(128, self.checkpoint.max_context - horizon)
        walk = np.random.default_rng(0).standard_normal((context, 6)).cumsum(axis=0)
        bars = ((walk - walk.mean(axis=0)) / (walk.std(axis=0) + 1e-5)).astype(np.float32)
        stamps = np.zeros((context + horizon, 5), dtype=np.int64)
        prompt = Prompt(bars, stamps, horizon, SamplingParams(samples=256), seed=0)
        [paths] = self.generate([prompt])
        return path_quantiles(paths.bars[..., 3], [0.1, 0.25, 0.5, 0.75, 0.9])

    def generate(self, prompts: Sequence[Prompt]) -> list[Paths]:
        """Return the paths of every prompt, in the order of the prompts."""
        steps = self.work(prompts)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                paths: list[Paths] = end.value
                return paths

    @torch.inference_mode()  # active during a step, not between steps
    def work(self, prompts: Sequence[Prompt]) -> Steps[list[Paths]]:
        """Do the work of `generate` in steps: one block of layers, or one bar of every path.

        Prompts may differ in length, horizon, samples and sampling. Similar ones are computed in
        batches of a limited number of tokens. Close the generator to end the work. Several may be
        in progress if one thread advances them all.

        Raises:
            ValueError: A prompt is invalid.
            NotFinite: The model's numbers overflow.
        """
        for prompt in prompts:
            self._check(prompt)
        threads = self._lanes.threads
        use_threads(threads)
        shares = dealt(prompts, threads)
        works = [
            self._share([prompts[i] for i in share], threads // len(shares)) for share in shares
        ]
        made = yield from self._lanes.together(works, threads)
        results = dict(zip(chain(*shares), chain(*made), strict=True))
        return [results[i] for i in range(len(prompts))]

    def _share(self, prompts: Sequence[Prompt], threads: int) -> Steps[list[Paths]]:
        """Do one lane's share of the work, in batches."""
        results: dict[int, Paths] = {}
        for batch in batches(prompts, TOKEN_BUDGET):
            paths = yield from self._generate(batch, threads)
            results.update(zip(batch.order, paths, strict=True))
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
            # otherwise the look-up would silently use a row of the next table
            raise ValueError(f"stamps: expected each column from 0 to below {STAMP_SIZES}")

    def _generate(self, batch: Batch, threads: int) -> Steps[list[Paths]]:
        passes = self._passes
        tokens, newest, caches = yield from self._context(batch, threads)
        first_part, *others = batch.parts(PATHS_BUDGET)
        at_once = threads if first_part.path_rows <= FEW_PATHS else 1
        sampled, (decoded, decoder_caches) = yield from self._lanes.together(
            [passes.sample(first_part, newest, caches), passes.prefill_decoder(batch, tokens)],
            at_once,
        )
        parts = []
        for part in (first_part, *others):
            if part is not first_part:
                sampled = yield from passes.sample(part, newest, caches)
            first = 0
            for piece in part.parts(BARS_BUDGET):
                rows = slice(first, first := first + piece.path_rows)
                drawn = sampled[0][rows], sampled[1][rows]
                bars = yield from passes.decode(piece, decoder_caches, drawn)
                parts.append((*drawn, bars))
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        counts = [prompt.sampling.samples for prompt in batch.prompts]
        return [
            Paths(*(rows.numpy().copy() for rows in series))
            for series in zip(
                *(torch.split(column, counts) for column in columns), decoded, strict=True
            )
        ]

    def _context(self, batch: Batch, threads: int) -> Steps[tuple[Tokens, Tensor, Caches]]:
        """Return the tokens of the contexts, the newest bars' hidden states, and the caches."""
        passes = self._passes
        if threads == 1 or len(batch.prompts) > 1 or batch.groups[0].bars < LONG_CONTEXT:
            tokens, hidden, caches = yield from passes.context(batch, whole(batch))
            return tokens, hidden[batch.newest_rows], caches
        (earlier, _, _), (later, hidden, caches) = yield from self._lanes.together(
            [passes.context(batch, half) for half in halves(batch, EARLIER_SHARE)], threads
        )
        s1, s2 = (torch.cat(both) for both in zip(earlier, later, strict=True))
        return (s1, s2), hidden[-1:], caches
