"""Material for fine-tuning tests: a tiny trainable model, candles, example comparisons."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kronos_space.finetune.windows import Series
from kronos_space.model.config import KronosConfig, KronosTokenizerConfig
from kronos_space.model.tokenizer import KronosTokenizer
from kronos_space.model.transformer import Kronos
from tradingbot.walk_forward.comparison import Comparison, Gain

BARS = 32
ABOUT: dict[str, Any] = {
    "name": "kronos-nano+2019-06-28", "max_context": 64, "base": "kronos-nano",
    "base_revision": "sha256:0",
    "base_path": "/home/me/base",
    "source": "csv:/home/me/candles", "symbols": ["ABC", "XYZ"], "train_until": "2018-12-28",
    "validate_from": "2019-01-08", "until": "2019-06-28",
    "recipe": {"steps": 20, "batch": 4, "bars": 32, "learning_rate": 1e-3, "seed": 0,
               "best_step": 15, "share": 0.75},
}  # fmt: skip
GOOD = Comparison(
    n=5000,
    sessions=250,
    gain=Gain(0.021, 0.004, 0.039),
    by_step={1: Gain(0.02, 0.0, 0.04)},
    combined=Gain(0.003, -0.001, 0.007),
    combined_over_walk=Gain(0.01, 0.005, 0.015),
    over_walk=Gain(0.02, 0.01, 0.03),
    champion_over_walk=Gain(-0.03, -0.05, -0.01),
    coverage={50: 0.5, 80: 0.79, 90: 0.9},
    champion_coverage={50: 0.4, 80: 0.7, 90: 0.8},
)
POOR = replace(GOOD, gain=Gain(0.004, -0.002, 0.012))


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


def write_place(folder: Path, bars: int = 600, context: int = 64) -> None:
    """Write candles of two tickers to candles/, and a small checkpoint to base/."""
    (folder / "candles").mkdir()
    days = pd.date_range("2015-01-01", periods=bars)
    for number, symbol in enumerate(("AAA-USD", "BBB-USD")):
        values = candles(symbol, bars=bars, seed=number).values[:, :5]
        frame = pd.DataFrame(values, days, ["open", "high", "low", "close", "volume"])
        frame.to_csv(folder / "candles" / f"{symbol}.csv", index_label="date")
    model, tokenizer = tiny_model()
    model.save_pretrained(folder / "base" / "model")
    tokenizer.save_pretrained(folder / "base" / "tokenizer")
    about = {"name": "tiny", "max_context": context}
    (folder / "base" / "kronos.json").write_text(json.dumps(about))
