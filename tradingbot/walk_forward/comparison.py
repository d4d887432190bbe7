"""Compare two models' backtests of the same windows by CRPS, with confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from tradingbot.combination_shares import RANDOM_WALK
from tradingbot.errors import ConfigError
from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.evaluation.metric_sums import BANDS, crps
from tradingbot.evaluation.significance import interval, resampled
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.typing import Floats
from tradingbot.walk_forward.postprocessing_chain import bars_of, combined_quantiles
from tradingbot.walk_forward.results import outcomes_of, read_rows

KEY = ["symbol", "as_of", "step"]


@dataclass(frozen=True)
class Gain:
    """1 - CRPS ÷ the other forecast's CRPS, with a 95 % interval.

    `value` is None if there is nothing to compare, or the other CRPS is 0. There is no interval if
    there are too few sessions.
    """

    value: float | None
    low: float | None
    high: float | None

    @property
    def is_sure(self) -> bool:
        """Return whether the whole interval is above 0."""
        return self.low is not None and self.low > 0


@dataclass(frozen=True)
class Comparison:
    """A challenger's forecasts against a champion's for the same windows.

    Attributes:
        n: Number of forecasts that both made, with an outcome.
        sessions: Number of sessions on which they were made.
        gain: The challenger's gain over the champion.
        by_step: The gain by step ahead.
        combined: The gain of the challenger's combined forecast over the champion's, each combined
            with random walks as when served. The weights are learnt from these windows alone.
        combined_over_walk: Gain of the challenger's combined forecast over a random walk.
        over_walk: Gain of the challenger over a random walk.
        champion_over_walk: Gain of the champion over a random walk.
        coverage: Share of closes inside the challenger's 50, 80 and 90 % bands.
        champion_coverage: Share of closes inside the champion's bands.
    """

    n: int
    sessions: int
    gain: Gain
    by_step: dict[int, Gain]
    combined: Gain
    combined_over_walk: Gain
    over_walk: Gain
    champion_over_walk: Gain
    coverage: dict[int, float]
    champion_coverage: dict[int, float]


def compare(challenger: Path, champion: Path, *, after: datetime) -> Comparison:
    """Compare two backtest files, using forecasts made after a given day.

    Days in the champion's training are excluded, because they would favour the champion. Intervals
    come from a block bootstrap over sessions.

    Raises:
        ConfigError: A file is not a backtest, or the files have no such forecasts in common.
    """
    rows = [read_rows(path) for path in (challenger, champion)]
    seen = rows[1].loc[rows[1]["in_training"] == "yes", KEY].astype({"as_of": "datetime64[s]"})
    tables = [_table(of, after) for of in rows]
    both = tables[0].join(tables[1].add_suffix("_champion"), how="inner")
    both = both.drop(index=pd.MultiIndex.from_frame(seen), errors="ignore")
    if both.empty:
        trained = f"; {len(seen)} are of days that its model was trained on" if len(seen) else ""
        raise ConfigError(
            f"{challenger} and {champion} share no forecasts made after {after:%Y-%m-%d}{trained}"
        )
    gains, steps = _Gains(both), both.index.get_level_values("step").to_numpy("int64")
    return Comparison(
        n=len(both),
        sessions=both.index.get_level_values("as_of").nunique(),
        gain=gains.of("own", "own_champion"),
        by_step={
            step: _Gains(both[steps == step]).of("own", "own_champion")
            for step in sorted(set(steps.tolist()))
        },
        combined=gains.of("combined", "combined_champion"),
        combined_over_walk=gains.of("combined", "walk"),
        over_walk=gains.of("own", "walk"),
        champion_over_walk=gains.of("own_champion", "walk_champion"),
        coverage={band: float(both[f"in_{band}"].mean()) for band in BANDS},
        champion_coverage={band: float(both[f"in_{band}_champion"].mean()) for band in BANDS},
    )


class _Gains:
    """Gains between columns of losses, with a bootstrap over blocks as long as the horizon."""

    def __init__(self, losses: pd.DataFrame) -> None:
        self.losses = losses
        self.as_of = losses.index.get_level_values("as_of").to_numpy()
        self.block = int(losses.index.get_level_values("step").max())

    def of(self, ours: str, theirs: str) -> Gain:
        pair = self.losses[[ours, theirs]]
        known = pair.notna().all(axis=1).to_numpy()
        if not pair[known][theirs].any():
            return Gain(None, None, None)
        total, drawn = resampled(self.as_of[known], pair[known].to_numpy(), block=self.block)
        ends = interval(1 - drawn[:, 0] / drawn[:, 1])
        low, high = (None, None) if ends is None else map(float, ends)
        return Gain(float(1 - total[0] / total[1]), low, high)


def _table(rows: pd.DataFrame, after: datetime) -> pd.DataFrame:
    """Return the losses of forecasts made after a day, and whether bands contained the close.

    The columns with losses are the CRPS of the forecast, of the combined forecast and of the random
    walk. The combination learns its weights only from forecasts made after that day.
    """
    later = rows[(rows["step"] == 0) | (rows["as_of"] > f"{after:%Y-%m-%d}")]
    record = outcomes_of(later)
    if not record:
        nothing = pd.MultiIndex.from_arrays([[], [], []], names=KEY)
        return pd.DataFrame(columns=["own"], index=nothing)
    quantiles, _ = combined_quantiles(record, bars_of(rows))
    actual = np.concatenate([part.actual for part in record])
    served = np.concatenate([part.quantiles for part in record])
    return pd.DataFrame(
        {
            "own": crps(actual, served),
            "combined": crps(actual, quantiles["combined"]),
            "walk": crps(actual, quantiles[RANDOM_WALK]),
            **{f"in_{band}": hits for band, hits in _hits(actual, served).items()},
        },
        index=_index(record),
    )


def _index(record: Sequence[ForecastOutcomes]) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays(
        [
            np.concatenate([np.full(len(part), part.symbol) for part in record]),
            pd.DatetimeIndex(np.concatenate([part.as_of for part in record])),
            np.concatenate([part.step for part in record]),
        ],
        names=KEY,
    )


def _hits(actual: Floats, quantiles: Floats) -> dict[int, Floats]:
    """Return for each of BANDS whether it contained the close: an array (n,) of 0 and 1."""
    found = {}
    for band, bounds in BANDS.items():
        low, high = (quantiles[:, QUANTILE_LEVELS.index(level)] for level in bounds)
        found[band] = ((low <= actual) & (actual <= high)).astype("float64")
    return found
