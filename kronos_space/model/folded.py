"""Weights folded for inference, out of the published ones, once at load.

Nothing here is saved: a checkpoint is loaded into and saved from `Kronos` and
`KronosTokenizer`; these are derived from them, and compute the same with fewer, larger products:

- a norm's weight goes into the product behind it;
- q, k and v are one product, gate and up are one;
- 1/√head_dim goes into q;
- each head's dimensions are reordered so that RoPE's pairs lie side by side, which turns the
  rotation into one multiplication by complex numbers (queries and keys alike, so that their
  products stay what they are);
- embeddings go through the linear layer behind them row by row, which leaves one table look-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronos_space.model.cache import KVCache, causal_attention
from kronos_space.model.layers import NORM_EPS, Attention, Block, rope_frequencies
from kronos_space.model.tokenizer import KronosTokenizer, tokens_to_sphere
from kronos_space.model.transformer import DependencyLayer, Kronos


@dataclass(frozen=True)
class Group:
    """Series of one length, whose rows lie together in a batch."""

    series: int
    bars: int  # of the context, per series
    paths: int  # per series

    def of_context(self, rows: Tensor) -> Tensor:
        """(series · bars, …) -> (series, bars, …)"""
        return rows.unflatten(0, (self.series, self.bars))

    def of_paths(self, rows: Tensor, new: int) -> Tensor:
        """(series · paths · new, …) -> (series, paths, new, …)"""
        return rows.unflatten(0, (self.series, self.paths, new))


class FoldedBlock:
    """One transformer block. `rows` are bars of several series, one after the other: (rows, d)."""

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        attention, ffn = block.self_attn, block.ffn
        self.heads = attention.n_heads
        d_model = attention.q_proj.in_features
        head_dim = d_model // self.heads
        self.rope = Rope(head_dim)
        pairs = _rope_pairs_side_by_side(self.heads, head_dim)
        q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
        scale = head_dim**-0.5
        weight = torch.cat([q.weight[pairs] * scale, k.weight[pairs], v.weight])
        self.qkv = (weight * block.norm1.weight).to(dtype)
        self.qkv_bias = torch.cat([q.bias[pairs] * scale, k.bias[pairs], v.bias]).to(dtype)
        self.out, self.out_bias = (p.to(dtype) for p in attention.out_proj.parameters())
        gate_up = torch.cat([ffn.w1.weight, ffn.w3.weight])
        self.gate_up = (gate_up * block.norm2.weight).to(dtype)
        self.down = ffn.w2.weight.to(dtype)

    def prefill(self, x: Tensor, groups: Sequence[Group]) -> tuple[Tensor, list[KVCache]]:
        """Whole contexts, from their first bar on. x is overwritten."""
        mixed, caches = [], []
        for group, rows in zip(groups, _split_context(self._qkv(x), groups), strict=True):
            q, k, v = self._heads(group.of_context(rows), torch.arange(group.bars))
            caches.append(KVCache(k, v))
            mixed.append(causal_attention(q, caches[-1].keys, caches[-1].values))
        rows = torch.cat([m.transpose(1, 2).flatten(2).flatten(0, 1) for m in mixed])
        return self._rest(x, rows), caches

    def prefill_cache(self, x: Tensor, groups: Sequence[Group]) -> list[KVCache]:
        """As `prefill`, where nobody needs the block's output."""
        caches = []
        for group, rows in zip(groups, _split_context(self._qkv(x), groups), strict=True):
            _, k, v = self._heads(group.of_context(rows), torch.arange(group.bars))
            caches.append(KVCache(k, v))
        return caches

    def extend(
        self, x: Tensor, groups: Sequence[Group], caches: Sequence[KVCache], first: int, new: int
    ) -> Tensor:
        """The next `new` bars of every path, `first` bars after its context. x is overwritten."""
        mixed = []
        for group, cache, rows in zip(
            groups, caches, _split_paths(self._qkv(x), groups, new), strict=True
        ):
            positions = torch.arange(new) + group.bars + first
            q, k, v = (
                part.unflatten(0, (group.series, group.paths)).transpose(1, 2)
                for part in self._heads(group.of_paths(rows, new).flatten(0, 1), positions)
            )  # each (series, heads, paths, new, head_dim)
            cache.append(k, v)
            mixed.append(cache.attend(q))
        rows = torch.cat([m.permute(0, 2, 3, 1, 4).flatten(3).flatten(0, 2) for m in mixed])
        return self._rest(x, rows)

    def _qkv(self, x: Tensor) -> Tensor:
        return F.linear(norm(x).to(self.qkv.dtype), self.qkv, self.qkv_bias)

    def _heads(self, qkv: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, time, 3·d_model) -> rotated q and k, and v: (batch, heads, time, head_dim)."""
        qk, v = qkv.unflatten(-1, (3, self.heads, -1)).split([2, 1], dim=2)
        q, k = self.rope(qk, positions).permute(2, 0, 3, 1, 4)
        return q, k, v.squeeze(2).transpose(1, 2)

    def _rest(self, x: Tensor, mixed: Tensor) -> Tensor:
        """All that follows the attention: out projection, residuals, feed-forward."""
        x += F.linear(mixed, self.out, self.out_bias)
        gate, up = F.linear(norm(x).to(self.gate_up.dtype), self.gate_up).chunk(2, dim=-1)
        x += F.linear(F.silu(gate, inplace=True).mul_(up), self.down)
        return x


class Rope:
    """RoPE for heads whose pairs lie side by side."""

    def __init__(self, head_dim: int) -> None:
        self.frequencies = rope_frequencies(head_dim)

    def __call__(self, x: Tensor, positions: Tensor) -> Tensor:
        """x: (batch, time, 2, heads, head_dim), positions: (time,) -> rotated, same shape."""
        angles = torch.outer(positions.float(), self.frequencies)[:, None, None, :]
        turns = torch.polar(torch.ones_like(angles), angles)
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


class FoldedTokenizer:
    """The tokenizer's two directions."""

    def __init__(self, tokenizer: KronosTokenizer, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.embed, self.quant_embed = tokenizer.embed, tokenizer.quant_embed
        self.head = tokenizer.head
        self.encoder = _folded(tokenizer.encoder, dtype)
        self.decoder = _folded(tokenizer.decoder, dtype)
        bits = tokenizer.config.s1_bits
        every, none = torch.arange(2**bits), torch.zeros(2**bits, dtype=torch.long)
        as_s1 = tokens_to_sphere(every, none, bits)[:, :bits]
        weight, bias = tokenizer.post_quant_embed.weight, tokenizer.post_quant_embed.bias
        self.tables = Tables([as_s1 @ weight[:, :bits].T + bias, as_s1 @ weight[:, bits:].T])


class FoldedModel:
    """Kronos's embeddings, blocks, dependency layer and heads."""

    def __init__(self, model: Kronos, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.blocks = _folded(model.transformer, dtype)
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
        self.heads = attention.n_heads
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
        for group, rows in zip(groups, _split_context(self._kv(hidden), groups), strict=True):
            k, v = group.of_context(rows).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
            caches.append(KVCache(k, v))
        return caches

    def append(self, hidden: Tensor, groups: Sequence[Group], caches: Sequence[KVCache]) -> None:
        """hidden: (rows, d_model), one new bar of every path."""
        for group, cache, rows in zip(
            groups, caches, _split_paths(self._kv(hidden), groups, 1), strict=True
        ):
            k, v = (
                group.of_paths(rows, 1).unflatten(-1, (2, self.heads, -1)).permute(3, 0, 4, 1, 2, 5)
            )
            cache.append(k, v)

    def mix(
        self, hidden: Tensor, s1: Tensor, groups: Sequence[Group], caches: Sequence[KVCache]
    ) -> Tensor:
        """hidden: (rows, d_model) of every path's newest bar, s1: (rows,) -> (rows, d_model)."""
        mixed = []
        for group, cache, rows in zip(
            groups, caches, _split_paths(self.queries[s1], groups, 1), strict=True
        ):
            q = group.of_paths(rows, 1).unflatten(-1, (self.heads, -1)).permute(0, 3, 1, 2, 4)
            mixed.append(cache.attend(q).permute(0, 2, 3, 1, 4).flatten(3).flatten(0, 2))
        x = hidden + self.out(torch.cat(mixed).float())
        return F.rms_norm(x, x.shape[-1:], self.norm_weight, NORM_EPS)

    def _kv(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.to(self.kv.dtype), self.kv, self.kv_bias)


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


def _folded(blocks: nn.ModuleList, dtype: torch.dtype) -> list[FoldedBlock]:
    return [FoldedBlock(cast(Block, block), dtype) for block in blocks]


def _rope_pairs_side_by_side(heads: int, head_dim: int) -> Tensor:
    """Rotate-half pairs (i, i + head_dim/2) of every head, next to each other."""
    half = torch.arange(head_dim // 2)
    pairs = torch.stack([half, half + head_dim // 2], dim=-1).flatten()
    return (torch.arange(heads)[:, None] * head_dim + pairs).flatten()


def _split_context(rows: Tensor, groups: Sequence[Group]) -> Sequence[Tensor]:
    return rows.split([group.series * group.bars for group in groups])


def _split_paths(rows: Tensor, groups: Sequence[Group], new: int) -> Sequence[Tensor]:
    return rows.split([group.series * group.paths * new for group in groups])
