"""The passes through a loaded model: contexts first, then the paths.

Each pass yields between two blocks of layers, or between two bars of the paths. A pass through
contexts computes all bars of the contexts, or a span of the bars. Attention is causal: a later span
needs the keys and values of an earlier span, and an earlier span needs nothing of a later one. So
two threads can compute one series.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kronos_space.engine.batch import Batch
from kronos_space.engine.fused import FoldedBlock, FoldedModel, FoldedTokenizer, Group
from kronos_space.engine.kv_cache import KVCache, Room
from kronos_space.engine.lanes import Handover, Steps
from kronos_space.engine.sampling import require_finite
from kronos_space.model.tokenizer import bits_to_tokens

Caches = list[list[KVCache]]  # by layer, then by group
Tokens = tuple[Tensor, Tensor]  # s1 and s2


@dataclass(frozen=True)
class Span:
    """Consecutive bars of the contexts of a batch: all of them, or a part of one series'."""

    groups: list[Group]  # `bars` counts those of the span
    contexts: list[int]  # bars in the whole context of each group's series
    rows: slice  # of the batch's bars
    first: int = 0  # bars before the span
    earlier: Handover[list[KVCache]] | None = None  # from the span before this one
    later: Handover[list[KVCache]] | None = None  # for the span after this one

    def caches(
        self, heads: Sequence[Sequence[Tensor]], steps: int, dtype: torch.dtype
    ) -> Steps[list[KVCache]]:
        """Return one layer's caches that hold the bars of the span and all before it.

        Reserve space for `steps` steps of the paths. `heads` has a sequence of tensors for each
        group, of which the last two are k and v. The shape of each is (series, bars, heads,
        head_dim).
        """
        if self.earlier:
            caches = yield from self.earlier.take()
        else:
            caches = [
                KVCache((group.series, bars, *k.shape[2:]), Room(group.paths, steps), dtype)
                for group, bars, (*_, k, _) in zip(self.groups, self.contexts, heads, strict=True)
            ]
        for cache, (*_, k, v) in zip(caches, heads, strict=True):
            cache.store(k, v, self.first)
        if self.later:
            self.later.put(caches)
        return caches


def whole(batch: Batch) -> Span:
    """Return all bars of a batch."""
    return Span(batch.groups, [group.bars for group in batch.groups], slice(None))


def halves(batch: Batch, earlier_share: float) -> tuple[Span, Span]:
    """Return the earlier and the later bars of one series, to compute at the same time."""
    [group] = batch.groups
    bars, cut = group.bars, round(group.bars * earlier_share)
    handover: Handover[list[KVCache]] = Handover()
    return (
        Span([Group(1, cut, group.paths)], [bars], slice(cut), later=handover),
        Span([Group(1, bars - cut, group.paths)], [bars], slice(cut, None), cut, handover),
    )


class Passes:
    """The passes through one model and its tokenizer."""

    def __init__(self, tokenizer: FoldedTokenizer, model: FoldedModel) -> None:
        self._tokenizer = tokenizer
        self._model = model

    def context(self, batch: Batch, span: Span) -> Steps[tuple[Tokens, Tensor, Caches]]:
        """Return the tokens of a span, and what `sample` needs after the last span."""
        s1, s2 = yield from self._encode(batch, span)
        hidden, caches = yield from self._prefill(batch, span, s1, s2)
        return (s1, s2), hidden, caches

    def _encode(self, batch: Batch, span: Span) -> Steps[Tokens]:
        """Return the tokens s1, s2 of a span, each (rows,)."""
        tokenizer = self._tokenizer
        x = tokenizer.embed(batch.bars[span.rows])
        for block in tokenizer.encoder:
            x, _ = yield from self._context_block(block, x, span, 0)
            yield
        return bits_to_tokens(tokenizer.quant_embed(x) > 0)

    def _prefill(
        self, batch: Batch, span: Span, s1: Tensor, s2: Tensor
    ) -> Steps[tuple[Tensor, Caches]]:
        """Prefill the model. Return the hidden states of the span (rows, d_model), and caches.

        The caches are those of all blocks, then that of the dependency layer.
        """
        model, steps = self._model, batch.horizon - 1
        x = model.embed(s1, s2, batch.stamps[span.rows])
        caches = []
        for block in model.blocks:
            x, of_block = yield from self._context_block(block, x, span, steps)
            caches.append(of_block)
            yield
        hidden = model.hidden(x)
        heads = model.dependency.heads_of(hidden, span.groups)
        caches.append((yield from span.caches(heads, steps, model.dependency.dtype)))
        return hidden, caches

    def prefill_decoder(self, batch: Batch, tokens: Tokens) -> Steps[tuple[Tensor, Caches]]:
        """Return the decoded newest bars (series, 6), and the caches of the tokenizer's decoder."""
        tokenizer, span = self._tokenizer, whole(batch)
        x = tokenizer.tables(torch.stack(tokens, dim=-1))
        caches = []
        *blocks, last = tokenizer.decoder
        for block in blocks:
            x, of_block = yield from self._context_block(block, x, span, batch.horizon)
            caches.append(of_block)
            yield
        heads = last.heads_of(x, batch.groups, 0)
        caches.append((yield from span.caches(heads, batch.horizon, last.dtype)))
        newest = last.attend_newest(x, [q for q, _, _ in heads], caches[-1], batch.newest_rows)
        bars = tokenizer.head(newest)
        require_finite(bars)
        return bars, caches

    def _context_block(
        self, block: FoldedBlock, x: Tensor, span: Span, steps: int
    ) -> Steps[tuple[Tensor, list[KVCache]]]:
        """Process a span in one block. Return its output and the block's caches."""
        heads = block.heads_of(x, span.groups, span.first)
        caches = yield from span.caches(heads, steps, block.dtype)
        return block.attend(x, [q for q, _, _ in heads], caches, span.first), caches

    def sample(self, batch: Batch, newest: Tensor, caches: Caches) -> Steps[Tokens]:
        """Sample the tokens s1, s2 of the forecasts, each (path rows, horizon).

        newest: the hidden states of the contexts' newest bars, (series, d_model).
        """
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

    def decode(self, batch: Batch, caches: Caches, tokens: Tokens) -> Steps[Tensor]:
        """Decode the bars of the forecasts, (path rows, horizon, 6), all in one pass."""
        tokenizer = self._tokenizer
        x = tokenizer.tables(torch.stack([part.flatten() for part in tokens], dim=-1))
        for block, cache in zip(tokenizer.decoder, caches, strict=True):
            batch.reserve(cache, batch.horizon)
            x = block.extend(x, batch.groups, cache, first=0, new=batch.horizon)
            batch.release(cache)
            yield
        bars = torch.unflatten(tokenizer.head(x), 0, (-1, batch.horizon))
        require_finite(bars)
        return bars
