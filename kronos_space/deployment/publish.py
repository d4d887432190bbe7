"""Publish a fine-tuned checkpoint on the Hub as a model repository, in one commit."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from huggingface_hub import ModelInfo

from kronos_space.deployment.access import address, check_repo_name, hub_token, quiet
from kronos_space.deployment.errors import HubRefused, printable, quoted
from kronos_space.deployment.hub import HubModel, is_same
from kronos_space.finetune.card import sentence
from kronos_space.finetune.checkpoint import check_better
from kronos_space.weights.catalogue import CHECKPOINT_FILES
from kronos_space.weights.checkpoint import load_checkpoint

PRIVATE_FACTS = ("source", "base_path")  # may name folders of this machine
KEPT = {".gitattributes"}  # created by the Hub in every repository


def run(folder: Path, repo: str, *, public: bool, force: bool, say: Callable[[str], None]) -> None:
    """Publish the checkpoint; print the revision's URL and how to load it.

    Args:
        say: Called with each progress message.

    Raises:
        FinetuneError: The checkpoint is not better than its base, and `force` is not given.
        CheckpointError: The checkpoint cannot be loaded.
        HubError, HubRefused: One line: what, why, and what to do.
    """
    about = check_better(folder, force=force, verb="publishes")
    load_checkpoint(str(folder))
    check_repo_name(repo)
    quiet()
    model = HubModel(repo, hub_token(), endpoint=address())
    model.check_token()
    info = model.info()
    upload = _differing(_files(folder, about), info, repo)
    if info is None:
        say(f"create the {'public' if public else 'private'} model {repo}")
        model.create(private=not public)
        info = model.info()
    if info is None:
        raise HubRefused(f"{repo} cannot be made a model: the Hub has something else of that name")
    for name in upload:
        say(f"upload {name}")
    if upload:
        message = f"{about['name']}: {sentence(about)}"
        revision = model.commit(upload, [], message=message)
    else:
        say("nothing to change")
        revision = str(info.sha)
    _show(model, info, revision)


def _files(folder: Path, about: Mapping[str, Any]) -> dict[str, Path | bytes]:
    """Return name on the Hub -> content, for the files of a checkpoint only."""
    facts = {name: fact for name, fact in about.items() if name not in PRIVATE_FACTS}
    document = json.dumps(facts, indent=2) + "\n"
    files: dict[str, Path | bytes] = {
        name: folder / name for name in ("README.md", *CHECKPOINT_FILES)
    }
    return files | {"kronos.json": document.encode()}


def _differing(
    files: Mapping[str, Path | bytes], info: ModelInfo | None, repo: str
) -> dict[str, Path | bytes]:
    """Return the files that the Hub lacks or has with other content.

    Raises:
        HubRefused: The repository holds another model.
    """
    remote = {file.rfilename: file for file in (info.siblings if info else None) or []}
    strange = remote.keys() - KEPT - {"README.md"}
    if strange and "kronos.json" not in remote:
        raise HubRefused(
            f"{repo} is another model ({quoted(', '.join(sorted(strange)[:3]))}, …): choose "
            "another name"
        )
    return {
        name: content
        for name, content in files.items()
        if name not in remote or not is_same(content, remote[name])
    }


def _show(model: HubModel, info: ModelInfo, revision: str) -> None:
    typer.echo(printable(f"{model.address}/tree/{revision}"))
    typer.echo(printable(f"Use it: KRONOS_MODEL={model.repo}@{revision}"))
    if info.private:
        typer.echo("It is private: what loads it needs HF_TOKEN, a token that may read it")
