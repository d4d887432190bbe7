"""The state of a training on disk, so that it can be resumed after Ctrl-C or a crash."""

from pathlib import Path
from typing import Any

import torch

from kronos_space.finetune.errors import FinetuneError
from kronos_space.finetune.training import Progress


def save(path: Path, key: dict[str, Any], progress: Progress) -> None:
    """Write the progress of the training identified by `key`, atomically.

    Raises:
        FinetuneError: The file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"key": key, "progress": vars(progress)}, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError on a full disk
        part.unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or "the disk is full, or a file may not be so large"
        raise FinetuneError(
            f"{path} cannot be written: {why}; make room, then repeat the command to resume"
        ) from error


def load(path: Path, key: dict[str, Any]) -> Progress:
    """Return the progress of the same training, or a new one if there is none.

    Raises:
        FinetuneError: The stored progress belongs to another training.
    """
    if not path.exists():
        return Progress()
    try:
        stored = torch.load(path, weights_only=True)
        before, progress = stored["key"], Progress(**stored["progress"])
    except Exception as error:  # a damaged file can raise various errors
        raise FinetuneError(f"{path} is damaged; remove it, or give another --out") from error
    if before != key:
        other = ", ".join(name for name in key if before.get(name) != key[name])
        raise FinetuneError(
            f"{path.parent} holds a training with other settings ({other}): "
            "give the same settings, or another --out"
        )
    return progress
