"""Split the days into those for training, for validation and for the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from kronos_space.finetune.errors import FinetuneError

Days = NDArray[np.datetime64]  # datetime64[D], ascending

TEST_SHARE = 0.25  # of all days, if the user gives no `until`
VALIDATION_SHARE = 0.15  # of the days up to `until`
MIN_VALIDATION = 40  # sessions
MIN_TEST = 30  # sessions; with fewer there is no interval


@dataclass(frozen=True)
class Spans:
    """Three spans of days, in order of time.

    Weights are learnt from targets up to `train_until`. Targets from `validate_from` to `until` are
    for validation. The sessions between these two spans are unused; `split` has their number as
    `purge`. Forecasts made after `until`, up to `newest`, are for the verdict.
    """

    train_until: np.datetime64
    validate_from: np.datetime64
    until: np.datetime64
    newest: np.datetime64
    test_sessions: int


def split(days: Days, until: date | None, purge: int) -> Spans:
    """Split the sessions of all tickers.

    Args:
        days: The sessions on which any ticker has a bar.
        until: The last day for training and validation; None: at 75 % of the days.
        purge: Sessions between training and validation, at least the horizon, so that their targets
            do not overlap.

    Raises:
        FinetuneError: There are too few days before or after `until`.
    """
    if not len(days):
        raise FinetuneError("there are no candles")
    last = np.datetime64(until) if until else days[int(len(days) * (1 - TEST_SHARE)) - 1]
    known, later = days[days <= last], days[days > last]
    span = f"the candles are of {days[0]} to {days[-1]}"
    if len(later) < MIN_TEST + purge:
        raise FinetuneError(
            f"--until={last}: {span}, so {len(later)} sessions are left for the verdict and at "
            f"least {MIN_TEST + purge} are needed; give an earlier day, or later candles"
        )
    validation = max(MIN_VALIDATION, int(len(known) * VALIDATION_SHARE))
    if len(known) <= 2 * (validation + purge):
        raise FinetuneError(
            f"--until={last}: {span}, so {len(known)} sessions are left to learn from and at least "
            f"{2 * (validation + purge) + 1} are needed; give a later day, or earlier candles"
        )
    return Spans(
        train_until=known[-validation - purge - 1],
        validate_from=known[-validation],
        until=known[-1],
        newest=days[-1],
        test_sessions=len(later) - purge,
    )


def union(days: Sequence[Days]) -> Days:
    """Return the days that are in any of these arrays, ascending."""
    return np.unique(np.concatenate(days)) if days else np.array([], "datetime64[D]")
