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
from kronos_space.engine.kv_cache import KVCache
from kronos_space.engine.lanes import Lanes, Steps, use_threads
from kronos_space.engine.quantiles import path_quantiles
from kronos_space.engine.sampling import SamplingParams, require_finite
from kronos_space.model.tokenizer import bits_to_tokens
from kronos_space.weights.checkpoint import Checkpoint

__all__ = ["DTYPES", "TOKEN_BUDGET", "Engine", "Paths", "Prompt"]

# Tokens computed at a time, of contexts and forecasts; they limit the memory. With fewer, a series
# takes longer, because each decoding step is a few hundred small products for any number of rows.
# With more, intermediate results no longer fit in the processor's caches.
TOKEN_BUDGET = 5120
# Tokens of one series' paths decoded at a time. Fewer take more time per token, more take more
# memory: 20 KiB per token with Kronos-mini.
PATHS_BUDGET = 8192
# Up to this number of paths, one thread draws them as fast as several do. Another thread computes
# the decoder's context in the meantime.
FEW_PATHS = 64
# Tokens of decoded paths that are turned into bars in one step. A small request waits for one such
# step of a large request: half a second with Kronos-mini and its longest context.
BARS_BUDGET = 4096

Caches = list[list[KVCache]]  # by layer, then by group

STAMP_SIZES = (60, 24, 7, 32, 13)  # minute, hour, weekday, day, month
DTYPES = ("float32", "bfloat16", "int8", "auto")
# "auto" uses a faster type if the quantiles differ by at most this on average, in units of the
# history's standard deviation. If that is 10 % of the price, the limit is 0.5 % of the price.
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
            self._tokenizer = FoldedTokenizer(self.checkpoint.tokenizer, positions, product_dtype)
            self._model = FoldedModel(self.checkpoint.model, positions, product_dtype)

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
        s1, s2 = yield from self._encode(batch)
        newest, caches = yield from self._prefill(batch, s1, s2)
        first_part, *others = batch.parts(PATHS_BUDGET)
        at_once = threads if first_part.path_rows <= FEW_PATHS else 1
        sampled, (decoded, decoder_caches) = yield from self._lanes.together(
            [
                self._sample(first_part, newest, caches),
                self._prefill_decoder(batch, s1, s2),
            ],
            at_once,
        )
        parts = []
        for part in (first_part, *others):
            if part is not first_part:
                sampled = yield from self._sample(part, newest, caches)
            path_s1, path_s2 = sampled
            first = 0
            for piece in part.parts(BARS_BUDGET):
                rows = slice(first, first := first + piece.path_rows)
                tokens = path_s1[rows], path_s2[rows]
                bars = yield from self._decode(piece, decoder_caches, *tokens)
                parts.append((*tokens, bars))
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        counts = [prompt.sampling.samples for prompt in batch.prompts]
        return [
            Paths(*(rows.numpy().copy() for rows in series))
            for series in zip(
                *(torch.split(column, counts) for column in columns), decoded, strict=True
            )
        ]

    def _encode(self, batch: Batch) -> Steps[tuple[Tensor, Tensor]]:
        """Return the tokens s1, s2 of the contexts, each (context rows,)."""
        tokenizer = self._tokenizer
        x = tokenizer.embed(batch.bars)
        for block in tokenizer.encoder:
            x, _ = block.prefill(x, batch.groups)
            yield
        return bits_to_tokens(tokenizer.quant_embed(x) > 0)

    def _prefill(self, batch: Batch, s1: Tensor, s2: Tensor) -> Steps[tuple[Tensor, Caches]]:
        """Prefill the model. Return hidden states of the newest bars (series, d_model), and caches.

        The caches are those of all blocks, then that of the dependency layer.
        """
        model, groups = self._model, batch.groups
        x = model.embed(s1, s2, batch.stamps)
        caches = []
        for block in model.blocks:
            x, cache = block.prefill(x, groups, batch.horizon - 1)
            caches.append(cache)
            yield
        hidden = model.hidden(x)
        caches.append(model.dependency.prefill(hidden, groups, batch.horizon - 1))
        return hidden[batch.newest_rows], caches

    def _prefill_decoder(
        self, batch: Batch, s1: Tensor, s2: Tensor
    ) -> Steps[tuple[Tensor, Caches]]:
        """Return the decoded newest bars (series, 6), and the caches of the tokenizer's decoder."""
        tokenizer, groups = self._tokenizer, batch.groups
        x = tokenizer.tables(torch.stack([s1, s2], dim=-1))
        caches = []
        for block in tokenizer.decoder[:-1]:
            x, cache = block.prefill(x, groups, batch.horizon)
            caches.append(cache)
            yield
        newest = x[batch.newest_rows]
        for block in tokenizer.decoder[-1:]:
            newest, cache = block.prefill_newest(x, groups, batch.horizon, batch.newest_rows)
            caches.append(cache)
        bars = tokenizer.head(newest)
        require_finite(bars)
        return bars, caches

    def _sample(self, batch: Batch, newest: Tensor, caches: Caches) -> Steps[tuple[Tensor, Tensor]]:
        """Sample the tokens s1, s2 of the forecasts, each (path rows, horizon)."""
        model, groups = self._model, batch.groups
        *block_caches, dependency = caches
        for cache in caches:
            batch.reserve(cache, batch.horizon - 1)
        path_s1 = torch.empty(batch.path_rows, batch.horizon, dtype=torch.long)
        path_s2 = torch.empty_like(path_s1)
        hidden = newest  # all paths start from the same bar
        for step in range(batch.horizon):
            logits = model.s1_head(hidden)
            if step == 0:
                logits, hidden = (t[batch.series_of_path] for t in (logits, hidden))
            path_s1[:, step] = batch.pick(logits, step, 0)
            mixed = model.dependency.mix(hidden, path_s1[:, step], groups, dependency)
            path_s2[:, step] = batch.pick(model.s2_head(mixed), step, 1)
            if step == batch.horizon - 1:
                break
            yield
            stamps = batch.future_stamps[:, step]
            x = model.embed(path_s1[:, step], path_s2[:, step], stamps)
            for block, cache in zip(model.blocks, block_caches, strict=True):
                x = block.extend(x, groups, cache, first=step, new=1)
            hidden = model.hidden(x)
            model.dependency.append(hidden, groups, dependency)
        for cache in caches:
            batch.release(cache)
        return path_s1, path_s2

    def _decode(
        self, batch: Batch, caches: Caches, path_s1: Tensor, path_s2: Tensor
    ) -> Steps[Tensor]:
        """Decode the bars of the forecasts, (path rows, horizon, 6), all in one pass."""
        tokenizer = self._tokenizer
        x = tokenizer.tables(torch.stack([path_s1.flatten(), path_s2.flatten()], dim=-1))
        for block, cache in zip(tokenizer.decoder, caches, strict=True):
            batch.reserve(cache, batch.horizon)
            x = block.extend(x, batch.groups, cache, first=0, new=batch.horizon)
            batch.release(cache)
            yield
        bars = torch.unflatten(tokenizer.head(x), 0, (-1, batch.horizon))
        require_finite(bars)
        return bars
