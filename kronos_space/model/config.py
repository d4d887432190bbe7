"""The two configurations, with the field names of the published `config.json` files."""

from dataclasses import dataclass, fields


@dataclass
class KronosConfig:
    """Shape of a Kronos model. Dropouts are only used in training."""

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

    def __post_init__(self) -> None:
        _check(self)


@dataclass
class KronosTokenizerConfig:
    """Shape of a Kronos tokenizer.

    beta, gamma0, gamma and zeta are weights of its training losses.
    """

    d_in: int = 6
    d_model: int = 256
    n_heads: int = 4
    ff_dim: int = 512
    n_enc_layers: int = 4  # each stack has one block less than this
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

    def __post_init__(self) -> None:
        _check(self)
        if self.s1_bits != self.s2_bits:
            raise ValueError(f"s1_bits={self.s1_bits} and s2_bits={self.s2_bits} must be equal")


def _check(config: KronosConfig | KronosTokenizerConfig) -> None:
    for field in fields(config):
        value: object = getattr(config, field.name)
        kind = type(field.default)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"{field.name}={value!r}: expected {kind.__name__}")
        if isinstance(value, int) and kind is int and value < 1:
            raise ValueError(f"{field.name}={value}: expected at least 1")
    if config.d_model % config.n_heads:
        raise ValueError(f"d_model={config.d_model} is not a multiple of n_heads={config.n_heads}")
