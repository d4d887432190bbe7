"""Load a model by name: from the Hub at a pinned revision, a folder, or the bundled checkpoints."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2
import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError

from kronos_space.model.pretrained import Pretrained, WrongTensors
from kronos_space.model.tokenizer import KronosTokenizer
from kronos_space.model.transformer import Kronos
from kronos_space.weights.catalogue import (
    BUNDLED_FILES,
    CATALOGUE,
    CHECKPOINT_FILES,
    FILES,
    CatalogueEntry,
    CheckpointError,
    WrongCheckpoint,
    check_name,
    hub_revision,
)
from kronos_space.weights.download import (
    check_config,
    download,
    download_folder,
    first_line,
    is_cached,
    sha256_of,
)
from kronos_space.weights.sanity_check import numeric_fault

__all__ = [
    "BUNDLED",
    "Checkpoint",
    "CheckpointError",
    "WrongCheckpoint",
    "load_checkpoint",
]

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent.parent / "checkpoints"
HUB_PATIENCE = 5.0  # seconds to wait for the Hub's answer with KRONOS_MODEL=auto

Model = TypeVar("Model", bound=Pretrained)


@dataclass(frozen=True)
class Checkpoint:
    """A model and its tokenizer, in eval mode, float32."""

    name: str  # the Hub's id, or the name in kronos.json
    revision: str  # the Hub's commit, or "sha256:…" of a folder's weights
    max_context: int  # bars, history and horizon together
    model: Kronos
    tokenizer: KronosTokenizer


def load_checkpoint(name: str) -> Checkpoint:
    """Load the checkpoint that KRONOS_MODEL names.

    Args:
        name: A published model, a folder, OWNER/NAME@REVISION, or "auto": kronos-mini if the Hub
            answers within seconds, otherwise kronos-nano with a warning.

    Raises:
        WrongCheckpoint: The name is wrong.
        CheckpointError: Anything else prevents loading.
    """
    checkpoint = _load_by_name(name)
    if fault := numeric_fault(checkpoint.model, checkpoint.tokenizer):
        raise CheckpointError(f"{name}: {fault}; take another checkpoint, or fetch this one again")
    return checkpoint


def _load_by_name(name: str) -> Checkpoint:
    if name == "auto":
        return _load_auto()
    if name in CATALOGUE:
        return _load_published(CATALOGUE[name])
    if name in BUNDLED_FILES:
        return _load_bundled(name)
    check_name(name)
    published = None if Path(name).is_dir() else hub_revision(name)
    if published is not None:
        return _load_folder(download_folder(*published))
    try:
        return _load_folder(Path(name))
    except CheckpointError as error:
        raise WrongCheckpoint(str(error)) from error


def _load_auto() -> Checkpoint:
    mini = CATALOGUE["kronos-mini"]
    try:
        if not is_cached(mini):
            # Fetch a whole small file: a Hub may send headers and never the content.
            url = huggingface_hub.hf_hub_url(mini.model_id, FILES[0], revision=mini.model_revision)
            httpx2.get(url, timeout=HUB_PATIENCE, follow_redirects=True).raise_for_status()
        return _load_published(mini)
    except (httpx2.HTTPError, HfHubHTTPError, OSError, CheckpointError) as error:
        logger.warning(
            "KRONOS_MODEL=auto: %s is not available from the Hub (%s); using the small bundled "
            "kronos-nano, which is not meant for trading",
            mini.model_id,
            first_line(error),
        )
        return _load_bundled("kronos-nano")


def _load_bundled(name: str) -> Checkpoint:
    folder = BUNDLED / name
    for file, sha256 in BUNDLED_FILES[name].items():
        path = folder / file
        if not path.is_file() or sha256_of(path) != sha256:
            raise CheckpointError(
                f"{path}: missing or changed since {name} was published; fetch the project again, "
                "or set KRONOS_MODEL to the folder of a checkpoint of your own"
            )
    return _load_folder(folder)


def _load_published(entry: CatalogueEntry) -> Checkpoint:
    model, tokenizer = download(entry)
    return Checkpoint(
        name=entry.model_id,
        revision=model.name,  # the Hub's cache names a snapshot's folder by its commit
        max_context=entry.max_context,
        model=_load(Kronos, model),
        tokenizer=_load(KronosTokenizer, tokenizer),
    )


def _load_folder(folder: Path) -> Checkpoint:
    for file in CHECKPOINT_FILES:
        if not (folder / file).is_file():
            raise CheckpointError(
                f"{folder}: no file {file}; a checkpoint folder holds kronos.json, and model/ "
                f"and tokenizer/ with {' and '.join(FILES)} each"
            )
    try:
        about = json.loads((folder / "kronos.json").read_text())
        name, max_context = str(about["name"]), int(about["max_context"])
        if max_context < 2:
            raise ValueError(f"max_context {max_context} is below 2")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"{folder / 'kronos.json'}: expected name and max_context ({first_line(error)})"
        ) from error
    model_sha256 = sha256_of(folder / "model" / "model.safetensors")
    tokenizer_sha256 = sha256_of(folder / "tokenizer" / "model.safetensors")
    _check_pair(folder, model_sha256, tokenizer_sha256)
    for entry in CATALOGUE.values():  # a copy of published weights
        if model_sha256 == entry.model_sha256:
            check_config(folder / "model", entry.model_config)
        if tokenizer_sha256 == entry.tokenizer_sha256:
            check_config(folder / "tokenizer", entry.tokenizer_config)
    model = _load(Kronos, folder / "model")
    tokenizer = _load(KronosTokenizer, folder / "tokenizer")
    widths = [(c.s1_bits, c.s2_bits) for c in (model.config, tokenizer.config)]
    if widths[0] != widths[1]:
        raise CheckpointError(
            f"{folder}: the tokenizer's bits {widths[1]} are not the model's {widths[0]}; "
            "take the tokenizer that the model was trained with"
        )
    return Checkpoint(name, f"sha256:{model_sha256[:16]}", max_context, model, tokenizer)


def _load(kind: type[Model], folder: Path) -> Model:
    """Load a file into our class. Every tensor must be present, and no other."""
    try:
        return kind.from_pretrained(folder)
    except WrongTensors as error:
        raise CheckpointError(
            f"{folder / FILES[1]}: {error}; it is not a checkpoint of {kind.__name__}"
        ) from error
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: not a checkpoint of {kind.__name__}, or damaged ({first_line(error)})"
        ) from error


def _check_pair(folder: Path, model_sha256: str, tokenizer_sha256: str) -> None:
    """Raise CheckpointError for a published model with another published model's tokenizer."""
    tokenizers = {entry.tokenizer_sha256: entry.tokenizer_id for entry in CATALOGUE.values()}
    for entry in CATALOGUE.values():
        if model_sha256 != entry.model_sha256 or tokenizer_sha256 == entry.tokenizer_sha256:
            continue
        if other := tokenizers.get(tokenizer_sha256):
            raise CheckpointError(
                f"{folder}: {entry.model_id} goes with {entry.tokenizer_id}, not with {other}"
            )
