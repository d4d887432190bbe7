"""Blocks shared by model and tokenizer, with the parameter names of the published files.

These modules are the published architecture: whole sequences, no cache. `kronos_space.engine`
computes the same from folded weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROPE_BASE = 10000.0
NORM_EPS = 1e-5


class Block(nn.Module):
    """Pre-norm causal transformer block: x + attention(norm(x)), then x + ffn(norm(x))."""

    def __init__(self, d_model: int, n_heads: int, ff_dim: int, p: "Dropouts") -> None:
        super().__init__()
        self.norm1 = RMSNorm(d_model)
        self.self_attn = Attention(d_model, n_heads, p)
        self.norm2 = RMSNorm(d_model)
        self.ffn = FeedForward(d_model, ff_dim, p)

    def forward(self, x: Tensor) -> Tensor:  # (batch, time, d_model)
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, causal=True, rotate=True)
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class Dropouts:
    """Dropout probabilities of a block; only used in training mode."""

    def __init__(self, ffn: float = 0.0, attn: float = 0.0, resid: float = 0.0) -> None:
        self.ffn, self.attn, self.resid = ffn, attn, resid


class Attention(nn.Module):
    """Multi-head attention; with RoPE if queries and keys are rotated."""

    def __init__(self, d_model: int, n_heads: int, p: Dropouts) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attn_dropout_p = p.attn
        self.q_proj = Linear(d_model, d_model)
        self.k_proj = Linear(d_model, d_model)
        self.v_proj = Linear(d_model, d_model)
        self.out_proj = Linear(d_model, d_model)
        self.rotary = Rotary(d_model // n_heads)
        self.resid_dropout = nn.Dropout(p.resid)

    def forward(self, query: Tensor, context: Tensor, *, causal: bool, rotate: bool) -> Tensor:
        """Return the attention of `query` over the bars of `context`.

        query: (batch, queries, d_model). context: (batch, keys, d_model). The result has the shape
        of `query`.
        """
        q, k, v = (
            projected.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (batch, heads, time, dim)
            for projected in (self.q_proj(query), self.k_proj(context), self.v_proj(context))
        )
        if rotate:
            q, k = self.rotary(q), self.rotary(k)
        dropout_p = self.attn_dropout_p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=causal)
        out: Tensor = self.resid_dropout(self.out_proj(mixed.transpose(1, 2).flatten(2)))
        return out


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) · w3 x)."""

    def __init__(self, d_model: int, ff_dim: int, p: Dropouts) -> None:
        super().__init__()
        self.w1 = Linear(d_model, ff_dim, bias=False)
        self.w3 = Linear(d_model, ff_dim, bias=False)
        self.w2 = Linear(ff_dim, d_model, bias=False)
        self.ffn_dropout = nn.Dropout(p.ffn)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ffn_dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)))
        return out


class Linear(nn.Linear):
    """A linear layer without random initialisation: weights come from a file or `init_weights`."""

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """An embedding without random initialisation, like `Linear`."""

    def reset_parameters(self) -> None:
        pass


def init_weights(module: nn.Module) -> None:
    """Fill one module, not its children, with fresh weights."""
    if isinstance(module, Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps), times a learnt weight."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, NORM_EPS)


class Rotary(nn.Module):
    """Rotary position embedding, rotate-half form.

    The published files contain `inv_freq` of every attention, although it follows from the head's
    width.
    """

    inv_freq: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", rope_frequencies(head_dim))

    def forward(self, x: Tensor) -> Tensor:  # (..., time, head_dim), positions from 0
        angles = torch.outer(torch.arange(x.shape[-2]).to(self.inv_freq), self.inv_freq)
        cos, sin = angles.cos(), angles.sin()
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rope_frequencies(head_dim: int) -> Tensor:
    """Return the radians per bar of each pair of a head's dimensions: (head_dim / 2,)."""
    return 1.0 / ROPE_BASE ** (torch.arange(0, head_dim, 2).float() / head_dim)
