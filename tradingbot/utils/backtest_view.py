"""A backtest's measures as a table for a person, and as one JSON document.

    {"exit_code": 0, "error": null, "file": "backtest.csv", "windows": 400, "missing": 0,
     "made": 400, "seconds": 21.4, "settings": {"model": "kronos-nano", "horizon": "5", …},
     "failed": {"ZZZZ": "ZZZZ: the sample has …"}, "fewer": {"GOOG": 80},
     "in_training": {"yes": 1200, "no": 800},      forecasts by the file's column in_training
     "without_outcome": 3,                         forecasts of sessions that have no bar
     "jumps": {"GOOG": "0.1 times on 2023-07-12"}, as of a split that candles do not tell of
     "measures": {"1": {"n": 400, "mase": 1.03, …}, …, "all": {…}, "unseen": {…}}}

A measure is null where too few forecasts stand behind it. "unseen" are those of days that the
model was not trained on. What cannot be done at all is {"exit_code": 2, "error": {…}}.
"""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from tradingbot.evaluation.metrics import MIN_FORECASTS, ForecastMetrics, MetricAccumulator
from tradingbot.evaluation.training_cutoff import trained_until
from tradingbot.walk_forward.results import ResultsFile, read_csv, training_counts, without_outcome
from tradingbot.walk_forward.runner import WalkForwardResult


def document(walked: WalkForwardResult, code: int) -> dict[str, Any]:
    """All of it, as the module's docstring shows it."""
    return {
        "exit_code": code,
        "error": None,
        "file": str(walked.path),
        "windows": walked.wanted,
        "missing": walked.missing,
        "why_missing": walked.error,
        "made": walked.made,
        "seconds": round(walked.seconds, 3),
        "settings": ResultsFile(walked.path).settings,
        "failed": walked.failed,
        "fewer": walked.fewer,
        "in_training": training_counts(walked.path),
        "without_outcome": without_outcome(walked.path),
        "jumps": _jumps(walked),
        "measures": {name: asdict(measured) for name, measured in _measured(walked).items()},
    }


def text(walked: WalkForwardResult) -> str:
    """The table of measures, then what a reader must know to believe it."""
    measured = _measured(walked)
    lines = [_HEAD[0], _HEAD[1], *(_row(name, one) for name, one in measured.items()), ""]
    counts = training_counts(walked.path)
    total = sum(counts.values())
    trained = ", ".join(f"{_KINDS[kind]} {counts[kind]:,}" for kind in _KINDS if kind in counts)
    lines.append(f"Trained   {walked.model}: {trained_until(walked.model)}")
    lines.append(f"          of {total:,} forecasts with an outcome" + (trained and f": {trained}"))
    if without := without_outcome(walked.path):
        every = total + without
        lines.append(f"No bar    {without:,} of {every:,} forecasts: no candle of their session")
    for symbol, jump in _jumps(walked).items():
        lines.append(f"Jump      {symbol}: its close was {jump}. A split that the candles do not")
        lines.append("          take into account? Then the figures above mean little")
    for symbol, count in walked.fewer.items():
        some = "1 window" if count == 1 else f"{count:,} windows"
        lines.append(f"Fewer     {symbol}: its history allows {some} only")
    for symbol, why in walked.failed.items():
        lines.append(f"Failed    {symbol}: {why.removeprefix(f'{symbol}: ')}")
    if walked.missing:
        lines.append(f"Missing   {walked.missing:,} of {walked.wanted:,} windows: {walked.error}")
        if not walked.refused:
            lines.append("          the same command again asks for them alone")
    if walked.made:
        rate = walked.made / walked.seconds
        lines.append(f"Took      {walked.seconds:.1f} s, {rate:.3g} windows a second")
    lines.append(f"File      {walked.path}; nothing went into the database")
    return "\n".join(lines)


_JUMP = math.log(1.9)  # a split of 2:1 on a day of -5 %
_KINDS = {"no": "unseen in training", "yes": "in training", "unknown": "perhaps in training"}
_HEAD = (
    "                MAE ÷ that of  CRPS below   Closes inside the band    Direction right",
    "Ahead        n  no change      random walk     50 %   80 %   90 %     (95 % interval)",
)


def _measured(walked: WalkForwardResult) -> dict[str, ForecastMetrics]:
    """By step ahead, of all, and of those that were not in training, if these are a part."""
    tally = _tally(read_csv(walked.path))
    measured = {str(step): tally.measures(step) for step in tally.steps()}
    measured["all"] = tally.measures()
    unseen = _tally(read_csv(walked.path, trained_on=["no"]))
    if 0 < len(unseen) < len(tally):
        measured["unseen"] = unseen.measures()
    return measured


def _jumps(walked: WalkForwardResult) -> dict[str, str]:
    """Of each ticker the greatest change of the close overnight, if it about doubled or halved."""
    found = {}
    for one in read_csv(walked.path):
        changes = np.diff(np.log(one.past.to_numpy("float64")))
        if len(changes) and np.abs(changes).max() > _JUMP:
            at = int(np.abs(changes).argmax())
            day = one.past.index[at + 1]
            found[one.symbol] = f"{math.exp(changes[at]):.3g} times on {day:%Y-%m-%d}"
    return found


def _tally(forecasts: Any) -> MetricAccumulator:
    tally = MetricAccumulator()
    for one in forecasts:
        tally += MetricAccumulator.of(one)
    return tally


def _row(name: str, measured: ForecastMetrics) -> str:
    start = f"{name:6}{measured.n:8,}  "
    if measured.n < MIN_FORECASTS:
        return f"{start}too few: {measured.n} of {MIN_FORECASTS} that a figure needs"
    if measured.mase is None:
        return f"{start}no figures: the closes never moved"
    direction = _share(measured.hit_rate)
    if measured.hit_low is not None and measured.hit_high is not None:
        direction += f" ({100 * measured.hit_low:.0f}–{100 * measured.hit_high:.0f})"  # noqa: RUF001
    bands = (measured.coverage_50, measured.coverage_80, measured.coverage_90)
    skill = "" if measured.crps_skill is None else f"{100 * measured.crps_skill:+.1f} %"
    return (
        f"{start}{measured.mase:<13.3f}  {skill:>11}  "
        f"{''.join(f'{_share(band):>7}' for band in bands)}     {direction}"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
