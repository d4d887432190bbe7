"""Metrics of a backtest file, and warnings about data that make the metrics less reliable."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tradingbot.errors import ConfigError
from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.evaluation.metrics import ForecastMetrics, MetricAccumulator
from tradingbot.walk_forward.postprocessing_chain import Chain, bars_of, chain
from tradingbot.walk_forward.results import (
    outcomes_of,
    read_rows,
    training_counts,
    without_outcome,
)
from tradingbot.walk_forward.schema import settings_of

_JUMP = math.log(1.9)  # a 2:1 split on a day of -5 %


@dataclass(frozen=True)
class Evaluation:
    """The forecasts of a backtest file compared with realised closes.

    Attributes:
        settings: The settings of all forecasts.
        in_training: Number of forecasts with an outcome, by whether the model was trained on that
            day: "yes", "no" or "unknown".
        without_outcome: Number of forecasts for sessions without a bar.
        jumps: By ticker, the largest overnight change of the close as text, if it about doubled or
            halved.
        measures: Metrics by step ahead ("1", "2", …), for "all" forecasts, and for "unseen" days
            if only some of the days are known to be outside the model's training.
        chain: The same forecasts raw, anchored, calibrated and combined; None if there are too
            few forecasts.
    """

    settings: dict[str, str]
    in_training: dict[str, int]
    without_outcome: int
    jumps: dict[str, str]
    measures: dict[str, ForecastMetrics]
    chain: Chain | None


def evaluate(path: Path) -> Evaluation:
    """Read a backtest file and measure it. Raises ConfigError if it is not a backtest file."""
    rows = read_rows(path)
    outcomes = outcomes_of(rows)
    everything = _accumulated(outcomes)
    measures = {str(step): everything.measures(step) for step in everything.steps()}
    measures["all"] = everything.measures()
    unseen = _accumulated(outcomes_of(rows, trained_on=["no"]))
    if 0 < len(unseen) < len(everything):
        measures["unseen"] = unseen.measures()
    return Evaluation(
        settings=settings_of(rows),
        in_training=training_counts(rows),
        without_outcome=without_outcome(rows),
        jumps=_jumps(outcomes),
        measures=measures,
        chain=chain(rows),
    )


def unseen_record(path: Path) -> list[tuple[ForecastOutcomes, pd.DataFrame]]:
    """Return a backtest's outcomes on days that the model was not trained on, and the candles.

    Raises:
        ConfigError: The file is not a backtest file, or the model was trained on all its days.
    """
    rows = read_rows(path)
    record = outcomes_of(rows, trained_on=("no", "unknown"))
    if not record and (trained := training_counts(rows).get("yes", 0)):
        raise ConfigError(
            f"{path}: the model was trained on the days of all its {trained} forecasts with an "
            "outcome, and bands that fit those would be too narrow: backtest later candles"
        )
    bars = bars_of(rows)
    return [(part, bars[part.symbol]) for part in record]


def _accumulated(outcomes: Iterable[ForecastOutcomes]) -> MetricAccumulator:
    accumulated = MetricAccumulator()
    for part in outcomes:
        accumulated += MetricAccumulator.of(part)
    return accumulated


def _jumps(outcomes: Iterable[ForecastOutcomes]) -> dict[str, str]:
    found = {}
    for part in outcomes:
        changes = np.diff(np.log(part.past.to_numpy("float64")))
        if len(changes) and np.abs(changes).max() > _JUMP:
            at = int(np.abs(changes).argmax())
            day = part.past.index[at + 1]
            found[part.symbol] = f"{math.exp(changes[at]):.3g} times on {day:%Y-%m-%d}"
    return found
