"""Download published models from the Hub at pinned revisions, and verify them. Imports no torch.

`python -m kronos_space.weights.download NAME…` fills the Hub's cache (HF_HOME) ahead of time; the
image is built with it.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import logging as hub_logging

from kronos_space.weights.catalogue import (
    CATALOGUE,
    CHECKPOINT_FILES,
    FILES,
    CatalogueEntry,
    CheckpointError,
)


def download(entry: CatalogueEntry) -> tuple[Path, Path]:
    """Return the cache folders of the model and its tokenizer, downloaded if missing, and verified.

    Raises:
        CheckpointError: A file is not available or differs from the published one.
    """
    model = _download(entry.model_id, entry.model_revision, entry.model_sha256)
    check_config(model, entry.model_config)
    tokenizer = _download(entry.tokenizer_id, entry.tokenizer_revision, entry.tokenizer_sha256)
    check_config(tokenizer, entry.tokenizer_config)
    return model, tokenizer


def download_folder(repo: str, revision: str) -> Path:
    """Return the cache folder of a checkpoint on the Hub, downloaded if missing.

    Raises:
        CheckpointError: The checkpoint is not available.
    """
    return _fetched(
        repo, revision, CHECKPOINT_FILES, "the name, the network, and HF_TOKEN if it is private"
    )[0].parent


def check_config(folder: Path, expected: Mapping[str, object]) -> None:
    """Raise CheckpointError unless config.json in the folder equals the published configuration.

    The weights also load with another number of heads, but then give other forecasts.
    """
    path = folder / FILES[0]
    try:
        config = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path}: no JSON object ({first_line(error)}); delete the file and start again"
        ) from error
    for name, value in expected.items():
        if config.get(name) != value:
            raise CheckpointError(
                f"{path}: {name} is {str(config.get(name))[:40]}, expected {value}; delete the "
                "file and start again, it will be downloaded again"
            )


def is_cached(entry: CatalogueEntry) -> bool:
    """Return whether all files of the model and its tokenizer are on this machine."""
    repos = (
        (entry.model_id, entry.model_revision),
        (entry.tokenizer_id, entry.tokenizer_revision),
    )
    return all(
        isinstance(huggingface_hub.try_to_load_from_cache(repo, file, revision=revision), str)
        for repo, revision in repos
        for file in FILES
    )


def main(names: Sequence[str]) -> int:
    """Download models by name. Return 0 if all are here, 1 if one is unavailable, 2 if unknown."""
    for name in names:
        if name not in CATALOGUE:
            return _fail(f"{name!r}: expected one of {', '.join(CATALOGUE)}", 2)
    for name in names:
        try:
            for folder in download(CATALOGUE[name]):
                print(f"{name}: {folder}")  # noqa: T201
        except CheckpointError as error:
            return _fail(str(error), 1)
    return 0


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _download(repo: str, revision: str, sha256: str) -> Path:
    advice = "the network, or set KRONOS_MODEL=kronos-nano or to a folder"
    path = _fetched(repo, revision, FILES, advice)[1]
    if (found := sha256_of(path)) != sha256:
        raise CheckpointError(
            f"{path}: SHA-256 is {found[:12]}…, expected {sha256[:12]}…; delete the file and "
            "start again, it will be downloaded again"
        )
    return path.parent


def _fetched(repo: str, revision: str, files: Sequence[str], advice: str) -> list[Path]:
    # huggingface_hub would log every retry; one error line at the end is enough.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        return [Path(huggingface_hub.hf_hub_download(repo, f, revision=revision)) for f in files]
    except (httpx2.HTTPError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{repo}@{revision[:8]} is not available from the Hub ({first_line(error)}); check "
            f"{advice}"
        ) from error


def _fail(message: str, status: int) -> int:
    print(f"kronos_space: {message}", file=sys.stderr)  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
