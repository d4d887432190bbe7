"""The tokenizer: a bar's six numbers <-> two tokens (binary spherical quantisation)."""

import torch
from torch import Tensor, nn

from kronos_space.model.config import KronosTokenizerConfig
from kronos_space.model.layers import Block, Dropouts, Linear, init_weights
from kronos_space.model.pretrained import Pretrained


class KronosTokenizer(Pretrained):
    """Causal encoder to bits, and causal decoder back (Kronos paper, arXiv 2508.02739)."""

    config_class = KronosTokenizerConfig

    def __init__(self, config: KronosTokenizerConfig, *, fill: bool = True) -> None:
        super().__init__(config)
        c, bits = config, config.s1_bits + config.s2_bits
        p = Dropouts(c.ffn_dropout_p, c.attn_dropout_p, c.resid_dropout_p)
        self.embed = Linear(c.d_in, c.d_model)
        self.encoder = nn.ModuleList(
            Block(c.d_model, c.n_heads, c.ff_dim, p) for _ in range(c.n_enc_layers - 1)
        )
        self.quant_embed = Linear(c.d_model, bits)
        self.tokenizer = nn.ModuleDict({"bsq": Quantizer(bits, c.group_size)})
        self.post_quant_embed_pre = Linear(c.s1_bits, c.d_model)  # training only: s1 alone
        self.post_quant_embed = Linear(bits, c.d_model)
        self.decoder = nn.ModuleList(
            Block(c.d_model, c.n_heads, c.ff_dim, p) for _ in range(c.n_dec_layers - 1)
        )
        self.head = Linear(c.d_model, c.d_in)
        if fill:
            self.apply(init_weights)

    def encode(self, bars: Tensor) -> tuple[Tensor, Tensor]:
        """Convert normalised bars to their tokens s1 and s2.

        bars: (batch, time, d_in). Each token: (batch, time).
        """
        x = self.embed(bars)
        for block in self.encoder:
            x = block(x)
        return bits_to_tokens(self.quant_embed(x) > 0)

    def decode(self, s1: Tensor, s2: Tensor) -> Tensor:
        """Convert tokens to normalised bars.

        s1, s2: (batch, time). The bars: (batch, time, d_in).
        """
        x = self.post_quant_embed(tokens_to_sphere(s1, s2, self.config.s1_bits))
        for block in self.decoder:
            x = block(x)
        bars: Tensor = self.head(x)
        return bars


class Quantizer(nn.Module):
    """The place values in the published files, used by the entropy losses of training."""

    basis: Tensor
    group_basis: Tensor

    def __init__(self, bits: int, group_size: int) -> None:
        super().__init__()
        self.register_buffer("basis", place_values(bits).flip(0))
        self.register_buffer("group_basis", place_values(group_size).flip(0))


def place_values(bits: int) -> Tensor:
    """Return 1, 2, 4 …, shape (bits,)."""
    return 2 ** torch.arange(bits)


def bits_to_tokens(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Convert bits to the tokens s1 and s2. Bit i of a token weighs 2^i.

    bits: bool (..., s1_bits + s2_bits). Each token: int64 (...).
    """
    s1, s2 = bits.long().chunk(2, dim=-1)
    weights = place_values(s1.shape[-1])
    return (s1 * weights).sum(-1), (s2 * weights).sum(-1)


def tokens_to_sphere(s1: Tensor, s2: Tensor, bits: int) -> Tensor:
    """Convert tokens to the corner of the sphere that they name, ±1/√(2·bits).

    s1, s2: (...), of `bits` bits each. The corner: float (..., 2·bits).
    """
    tokens = torch.stack([s1, s2], dim=-1).unsqueeze(-1)  # (..., 2, 1)
    ones = ((tokens & place_values(bits)) != 0).flatten(-2)  # (..., 2·bits)
    corner: Tensor = (ones.float() * 2 - 1) * (2 * bits) ** -0.5
    return corner
