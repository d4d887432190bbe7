"""Read and write the folder of a fine-tuned checkpoint, with its metadata."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from kronos_space.finetune.card import card, sentence
from kronos_space.finetune.errors import FinetuneError
from kronos_space.model.tokenizer import KronosTokenizer
from kronos_space.model.transformer import Kronos
from kronos_space.weights.checkpoint import CheckpointError, load_checkpoint

NOT_OURS = "is not a checkpoint that `kronos-space finetune` wrote"


def name_of(base: str, until: str) -> str:
    """Return the model's name, from its base and the last training day: kronos-nano+2019-06-28."""
    return f"{base.rpartition('/')[2]}+{until}"


def symbols_hash(symbols: Iterable[str]) -> str:
    """Return a short hash of a set of tickers."""
    return hashlib.sha256(",".join(sorted(symbols)).encode()).hexdigest()[:16]


def write_checkpoint(
    folder: Path, model: Kronos, tokenizer: KronosTokenizer, about: Mapping[str, Any]
) -> None:
    """Write a checkpoint folder: model/, tokenizer/, kronos.json and the model card.

    An existing folder is replaced atomically.

    Raises:
        FinetuneError: The folder cannot be written.
    """
    part, old = (folder.with_name(folder.name + end) for end in (".part", ".old"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part / "model")
        tokenizer.save_pretrained(part / "tokenizer")
        (part / "kronos.json").write_text(_document(about), encoding="utf-8")
        (part / "README.md").write_text(card(about), encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # SafetensorError can also mean a full disk
        shutil.rmtree(part, ignore_errors=True)
        raise _unwritable(folder, error) from error


def add_verdict(folder: Path, verdict: Mapping[str, Any]) -> None:
    """Add a verdict to kronos.json and to the model card.

    Raises:
        FinetuneError: The files cannot be written, and are unchanged.
    """
    about = read_about(folder) | {"verdict": verdict}
    parts = {folder / "README.md": card(about), folder / "kronos.json": _document(about)}
    try:
        for file, text in parts.items():
            file.with_name(f"{file.name}.part").write_text(text, encoding="utf-8")
        for file in parts:  # kronos.json last: once it has the verdict, the card has it, too
            file.with_name(f"{file.name}.part").replace(file)
    except OSError as error:
        for file in parts:
            file.with_name(f"{file.name}.part").unlink(missing_ok=True)
        raise _unwritable(folder, error) from error


def read_about(folder: Path) -> dict[str, Any]:
    """Return the contents of kronos.json of a fine-tuned checkpoint.

    Raises:
        FinetuneError: There is none, or the checkpoint was not fine-tuned here.
    """
    try:
        about = json.loads((folder / "kronos.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise FinetuneError(f"{folder} {NOT_OURS}: kronos.json: {error.strerror}") from error
    except ValueError as error:
        raise FinetuneError(f"{folder} {NOT_OURS}: kronos.json is damaged ({error})") from error
    if not isinstance(about, dict) or "base" not in about:
        raise FinetuneError(f"{folder} {NOT_OURS}")
    return about


def check_better(folder: Path, *, force: bool, verb: str) -> dict[str, Any]:
    """Return the metadata of a checkpoint, if it may be used.

    Raises:
        FinetuneError: The checkpoint is not better than its base, and `force` is not set.
    """
    about = read_about(folder)
    verdict = about.get("verdict")
    if not force and (verdict is None or not verdict["better"]):
        raise FinetuneError(f"{folder}: {sentence(about)}; --force {verb} it anyway")
    return about


def promote(folder: Path, target: Path, *, force: bool) -> None:
    """Copy a checkpoint to the place from which a Space loads it.

    The old one is kept as TARGET.old.

    Raises:
        FinetuneError: The checkpoint is not better than its base and `force` is not set; it is
            damaged; or it cannot be copied, and `target` is unchanged.
    """
    check_better(folder, force=force, verb="promotes")
    if target.resolve().is_relative_to(folder.resolve()):
        raise FinetuneError(
            f"{target} is inside the checkpoint {folder}: expected a folder outside"
        )
    try:
        load_checkpoint(str(folder))
    except CheckpointError as error:
        raise FinetuneError(str(error)) from error
    part, old = (target.with_name(target.name + end) for end in (".part", ".old"))
    try:
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        part.rename(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise _unwritable(target, error) from error


def _unwritable(folder: Path, error: Exception) -> FinetuneError:
    why = getattr(error, "strerror", None) or error
    if isinstance(error, shutil.Error):  # an error with some of the files
        why = error.args[0][0][2]
    return FinetuneError(f"{folder} cannot be written: {why}")


def _document(about: Mapping[str, Any]) -> str:
    return json.dumps(about, indent=2) + "\n"
