"""The published models, each pinned by revision and checksum. Imports no torch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class CheckpointError(Exception):
    """A model cannot be loaded. The text is one line: what, why, and what to do."""


class WrongCheckpoint(CheckpointError):
    """KRONOS_MODEL names no model, or a folder without a usable checkpoint."""


@dataclass(frozen=True)
class CatalogueEntry:
    """A published model and the one tokenizer it was trained with, both pinned.

    The configurations list the values that decide a forecast. The published files also contain
    dropout rates, which matter in training only.
    """

    name: str  # the value of KRONOS_MODEL
    model_id: str
    model_revision: str
    model_sha256: str  # of model.safetensors
    tokenizer_id: str
    tokenizer_revision: str
    tokenizer_sha256: str
    max_context: int  # bars
    model_config: Mapping[str, int | bool] = field(kw_only=True)
    tokenizer_config: Mapping[str, int] = field(kw_only=True)


def _model_config(n_layers: int, d_model: int, n_heads: int, ff_dim: int) -> dict[str, int | bool]:
    return {
        "s1_bits": 10,
        "s2_bits": 10,
        "n_layers": n_layers,
        "d_model": d_model,
        "n_heads": n_heads,
        "ff_dim": ff_dim,
        "learn_te": True,
    }


def _tokenizer_config(group_size: int) -> dict[str, int]:
    return {
        "d_in": 6,
        "d_model": 256,
        "n_heads": 4,
        "ff_dim": 512,
        "n_enc_layers": 4,
        "n_dec_layers": 4,
        "s1_bits": 10,
        "s2_bits": 10,
        "group_size": group_size,
    }


_TOKENIZER_BASE: dict[str, Any] = {
    "tokenizer_id": "NeoQuasar/Kronos-Tokenizer-base",
    "tokenizer_revision": "0e0117387f39004a9016484a186a908917e22426",
    "tokenizer_sha256": "59d85f6af76a2c3b8240ea06cb21db4213b4eeca053f246b23e29cf832fc6bee",
    "tokenizer_config": _tokenizer_config(group_size=4),
}

CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="kronos-mini",
            model_id="NeoQuasar/Kronos-mini",
            model_revision="f4e68697d9d5aed55cef5c96aabc3376bcad9f81",
            model_sha256="a7d5f37e2e9fbd9891f7d7d4f72574512dd1f704fee14223e0a8cd0fbf54197c",
            tokenizer_id="NeoQuasar/Kronos-Tokenizer-2k",
            tokenizer_revision="26966d0035065a0cae0ebad7af8ece35bc1fb51c",
            tokenizer_sha256="b97ec46b3b72160509e289183eaf7bdf5f0dac5bb9b49522f6d46638a99a8717",
            max_context=2048,
            model_config=_model_config(n_layers=4, d_model=256, n_heads=4, ff_dim=512),
            tokenizer_config=_tokenizer_config(group_size=5),
        ),
        CatalogueEntry(
            name="kronos-small",
            model_id="NeoQuasar/Kronos-small",
            model_revision="901c26c1332695a2a8f243eb2f37243a37bea320",
            model_sha256="b082dfcbd8e8c142a725c8bbb99781802f38fec81210e13479effb32b3c3e020",
            max_context=512,
            model_config=_model_config(n_layers=8, d_model=512, n_heads=8, ff_dim=1024),
            **_TOKENIZER_BASE,
        ),
        CatalogueEntry(
            name="kronos-base",
            model_id="NeoQuasar/Kronos-base",
            model_revision="2b554741eca47781b64468546e77fef3e85130e6",
            model_sha256="abff193acab6db1a0368e9773e75799d11403b6d054ee6d5f0a11aeabc5f4b83",
            max_context=512,
            model_config=_model_config(n_layers=12, d_model=832, n_heads=16, ff_dim=2048),
            **_TOKENIZER_BASE,
        ),
    )
}

# The files of a checkpoint folder, here and on the Hub.
FILES = ("config.json", "model.safetensors")
CHECKPOINT_FILES = (
    "kronos.json",
    *(f"{part}/{file}" for part in ("model", "tokenizer") for file in FILES),
)

# Name of a bundled checkpoint -> SHA-256 of each of its files.
BUNDLED_FILES = {
    "kronos-nano": {
        "kronos.json": "f1a40054705a0707aad5528803b06110b5ea9cedf17b9bb6a289bef302c8b316",
        "model/config.json": "3e7d3f6d592105031ffcb27e390f2169ec840a9fb2765a8145d32e7dc83506d3",
        "model/model.safetensors": (
            "5f85a6d2273c82561b99812220f606419e46c09f15ece08db710206abe3f8866"
        ),
        "tokenizer/config.json": "284bed4db76ddeda9dcfa5f961cb0a2eccdc793b23656b818d413e7f08351e86",
        "tokenizer/model.safetensors": (
            "d84603340e730d42fb119c06fa07b570976200e5fc05806e64e4d90c637adc5d"
        ),
    }
}


def check_distinct(names: Sequence[str]) -> None:
    """Raise WrongCheckpoint if two models share a name, since requests choose a model by name."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise WrongCheckpoint(
            f"KRONOS_MODELS: two checkpoints have the name {twice}; leave one out, or give the "
            "other a different name in its kronos.json"
        )


def check_name(name: str, variable: str = "KRONOS_MODEL") -> None:
    """Raise WrongCheckpoint for an unknown name, before anything slow is imported."""
    known = [*CATALOGUE, *BUNDLED_FILES, "auto"]
    if name not in known and not Path(name).is_dir() and hub_revision(name) is None:
        raise WrongCheckpoint(
            f"{variable}={name!r}: neither a known model nor a folder; expected one of "
            f"{', '.join(known)}, the path of a checkpoint folder, or OWNER/NAME@REVISION of one "
            "on the Hub, its revision in 40 digits"
        )


def hub_revision(name: str) -> tuple[str, str] | None:
    """Return (repository, revision) of a name like OWNER/NAME@REVISION, or None for other names."""
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})", name, re.ASCII)
    return None if found is None else (found[1], found[2])
