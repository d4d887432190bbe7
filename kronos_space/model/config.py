"""The two configurations, with the field names of the published `config.json` files."""

from transformers import PreTrainedConfig


class KronosConfig(PreTrainedConfig):  # type: ignore[misc] # it is untyped
    """Shape of a Kronos model. Dropouts are for training only; inference never applies them."""

    model_type = "kronos"

    s1_bits: int = 10
    s2_bits: int = 10
    n_layers: int = 4
    d_model: int = 256
    n_heads: int = 4
    ff_dim: int = 512
    ffn_dropout_p: float = 0.2
    attn_dropout_p: float = 0.0
    resid_dropout_p: float = 0.2
    token_dropout_p: float = 0.0
    learn_te: bool = True

    def __post_init__(self, **kwargs: object) -> None:
        _require_divisible(self.d_model, self.n_heads)
        super().__post_init__(**kwargs)


class KronosTokenizerConfig(PreTrainedConfig):  # type: ignore[misc] # it is untyped
    """Shape of a Kronos tokenizer. beta, gamma0, gamma and zeta weigh its training losses."""

    model_type = "kronos_tokenizer"

    d_in: int = 6
    d_model: int = 256
    n_heads: int = 4
    ff_dim: int = 512
    n_enc_layers: int = 4  # each stack has one block less than it says
    n_dec_layers: int = 4
    ffn_dropout_p: float = 0.0
    attn_dropout_p: float = 0.0
    resid_dropout_p: float = 0.0
    s1_bits: int = 10
    s2_bits: int = 10
    beta: float = 0.05
    gamma0: float = 1.0
    gamma: float = 1.1
    zeta: float = 0.05
    group_size: int = 5

    def __post_init__(self, **kwargs: object) -> None:
        _require_divisible(self.d_model, self.n_heads)
        if self.s1_bits != self.s2_bits:
            raise ValueError(f"s1_bits={self.s1_bits} and s2_bits={self.s2_bits} must be equal")
        super().__post_init__(**kwargs)


def _require_divisible(d_model: int, n_heads: int) -> None:
    if n_heads < 1 or d_model % n_heads:
        raise ValueError(f"d_model={d_model} is not a multiple of n_heads={n_heads}")
