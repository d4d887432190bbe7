"""Weights folded for inference: derived from the published weights when the model is loaded.

Folded weights give the same results as the published ones with fewer, larger products. They are
never saved: checkpoints are loaded into and saved from `Kronos` and `KronosTokenizer`. Folding
means:

- a norm's weight is multiplied into the next product;
- q, k and v are one product, with the two dimensions that are rotated together next to each other;
- 1/√head_dim is multiplied into q;
- SiLU and its factor are computed on the results of the products gate and up;
- each embedding row passes through the next linear layer, so that one table look-up remains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kronos_space.engine.kv_cache import KVCache, causal_attention
from kronos_space.engine.products import FloatProduct, not_integer, product
from kronos_space.model.layers import NORM_EPS, Attention, Block, rope_frequencies
from kronos_space.model.tokenizer import KronosTokenizer, tokens_to_sphere
from kronos_space.model.transformer import DependencyLayer, Kronos


@dataclass(frozen=True)
class Group:
    """Series of equal length. Their rows are adjacent in a batch."""

    series: int
    bars: int  # bars in the context of each series
    paths: int  # number of paths of each series


class FoldedBlock:
    """One transformer block. `rows` are bars of several series in sequence: (rows, d).

    The residual stream is float32. Products and attention are computed in the block's dtype, but
    with int8 the attention is float32.
    """

    def __init__(self, block: Block, rope: "Rope", dtype: torch.dtype) -> None:
        attention, ffn = block.self_attn, block.ffn
        self.dtype, self.rope, self.heads = not_integer(dtype), rope, attention.n_heads
        norm1, norm2 = block.norm1.weight, block.norm2.weight
        q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
        scale = (q.in_features // self.heads) ** -0.5
        pairs = rope.pairs(self.heads)
        weight = torch.cat([q.weight[pairs] * scale, k.weight[pairs], v.weight]) * norm1
        bias = torch.cat([q.bias[pairs] * scale, k.bias[pairs], v.bias])
        self.qkv = product(weight, bias, dtype)
        self.out = product(attention.out_proj.weight, attention.out_proj.bias, dtype)
        self.gate = product(ffn.w1.weight * norm2, None, dtype)
        self.up = product(ffn.w3.weight * norm2, None, dtype)
        self.down = product(ffn.w2.weight, None, dtype)

    def heads_of(self, x: Tensor, groups: Sequence[Group], first: int) -> list[list[Tensor]]:
        """Return q, k and v of each group, for bars of the contexts from bar `first` on.

        Each is (series, bars, heads, head_dim).
        """
        return [self._heads(rows, first) for rows in of_contexts(self._qkv(x), groups)]

    def attend(
        self, x: Tensor, queries: Sequence[Tensor], caches: Sequence[KVCache], first: int
    ) -> Tensor:
        """Process bars of the contexts, after they and earlier bars are in the caches.

        `queries` are those of `heads_of`. x is overwritten.
        """
        mixed = torch.empty(x.shape, dtype=self.dtype)
        outs = torch.split(mixed, [q.shape[0] * q.shape[1] for q in queries])
        for q, cache, out in zip(queries, caches, outs, strict=True):
            series, bars, heads, head_dim = q.shape
            packed = torch.empty(series * heads, bars, head_dim, dtype=self.dtype)
            packed.copy_(q.transpose(1, 2).flatten(0, 1))
            causal_attention(packed, cache.keys, cache.values, out.view(q.shape), first)
        return self._after_attention(x, mixed)

    def attend_newest(
        self, x: Tensor, queries: Sequence[Tensor], caches: Sequence[KVCache], newest: Tensor
    ) -> Tensor:
        """Return only the rows `newest` of the result of `attend` for the whole contexts."""
        mixed = [
            # one query: (series, 1, 1, heads, head_dim)
            cache.attend(q[:, -1:].unsqueeze(1)).flatten(1)
            for q, cache in zip(queries, caches, strict=True)
        ]
        return self._after_attention(x[newest], torch.cat(mixed))

    def extend(
        self, x: Tensor, groups: Sequence[Group], caches: Sequence[KVCache], first: int, new: int
    ) -> Tensor:
        """Process the next `new` bars of each path, `first` bars after its context; overwrite x."""
        mixed = []
        of_groups = of_paths(self._qkv(x), groups, new)
        for group, cache, rows in zip(groups, caches, of_groups, strict=True):
            q, k, v = self._heads(rows, group.bars + first)
            cache.append(k, v)
            mixed.append(cache.attend(q).flatten(3).flatten(0, 2))
        return self._after_attention(x, mixed[0] if len(mixed) == 1 else torch.cat(mixed))

    def _qkv(self, x: Tensor) -> Tensor:
        return self.qkv(self.qkv.ready(norm(x)))

    def _heads(self, qkv: Tensor, first: int) -> list[Tensor]:
        """Return rotated q and k, and v, each (..., time, heads, head_dim).

        `qkv` is (..., time, 3·d_model), the bars from position `first` on. It may be overwritten.
        """
        heads = torch.unflatten(qkv, -1, (3 * self.heads, -1))
        qk, v = torch.split(heads, [2 * self.heads, self.heads], dim=-2)
        return [*self.rope(qk, first).chunk(2, dim=-2), v]

    def _after_attention(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Compute what follows the attention: output projection, residuals, feed-forward."""
        x = self.out.plus(self.out.ready(mixed), x)
        h = self.gate.ready(norm(x))
        return self.down.plus(self.down.ready(self.up.times(h, self.gate.silu(h))), x)


class Rope:
    """Rotary position embedding for up to `positions` bars.

    The published heads rotate dimension i together with dimension i + half. Here the two dimensions
    are adjacent, as the real and the imaginary part of a complex number. Then a rotation is one
    multiplication.
    """

    def __init__(self, head_dim: int, positions: int) -> None:
        angles = torch.outer(torch.arange(positions).float(), rope_frequencies(head_dim))
        self.turns = torch.polar(torch.ones(()), angles)  # complex (positions, half)

    def pairs(self, heads: int) -> Tensor:
        """Return the published index of each dimension in this order: (heads · head_dim,)."""
        half = self.turns.shape[1]
        return torch.arange(heads * 2 * half).view(heads, 2, half).transpose(1, 2).flatten()

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """Rotate x: (..., time, heads, head_dim), bars from position `first` on. Returns float32.

        x may be overwritten.
        """
        numbers = torch.view_as_complex(torch.unflatten(x.float(), -1, (-1, 2)))
        numbers *= self.turns[first : first + x.shape[-3], None]
        return torch.view_as_real(numbers).flatten(-2)


class FoldedTokenizer:
    """The tokenizer's encoder and decoder."""

    def __init__(self, tokenizer: KronosTokenizer, positions: int, dtype: torch.dtype) -> None:
        self.embed, self.quant_embed = tokenizer.embed, tokenizer.quant_embed
        self.head = tokenizer.head
        rope = Rope(tokenizer.config.d_model // tokenizer.config.n_heads, positions)
        # The encoder is not computed in int8: a changed token would change the whole forecast.
        self.encoder = _folded(tokenizer.encoder, rope, not_integer(dtype))
        self.decoder = _folded(tokenizer.decoder, rope, dtype)
        bits = tokenizer.config.s1_bits
        tokens, none = torch.arange(2**bits), torch.zeros(2**bits, dtype=torch.long)
        as_s1 = tokens_to_sphere(tokens, none, bits)[:, :bits]
        weight, bias = tokenizer.post_quant_embed.weight, tokenizer.post_quant_embed.bias
        self.tables = Tables([as_s1 @ weight[:, :bits].T + bias, as_s1 @ weight[:, bits:].T])


class FoldedModel:
    """Kronos' embeddings, blocks, dependency layer and heads."""

    def __init__(self, model: Kronos, positions: int, dtype: torch.dtype) -> None:
        rope = Rope(model.config.d_model // model.config.n_heads, positions)
        self.blocks = _folded(model.transformer, rope, dtype)
        self.norm_weight = model.norm.weight
        self.dependency = FoldedDependency(
            model.dep_layer, model.embedding.emb_s1, not_integer(dtype)
        )
        self.s1_head, self.s2_head = (
            FloatProduct(head.weight, head.bias, torch.float32)
            for head in (model.head.proj_s1, model.head.proj_s2)
        )
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
        """Embed s1, s2 (rows,) and stamps (rows, 5): returns (rows, d_model)."""
        return self.tables(torch.cat([s1.unsqueeze(-1), s2.unsqueeze(-1), stamps], dim=-1))

    def hidden(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.norm_weight, NORM_EPS)


class FoldedDependency:
    """The layer between the two heads. The queries of all 2^s1_bits tokens are precomputed."""

    def __init__(self, layer: DependencyLayer, emb_s1: nn.Embedding, dtype: torch.dtype) -> None:
        attention: Attention = layer.cross_attn
        self.dtype, self.heads = dtype, attention.n_heads
        k, v = attention.k_proj, attention.v_proj
        weight, bias = torch.cat([k.weight, v.weight]), torch.cat([k.bias, v.bias])
        self.kv = FloatProduct(weight, bias, dtype)
        scale = (emb_s1.embedding_dim // self.heads) ** -0.5
        self.queries = (attention.q_proj(emb_s1.weight) * scale).to(dtype)  # (2^s1_bits, d_model)
        self.out = FloatProduct(attention.out_proj.weight, attention.out_proj.bias, torch.float32)
        self.norm_weight = layer.norm.weight

    def heads_of(self, hidden: Tensor, groups: Sequence[Group]) -> list[tuple[Tensor, Tensor]]:
        """Return k and v of each group, (series, bars, heads, head_dim), for bars of contexts."""
        return [self._heads(rows) for rows in of_contexts(self._kv(hidden), groups)]

    def append(self, hidden: Tensor, groups: Sequence[Group], caches: Sequence[KVCache]) -> None:
        """Append one new bar of every path to the caches. hidden: (rows, d_model)."""
        for cache, rows in zip(caches, of_paths(self._kv(hidden), groups, 1), strict=True):
            cache.append(*self._heads(rows))

    def mix(
        self, hidden: Tensor, s1: Tensor, groups: Sequence[Group], caches: Sequence[KVCache]
    ) -> Tensor:
        """Mix drawn s1 (rows,) into the newest hidden states (rows, d_model); same shape."""
        mixed = []
        for cache, rows in zip(caches, of_paths(self.queries[s1], groups, 1), strict=True):
            q = torch.unflatten(rows, -1, (self.heads, -1))
            mixed.append(cache.attend(q).flatten(3).flatten(0, 2))
        x = self.out.plus(torch.cat(mixed).float(), hidden)
        return F.rms_norm(x, x.shape[-1:], self.norm_weight, NORM_EPS)

    def _kv(self, hidden: Tensor) -> Tensor:
        return self.kv(hidden.to(self.dtype))

    def _heads(self, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Return k and v, each (..., heads, head_dim), of (..., 2·d_model)."""
        k, v = torch.unflatten(kv, -1, (2, self.heads, -1)).unbind(-3)
        return k, v


class Tables:
    """Several embedding tables as one: returns the sum of one row of each."""

    def __init__(self, tables: Sequence[Tensor]) -> None:
        self.rows = torch.cat(list(tables))
        sizes = torch.tensor([0, *(len(table) for table in tables[:-1])])
        self.offsets = sizes.cumsum(0)

    def __call__(self, indices: Tensor) -> Tensor:
        """Look up indices (rows, tables): returns (rows, d_model)."""
        return F.embedding_bag(indices + self.offsets, self.rows, mode="sum")


def norm(x: Tensor) -> Tensor:
    """RMSNorm without its weight, which is folded into the next product."""
    return F.rms_norm(x, x.shape[-1:], None, NORM_EPS)


def of_contexts(rows: Tensor, groups: Sequence[Group]) -> list[Tensor]:
    """Return views of (rows, …) for each group: (series, bars, …)."""
    parts = torch.split(rows, [g.series * g.bars for g in groups])
    return [torch.unflatten(p, 0, (g.series, g.bars)) for p, g in zip(parts, groups, strict=True)]


def of_paths(rows: Tensor, groups: Sequence[Group], new: int) -> list[Tensor]:
    """Return views of (rows, …) for each group: (series, paths, new, …)."""
    parts = torch.split(rows, [g.series * g.paths * new for g in groups])
    return [
        torch.unflatten(p, 0, (g.series, g.paths, new)) for p, g in zip(parts, groups, strict=True)
    ]


def _folded(blocks: nn.ModuleList, rope: Rope, dtype: torch.dtype) -> list[FoldedBlock]:
    return [FoldedBlock(cast("Block", block), rope, dtype) for block in blocks]
