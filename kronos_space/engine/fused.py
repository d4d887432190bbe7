"""Weights folded for inference, out of the published ones, once at load.

Nothing here is saved: a checkpoint is loaded into and saved from `Kronos` and
`KronosTokenizer`; these are derived from them, and compute the same with fewer, larger products:

- a norm's weight goes into the product behind it;
- q, k and v are one product, gate and up are one;
- 1/√head_dim goes into q;
- embeddings go through the linear layer behind them row by row, which leaves one table look-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronos_space.engine.kv_cache import KVCache, causal_attention
from kronos_space.model.layers import NORM_EPS, Attention, Block, rope_frequencies
from kronos_space.model.tokenizer import KronosTokenizer, tokens_to_sphere
from kronos_space.model.transformer import DependencyLayer, Kronos


@dataclass(frozen=True)
class Group:
    """Series of one length, whose rows lie together in a batch."""

    series: int
    bars: int  # of the context, per series
    paths: int  # per series


class FoldedBlock:
    """One transformer block. `rows` are bars of several series, one after the other: (rows, d).

    The residual stream is float32; products are computed in the block's dtype.
    """

    def __init__(self, block: Block, rope: "Rope", dtype: torch.dtype) -> None:
        attention, ffn = block.self_attn, block.ffn
        self.dtype, self.rope, self.heads = dtype, rope, attention.n_heads
        q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
        scale = (q.in_features // self.heads) ** -0.5
        weight = torch.cat([q.weight * scale, k.weight, v.weight])
        self.qkv = (weight * block.norm1.weight).to(dtype)
        self.qkv_bias = torch.cat([q.bias * scale, k.bias, v.bias]).to(dtype)
        self.out, self.out_bias = (p.to(dtype) for p in attention.out_proj.parameters())
        gate_up = torch.cat([ffn.w1.weight, ffn.w3.weight])
        self.gate_up = (gate_up * block.norm2.weight).to(dtype)
        self.down = ffn.w2.weight.to(dtype)

    def prefill(self, x: Tensor, groups: Sequence[Group]) -> tuple[Tensor, list[KVCache]]:
        """Whole contexts, from their first bar on. x is overwritten."""
        mixed = torch.empty(x.shape, dtype=self.dtype)
        caches = []
        of_groups = of_contexts(self._qkv(x), groups), of_contexts(mixed, groups)
        for rows, out in zip(*of_groups, strict=True):
            q, k, v = self._heads(rows, first=0)
            cache = KVCache(k, v, self.dtype)
            out = torch.unflatten(out, -1, (self.heads, -1)).transpose(1, 2)
            causal_attention(q, cache.keys, cache.values, out)
            caches.append(cache)
        return self._rest(x, mixed), caches

    def prefill_newest(
        self, x: Tensor, groups: Sequence[Group], newest: Tensor
    ) -> tuple[Tensor, list[KVCache]]:
        """As `prefill`, where only each series' newest bar is needed: rows `newest` of x.

        Returns these bars' output (series, d) and the caches of all bars.
        """
        mixed, caches = [], []
        for rows in of_contexts(self._qkv(x), groups):
            q, k, v = self._heads(rows, first=0)
            cache = KVCache(k, v, self.dtype)
            one_query = q[:, :, -1:].unsqueeze(2)  # (series, heads, 1, 1, head_dim)
            mixed.append(cache.attend(one_query).flatten(1))
            caches.append(cache)
        return self._rest(x[newest], torch.cat(mixed)), caches

    def extend(
        self, x: Tensor, groups: Sequence[Group], caches: Sequence[KVCache], first: int, new: int
    ) -> Tensor:
        """The next `new` bars of every path, `first` bars after its context. x is overwritten."""
        mixed = []
        for group, cache, rows in zip(
            groups, caches, of_paths(self._qkv(x), groups, new), strict=True
        ):
            q, k, v = (
                torch.unflatten(part, 0, (group.series, group.paths)).transpose(1, 2)
                for part in self._heads(rows.flatten(0, 1), group.bars + first)
            )  # each (series, heads, paths, new, head_dim)
            cache.append(k, v)
            mixed.append(cache.attend(q).permute(0, 2, 3, 1, 4).flatten(3).flatten(0, 2))
        return self._rest(x, torch.cat(mixed))

    def _qkv(self, x: Tensor) -> Tensor:
        return F.linear(norm(x).to(self.dtype), self.qkv, self.qkv_bias)

    def _heads(self, qkv: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, time, 3·d_model) of bars from position `first` on -> rotated q and k, and v:
        (batch, heads, time, head_dim)."""
        qk, v = torch.split(torch.unflatten(qkv, -1, (3, self.heads, -1)), [2, 1], dim=2)
        q, k = self.rope(qk, first)
        return q, k, v.squeeze(2).transpose(1, 2)

    def _rest(self, x: Tensor, mixed: Tensor) -> Tensor:
        """All that follows the attention: out projection, residuals, feed-forward."""
        x += F.linear(mixed, self.out, self.out_bias)
        gate, up = F.linear(norm(x).to(self.dtype), self.gate_up).chunk(2, dim=-1)
        x += F.linear(F.silu(gate, inplace=True).mul_(up), self.down)
        return x


class Rope:
    """Rotary positions of up to `positions` bars (rotate-half: dimension i goes with i + half)."""

    def __init__(self, head_dim: int, positions: int, dtype: torch.dtype) -> None:
        angles = torch.outer(torch.arange(positions).float(), rope_frequencies(head_dim))
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)  # (positions, half)

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """x: (batch, time, 2, heads, head_dim), bars from position `first` on, rotated
        -> (2, batch, heads, time, head_dim), without gaps."""
        batch, time, two, heads, head_dim = x.shape
        cos, sin = (table[first : first + time, None, None] for table in (self.cos, self.sin))
        turned = x.new_empty(two, batch, heads, time, head_dim)
        a, b = x.chunk(2, dim=-1)
        turned_a, turned_b = turned.permute(1, 3, 0, 2, 4).chunk(2, dim=-1)
        torch.mul(a, cos, out=turned_a).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=turned_b).addcmul_(a, sin)
        return turned


class FoldedTokenizer:
    """The tokenizer's two directions."""

    def __init__(self, tokenizer: KronosTokenizer, positions: int, dtype: torch.dtype) -> None:
        self.embed, self.quant_embed = tokenizer.embed, tokenizer.quant_embed
        self.head = tokenizer.head
        rope = Rope(tokenizer.config.d_model // tokenizer.config.n_heads, positions, dtype)
        self.encoder = _folded(tokenizer.encoder, rope, dtype)
        self.decoder = _folded(tokenizer.decoder, rope, dtype)
        bits = tokenizer.config.s1_bits
        every, none = torch.arange(2**bits), torch.zeros(2**bits, dtype=torch.long)
        as_s1 = tokens_to_sphere(every, none, bits)[:, :bits]
        weight, bias = tokenizer.post_quant_embed.weight, tokenizer.post_quant_embed.bias
        self.tables = Tables([as_s1 @ weight[:, :bits].T + bias, as_s1 @ weight[:, bits:].T])


class FoldedModel:
    """Kronos's embeddings, blocks, dependency layer and heads."""

    def __init__(self, model: Kronos, positions: int, dtype: torch.dtype) -> None:
        rope = Rope(model.config.d_model // model.config.n_heads, positions, dtype)
        self.blocks = _folded(model.transformer, rope, dtype)
        self.norm_weight = model.norm.weight
        self.dependency = FoldedDependency(model.dep_layer, model.embedding.emb_s1, dtype)
        self.s1_head, self.s2_head = model.head.proj_s1, model.head.proj_s2
        embedding = model.embedding
        fusion_s1, fusion_s2 = embedding.fusion_proj.weight.chunk(2, dim=1)
        self.tables = Tables(
            [
                embedding.emb_s1.weight * embedding.scale @ fusion_s1.T
                + embedding.fusion_proj.bias,
                embedding.emb_s2.weight * embedding.scale @ fusion_s2.T,
                *(table.weight for table in model.time_emb.tables()),
            ]
        )

    def embed(self, s1: Tensor, s2: Tensor, stamps: Tensor) -> Tensor:
        """s1, s2: (rows,), stamps: (rows, 5) -> (rows, d_model)."""
        return self.tables(torch.cat([s1.unsqueeze(-1), s2.unsqueeze(-1), stamps], dim=-1))

    def hidden(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.norm_weight, NORM_EPS)


class FoldedDependency:
    """The layer between the two heads; its query is one of 2^s1_bits, so all are kept."""

    def __init__(self, layer: DependencyLayer, emb_s1: nn.Embedding, dtype: torch.dtype) -> None:
        attention: Attention = layer.cross_attn
        self.dtype, self.heads = dtype, attention.n_heads
        k, v = attention.k_proj, attention.v_proj
        self.kv = torch.cat([k.weight, v.weight]).to(dtype)
        self.kv_bias = torch.cat([k.bias, v.bias]).to(dtype)
        scale = (emb_s1.embedding_dim // self.heads) ** -0.5
        self.queries = (attention.q_proj(emb_s1.weight) * scale).to(dtype)  # (2^s1_bits, d_model)
        self.out = attention.out_proj
        self.norm_weight = layer.norm.weight

    def prefill(self, hidden: Tensor, groups: Sequence[Group]) -> list[KVCache]:
        """hidden: (rows, d_model) of whole contexts."""
        caches = []
        for rows in of_contexts(self._kv(hidden), groups):
            k, v = torch.unflatten(rows, -1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
            caches.append(KVCache(k, v, self.dtype))
        return caches

    def append(self, hidden: Tensor, groups: Sequence[Group], caches: Sequence[KVCache]) -> None:
        """hidden: (rows, d_model), one new bar of every path."""
        for cache, rows in zip(caches, of_paths(self._kv(hidden), groups, 1), strict=True):
            k, v = torch.unflatten(rows, -1, (2, self.heads, -1)).permute(3, 0, 4, 1, 2, 5)
            cache.append(k, v)

    def mix(
        self, hidden: Tensor, s1: Tensor, groups: Sequence[Group], caches: Sequence[KVCache]
    ) -> Tensor:
        """hidden: (rows, d_model) of every path's newest bar, s1: (rows,) -> (rows, d_model)."""
        mixed = []
        for cache, rows in zip(caches, of_paths(self.queries[s1], groups, 1), strict=True):
            q = torch.unflatten(rows, -1, (self.heads, -1)).permute(0, 3, 1, 2, 4)
            mixed.append(cache.attend(q).permute(0, 2, 3, 1, 4).flatten(3).flatten(0, 2))
        x = hidden + self.out(torch.cat(mixed).float())
        return F.rms_norm(x, x.shape[-1:], self.norm_weight, NORM_EPS)

    def _kv(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.to(self.dtype), self.kv, self.kv_bias)


class Tables:
    """Sum of one row of each of several embedding tables, as one look-up."""

    def __init__(self, tables: Sequence[Tensor]) -> None:
        self.rows = torch.cat(list(tables))
        sizes = torch.tensor([0, *(len(table) for table in tables[:-1])])
        self.offsets = sizes.cumsum(0)

    def __call__(self, indices: Tensor) -> Tensor:
        """indices: (rows, tables) -> (rows, d_model)."""
        return F.embedding_bag(indices + self.offsets, self.rows, mode="sum")


def norm(x: Tensor) -> Tensor:
    """RMSNorm whose weight stands in the product behind it."""
    return F.rms_norm(x, x.shape[-1:], None, NORM_EPS)


def of_contexts(rows: Tensor, groups: Sequence[Group]) -> list[Tensor]:
    """(rows, …) -> of each group (series, bars, …), views."""
    parts = torch.split(rows, [g.series * g.bars for g in groups])
    return [torch.unflatten(p, 0, (g.series, g.bars)) for p, g in zip(parts, groups, strict=True)]


def of_paths(rows: Tensor, groups: Sequence[Group], new: int) -> list[Tensor]:
    """(rows, …) -> of each group (series, paths, new, …), views."""
    parts = torch.split(rows, [g.series * g.paths * new for g in groups])
    return [
        torch.unflatten(p, 0, (g.series, g.paths, new)) for p, g in zip(parts, groups, strict=True)
    ]


def _folded(blocks: nn.ModuleList, rope: Rope, dtype: torch.dtype) -> list[FoldedBlock]:
    return [FoldedBlock(cast("Block", block), rope, dtype) for block in blocks]
