"""Kronos itself: a decoder-only transformer over pairs of tokens, one pair per bar."""

import math

import torch
from torch import Tensor, nn

from kronos_space.model.config import KronosConfig
from kronos_space.model.layers import (
    Attention,
    Block,
    Dropouts,
    Embedding,
    Linear,
    RMSNorm,
    init_weights,
)
from kronos_space.model.pretrained import Pretrained

DEPENDENCY_HEADS = 4  # independent of the model's own number of heads


class Kronos(Pretrained):
    """Predicts a bar's coarse token s1, then its fine token s2 given s1 (arXiv 2508.02739)."""

    config_class = KronosConfig

    def __init__(self, config: KronosConfig, *, fill: bool = True) -> None:
        super().__init__(config)
        c = config
        p = Dropouts(c.ffn_dropout_p, c.attn_dropout_p, c.resid_dropout_p)
        self.token_drop = nn.Dropout(c.token_dropout_p)
        self.embedding = TokenEmbedding(c.s1_bits, c.s2_bits, c.d_model)
        self.time_emb = TimeEmbedding(c.d_model)
        self.transformer = nn.ModuleList(
            Block(c.d_model, c.n_heads, c.ff_dim, p) for _ in range(c.n_layers)
        )
        self.norm = RMSNorm(c.d_model)
        self.dep_layer = DependencyLayer(c.d_model)
        self.head = Heads(c.s1_bits, c.s2_bits, c.d_model)
        if fill:
            self.apply(init_weights)

    def hidden(self, s1: Tensor, s2: Tensor, stamps: Tensor) -> Tensor:
        """Return the hidden state of each bar.

        s1, s2: (batch, time). stamps: (batch, time, 5). The states: (batch, time, d_model).
        """
        x = self.token_drop(self.embedding(s1, s2) + self.time_emb(stamps))
        for block in self.transformer:
            x = block(x)
        hidden: Tensor = self.norm(x)
        return hidden

    def s1_logits(self, hidden: Tensor) -> Tensor:
        """Return the logits of the next bar's s1.

        hidden: (..., d_model). The logits: (..., 2^s1_bits).
        """
        logits: Tensor = self.head.proj_s1(hidden)
        return logits

    def s2_logits(self, hidden: Tensor, s1: Tensor) -> Tensor:
        """Return the logits of the newest bar's s2, given its s1.

        hidden: (batch, time, d_model), s1: (batch,). The query attends to every bar of the context,
        including the newest.
        """
        query = self.embedding.emb_s1(s1).unsqueeze(1)  # (batch, 1, d_model), not scaled by √d
        logits: Tensor = self.head.proj_s2(self.dep_layer(hidden, query))
        return logits.squeeze(1)


class TokenEmbedding(nn.Module):
    """Embeds both tokens of a bar in one vector."""

    def __init__(self, s1_bits: int, s2_bits: int, d_model: int) -> None:
        super().__init__()
        self.scale = math.sqrt(d_model)
        self.emb_s1 = Embedding(2**s1_bits, d_model)
        self.emb_s2 = Embedding(2**s2_bits, d_model)
        self.fusion_proj = Linear(2 * d_model, d_model)

    def forward(self, s1: Tensor, s2: Tensor) -> Tensor:  # (batch, time) -> (…, d_model)
        both = torch.cat([self.emb_s1(s1), self.emb_s2(s2)], dim=-1)
        fused: Tensor = self.fusion_proj(both * self.scale)
        return fused


class TimeEmbedding(nn.Module):
    """Sum of five learnt embeddings of the bar's local time."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.minute_embed = Embedding(60, d_model)
        self.hour_embed = Embedding(24, d_model)
        self.weekday_embed = Embedding(7, d_model)
        self.day_embed = Embedding(32, d_model)
        self.month_embed = Embedding(13, d_model)

    def tables(self) -> tuple[nn.Embedding, ...]:
        """Return the tables in the order of a stamp: minute, hour, weekday, day, month."""
        return (
            self.minute_embed,
            self.hour_embed,
            self.weekday_embed,
            self.day_embed,
            self.month_embed,
        )

    def forward(self, stamps: Tensor) -> Tensor:  # (batch, time, 5) -> (batch, time, d_model)
        return sum(
            (table(stamps[..., i]) for i, table in enumerate(self.tables())),
            start=torch.zeros(()),
        )


class DependencyLayer(nn.Module):
    """Adds the s1 drawn for the next bar to the newest bar's hidden state."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.cross_attn = Attention(d_model, DEPENDENCY_HEADS, Dropouts())
        self.norm = RMSNorm(d_model)

    def forward(self, hidden: Tensor, query: Tensor) -> Tensor:
        """hidden: (batch, time, d_model), query: (batch, 1, d_model) -> (batch, 1, d_model)."""
        mixed = self.cross_attn(query, hidden, causal=False, rotate=False)
        informed: Tensor = self.norm(hidden[:, -1:] + mixed)
        return informed


class Heads(nn.Module):
    """One projection to the logits of each token."""

    def __init__(self, s1_bits: int, s2_bits: int, d_model: int) -> None:
        super().__init__()
        self.proj_s1 = Linear(d_model, 2**s1_bits)
        self.proj_s2 = Linear(d_model, 2**s2_bits)
