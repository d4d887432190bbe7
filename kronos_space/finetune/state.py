"""Where a training stands, on disk, so that the same command goes on after Ctrl-C or a crash."""

from pathlib import Path
from typing import Any

import torch

from kronos_space.finetune.errors import FinetuneError
from kronos_space.finetune.training import Progress


def save(path: Path, key: dict[str, Any], progress: Progress) -> None:
    """Write the progress of the training that `key` describes, all of it or nothing.

    Raises:
        FinetuneError: It cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"key": key, "progress": vars(progress)}, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter on a full disk
        part.unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or "the disk is full, or a file may not be so large"
        raise FinetuneError(
            f"{path} cannot be written: {why}; make room, and the same command goes on"
        ) from error


def load(path: Path, key: dict[str, Any]) -> Progress:
    """Return the progress of the same training, or a fresh one where there is none.

    Raises:
        FinetuneError: What is there is of another training.
    """
    if not path.exists():
        return Progress()
    try:
        stored = torch.load(path, weights_only=True)
        before, progress = stored["key"], Progress(**stored["progress"])
    except Exception as error:  # a damaged file fails in many ways
        raise FinetuneError(f"{path} is damaged; remove it, or give another --out") from error
    if before != key:
        other = ", ".join(name for name in key if before.get(name) != key[name])
        raise FinetuneError(
            f"{path.parent} holds a training with other settings ({other}): give the same ones, or "
            "another --out"
        )
    return progress
