"""The model card of a fine-tuned checkpoint, written from the facts in its kronos.json."""

from collections.abc import Mapping
from typing import Any

MINUS = "\N{MINUS SIGN}"
NO_VERDICT = "it has no verdict: its forecasts have not been compared with those of {base} yet"

CARD = """---
pipeline_tag: time-series-forecasting
tags: [kronos, finance]
{base_model}---

# {name}

{base}, fine-tuned on a CPU: every weight of the model, none of the tokenizer.

{verdict}
**Trained on** daily candles of {symbols} up to {train_until}; weights were chosen on those of
{validate_from} to {until}. {steps} steps at most of {batch} windows of {bars} bars, AdamW with a
peak learning rate of {learning_rate:g}, seed {seed}. Mean and deviation of each window come from
its leading part, and the loss counts the bars after it. Step {best_step} was best, and of the
mixtures with the base model's weights the one with {share:.0%} of the new ones.

Base revision: `{base_revision}`. `kronos.json` holds all of this for programs.
"""
VERDICT = """**Verdict.** {sentence}. On {n:,} forecasts made on {sessions} sessions after {until},
which no weight was learnt or chosen from.

| CRPS, less is better | Gain | 95 % interval |
|---|---|---|
{gains}

| Closes inside the band | This model | {base} |
|---|---|---|
{coverage}
"""


def card(about: Mapping[str, Any]) -> str:
    """Return the model card."""
    published = "/" in about["base"]  # published on the Hub, which links the two
    return CARD.format(
        **dict(about)
        | about["recipe"]
        | {"symbols": _listed(about["symbols"]), "verdict": _verdict(about)}
        | {"base_model": f"base_model: {about['base']}\n" if published else ""},
    )


def sentence(about: Mapping[str, Any]) -> str:
    """Return the verdict's sentence, or that there is none yet."""
    if verdict := about.get("verdict"):
        return str(verdict["sentence"])
    return NO_VERDICT.format(base=about["base"])


def percent(gain: Mapping[str, float | None]) -> str:
    """Format a gain, such as "2.1 %"."""
    if gain["value"] is None:
        return "unknown"
    return f"{100 * gain['value']:.1f} %".replace("-", MINUS)


def between(gain: Mapping[str, float | None]) -> str:
    """Format the interval of a gain, such as "0.4 to 3.9", in %."""
    if gain["low"] is None or gain["high"] is None:
        return "too few sessions for an interval"
    return f"{100 * gain['low']:.1f} to {100 * gain['high']:.1f}".replace("-", MINUS)


def _verdict(about: Mapping[str, Any]) -> str:
    verdict = about.get("verdict")
    if verdict is None:
        stopped = f" {about['unfinished']}." if "unfinished" in about else ""
        return (
            f"**No verdict.** Its forecasts have not been compared with those of {about['base']} "
            f"yet."
            f"{stopped}\n"
        )
    gains = [(f"against {about['base']}", verdict["gain"])]
    gains += [(f"the same, step {step}", gain) for step, gain in verdict["by_step"].items()]
    gains += [
        ("against it, both in the combined forecast", verdict["combined"]),
        ("against a random walk", verdict["over_walk"]),
        ("against a random walk, in the combined forecast", verdict["combined_over_walk"]),
    ]
    return VERDICT.format(
        **dict(about)
        | {
            "sentence": verdict["sentence"],
            "n": verdict["n"],
            "sessions": verdict["sessions"],
            "gains": "\n".join(
                f"| {label} | {percent(gain)} | {between(gain)} |" for label, gain in gains
            ),
            "coverage": "\n".join(
                f"| {band} % | {verdict['coverage'][band]:.1%} | "
                f"{verdict['champion_coverage'][band]:.1%} |"
                for band in verdict["coverage"]
            ),
        }
    )


def _listed(symbols: list[str]) -> str:
    first = ", ".join(symbols[:12])
    return first if len(symbols) <= 12 else f"{first} and {len(symbols) - 12} more"
