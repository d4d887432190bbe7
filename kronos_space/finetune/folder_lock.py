"""Lock a checkpoint folder, because two fine-tunings would remove each other's files."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kronos_space.finetune.errors import FinetuneError


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold `folder`.lock, which the system releases when the process ends, however it ends.

    Raises:
        FinetuneError: Another process holds it, or no file can be written there.
    """
    path = folder.with_name(f"{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise FinetuneError(f"{path} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                raise BlockingIOError  # a run that just ended has removed the file
        except OSError as error:
            raise FinetuneError(
                f"{folder} is being written by another finetune ({path}): wait for it, or give "
                "another --out"
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
