"""A model small enough to be trained in a test, and candles for it."""

import numpy as np
import torch

from kronos_space.finetune.windows import Series
from kronos_space.model.config import KronosConfig, KronosTokenizerConfig
from kronos_space.model.tokenizer import KronosTokenizer
from kronos_space.model.transformer import Kronos

BARS = 32


def tiny_model(seed: int = 0) -> tuple[Kronos, KronosTokenizer]:
    torch.manual_seed(seed)
    model = Kronos(KronosConfig(s1_bits=4, s2_bits=4, n_layers=1, d_model=16, n_heads=2, ff_dim=32))
    shape = KronosTokenizerConfig(
        d_model=16, n_heads=2, ff_dim=32, n_enc_layers=2, n_dec_layers=2, s1_bits=4, s2_bits=4,
        group_size=4,
    )  # fmt: skip
    return model.eval(), KronosTokenizer(shape).eval()


def candles(symbol: str = "ABC", bars: int = 900, seed: int = 0) -> Series:
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    values = np.empty((bars, 6))
    values[:, 0] = np.concatenate([closes[:1], closes[:-1]])
    values[:, 3] = closes
    values[:, 1] = values[:, [0, 3]].max(axis=1) * 1.003
    values[:, 2] = values[:, [0, 3]].min(axis=1) * 0.997
    values[:, 4] = rng.uniform(1e5, 2e5, bars)
    values[:, 5] = values[:, 4] * values[:, :4].mean(axis=1)
    return Series(symbol, np.arange(bars) + np.datetime64("2015-01-01"), values)
