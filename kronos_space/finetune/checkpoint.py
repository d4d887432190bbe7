"""The folder that a fine-tuning writes: a checkpoint like any other, with what is known of it."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kronos_space.finetune.errors import FinetuneError
from kronos_space.model.tokenizer import KronosTokenizer
from kronos_space.model.transformer import Kronos

CARD = """# {name}

{base}, fine-tuned on a CPU: every weight of the model, none of the tokenizer.

**Verdict.** {sentence}. On {n:,} forecasts made on {sessions} sessions after {until}, which no
weight was learnt or chosen from.

| CRPS, less is better | Gain | 95 % interval |
|---|---|---|
{gains}

| Closes inside the band | This model | {base} |
|---|---|---|
{coverage}

**Trained on** daily candles of {symbols} up to {train_until}; weights were chosen on those of
{validate_from} to {until}. {steps} steps at most of {batch} windows of {bars} bars, AdamW with a
peak learning rate of {learning_rate:g}, seed {seed}. Mean and deviation of each window come from
its leading part, and the loss counts the bars after it. Step {best_step} was best, and of the
mixtures with the base model's weights the one with {share:.0%} of the new ones.

Base revision: `{base_revision}`. `kronos.json` holds all of this for programs.
"""
MINUS = "\N{MINUS SIGN}"


def name_of(base: str, until: str) -> str:
    """Return the model's name: its base and the last day it has seen, kronos-nano+2019-06-28."""
    return f"{base.rpartition('/')[2]}+{until}"


def symbols_hash(symbols: Iterable[str]) -> str:
    """Return a short hash of a set of tickers."""
    return hashlib.sha256(",".join(sorted(symbols)).encode()).hexdigest()[:16]


def write_checkpoint(
    folder: Path, model: Kronos, tokenizer: KronosTokenizer, about: Mapping[str, Any]
) -> None:
    """Write model/, tokenizer/ and kronos.json; `folder` is whole afterwards, or not there.

    Raises:
        FinetuneError: It cannot be written.
    """
    part = folder.with_name(f"{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part / "model")
        tokenizer.save_pretrained(part / "tokenizer")
        (part / "kronos.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise FinetuneError(f"{folder} cannot be written: {error.strerror}") from error


def add_verdict(folder: Path, verdict: Mapping[str, Any]) -> None:
    """Add a verdict to kronos.json, and write the model card."""
    about = read_about(folder) | {"verdict": verdict}
    try:
        for name, text in (
            ("kronos.json", json.dumps(about, indent=2) + "\n"),
            ("README.md", card(about)),
        ):
            part = folder / f"{name}.part"
            part.write_text(text, encoding="utf-8")
            part.replace(folder / name)
    except OSError as error:
        raise FinetuneError(f"{folder} cannot be written: {error.strerror}") from error


def read_about(folder: Path) -> dict[str, Any]:
    """Return what kronos.json says of a fine-tuned checkpoint.

    Raises:
        FinetuneError: There is none, or it is of a checkpoint that was not fine-tuned here.
    """
    try:
        about = json.loads((folder / "kronos.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FinetuneError(f"{folder}: no readable kronos.json ({error})") from error
    if not isinstance(about, dict) or "base" not in about:
        raise FinetuneError(f"{folder} is not a checkpoint that `kronos-space finetune` wrote")
    return about


def card(about: Mapping[str, Any]) -> str:
    """Return the model card."""
    verdict = about["verdict"]
    gains = [(f"against {about['base']}", verdict["gain"])]
    gains += [(f"the same, step {step}", gain) for step, gain in verdict["by_step"].items()]
    gains += [
        ("against it, both in the combined forecast", verdict["combined"]),
        ("against a random walk", verdict["over_walk"]),
    ]
    return CARD.format(
        **about | about["recipe"] | {"symbols": _listed(about["symbols"])},
        sentence=verdict["sentence"],
        n=verdict["n"],
        sessions=verdict["sessions"],
        gains="\n".join(f"| {what} | {percent(gain)} | {between(gain)} |" for what, gain in gains),
        coverage="\n".join(
            f"| {band} % | {verdict['coverage'][band]:.1%} | "
            f"{verdict['champion_coverage'][band]:.1%} |"
            for band in verdict["coverage"]
        ),
    )


def percent(gain: Mapping[str, float]) -> str:
    """2.1 %"""
    return f"{100 * gain['value']:.1f} %".replace("-", MINUS)


def between(gain: Mapping[str, float | None]) -> str:
    """0.4 to 3.9, in %"""
    if gain["low"] is None or gain["high"] is None:
        return "too few sessions for one"
    return f"{100 * gain['low']:.1f} to {100 * gain['high']:.1f}".replace("-", MINUS)


def _listed(symbols: list[str]) -> str:
    few = ", ".join(symbols[:12])
    return few if len(symbols) <= 12 else f"{few} and {len(symbols) - 12} more"


def promote(folder: Path, target: Path, *, force: bool) -> None:
    """Put a checkpoint where a Space loads it from; what is there is kept beside as TARGET.old.

    Raises:
        FinetuneError: It is not better than its base, and `force` is not given; or it cannot be
            copied, and then `target` is as it was.
    """
    about = read_about(folder)
    verdict = about.get("verdict")
    if not force and (verdict is None or not verdict["better"]):
        said = "it has no verdict" if verdict is None else verdict["sentence"]
        raise FinetuneError(f"{folder}: {said}; --force promotes it all the same")
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
        raise FinetuneError(f"{target} cannot be written: {error.strerror}") from error
