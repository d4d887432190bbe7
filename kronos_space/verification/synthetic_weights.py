"""Checkpoints of the published shapes with reproducible synthetic weights.

Speed and equality with the reference do not depend on the values, and the published weights
cannot be downloaded everywhere.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kronos_space.model.config import KronosConfig, KronosTokenizerConfig
from kronos_space.model.tokenizer import KronosTokenizer
from kronos_space.model.transformer import Kronos

PUBLISHED_MODELS = {  # s1/s2 have 10 bits in all of them
    "kronos-mini": dict(n_layers=4, d_model=256, n_heads=4, ff_dim=512),
    "kronos-small": dict(n_layers=8, d_model=512, n_heads=8, ff_dim=1024),
    "kronos-base": dict(n_layers=12, d_model=832, n_heads=16, ff_dim=2048),
}
DROPOUTS = dict(ffn_dropout_p=0.2, attn_dropout_p=0.1, resid_dropout_p=0.2, token_dropout_p=0.1)
GROUP_SIZE = {"kronos-mini": 5, "kronos-small": 4, "kronos-base": 4}


def published_shape(name: str) -> tuple[KronosConfig, KronosTokenizerConfig]:
    """Return the configurations of a published model and of its tokenizer."""
    model = KronosConfig(**PUBLISHED_MODELS[name], **DROPOUTS)  # type: ignore[arg-type]
    return model, KronosTokenizerConfig(group_size=GROUP_SIZE[name])


def write_checkpoint(folder: Path, name: str = "kronos-mini", max_context: int = 2048) -> Path:
    """Write a checkpoint folder that KRONOS_MODEL accepts. Return `folder`."""
    model, tokenizer = published_shape(name)
    for component, module in (
        ("model", Kronos(model, fill=False)),
        ("tokenizer", KronosTokenizer(tokenizer, fill=False)),
    ):
        prescribe_weights(component, module)
        module.save_pretrained(folder / component)
    description = {"name": f"{name}-shape", "max_context": max_context, "description": "made up"}
    (folder / "kronos.json").write_text(json.dumps(description))
    return folder


def prescribe_weights(component: str, module: nn.Module) -> None:
    """Fill each parameter from a random generator seeded with the parameter's name."""
    for name, parameter in module.named_parameters():
        key = zlib.crc32(f"{component}/{name}".encode())
        random = np.random.Generator(np.random.PCG64(key))
        x = torch.from_numpy(random.standard_normal(tuple(parameter.shape), dtype=np.float32))
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
            x = 1 + 0.1 * x
        elif name.endswith("bias"):
            x = 0.02 * x
        else:
            x = x * parameter.shape[-1] ** -0.5 * (4 if name.startswith("head.proj_") else 1)
        parameter.data.copy_(x)
