"""Apply the whole postprocessing to a backtest: raw, anchored, calibrated, combined.

There is no look-ahead: each forecast is calibrated and combined with factors and weights learnt
from the file's forecasts for earlier target sessions. Losses are relative to the last close.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.combination_shares import EWMA_WALK, RANDOM_WALK
from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.evaluation.metric_sums import BANDS, crps
from tradingbot.evaluation.metrics import MIN_FORECASTS
from tradingbot.evaluation.significance import interval, resampled
from tradingbot.evaluation.training_cutoff import InTraining
from tradingbot.forecast import ANCHORED, QUANTILE_LEVELS
from tradingbot.markets.symbols import asset_class
from tradingbot.postprocessing.bands import ALL_CLASSES
from tradingbot.postprocessing.combination import (
    Course,
    Panel,
    joined,
    replay,
    without_record,
)
from tradingbot.postprocessing.combination_learning import panels_of
from tradingbot.postprocessing.combined_forecast import suffices
from tradingbot.postprocessing.conformal import widened
from tradingbot.postprocessing.experts import EXPERTS, FORECASTERS
from tradingbot.postprocessing.fit import out_of_sample_factors
from tradingbot.typing import Floats, Times
from tradingbot.walk_forward.results import outcomes_of
from tradingbot.walk_forward.schema import QUANTILES, RANGES

_UNSEEN: tuple[InTraining, ...] = ("no", "unknown")


@dataclass(frozen=True)
class Link:
    """One stage of postprocessing. Skills are 1 - CRPS ÷ a walk's, with 95 % intervals."""

    crps_skill: float
    skill_low: float | None  # None: too few sessions
    skill_high: float | None
    ewma_skill: float
    ewma_low: float | None
    ewma_high: float | None
    coverage_50: float
    coverage_80: float
    coverage_90: float


@dataclass(frozen=True)
class WorstTicker:
    """The ticker whose combined forecasts are worst compared with its best single forecaster.

    The best forecaster is known only in hindsight.
    """

    symbol: str
    behind: float  # CRPS ÷ the best forecaster's CRPS - 1; negative if the combination is better
    best: str  # name of the best forecaster


@dataclass(frozen=True)
class Chain:
    """All stages of postprocessing for a backtest's forecasts.

    Attributes:
        n: Number of forecasts compared.
        sessions: Number of sessions on which they were made.
        unseen: Whether the forecasts are of days outside the model's training. If the file has such
            days, all other days are excluded.
        links: By stage, from "raw" to "combined", and the experts.
        shares: Final share of each forecaster, averaged over steps.
        worst: None if no ticker has enough forecasts.
    """

    n: int
    sessions: int
    unseen: bool
    links: dict[str, Link]
    shares: dict[str, float]
    worst: WorstTicker | None


@dataclass(frozen=True)
class Walked:
    """A backtest's forecasts at each stage of postprocessing.

    Attributes:
        record: The model's own forecasts, on unseen days if there are any.
        unseen: Whether there are unseen days.
        quantiles: Quantiles of all forecasts, (n, 19), by the names of `Chain.links`.
        courses: States of the combination after each session, for all asset classes, by step.
    """

    record: list[ForecastOutcomes]
    unseen: bool
    quantiles: dict[str, Floats]
    courses: dict[int, Course]


def walk(rows: pd.DataFrame, bars: Mapping[str, pd.DataFrame]) -> Walked | None:
    """Postprocess a backtest's forecasts in order of time; None if no forecast has an outcome."""
    if rows.empty:
        return None
    unseen = bool(rows["in_training"].isin(_UNSEEN).any())
    record, raw = (
        outcomes_of(variant, trained_on=_UNSEEN if unseen else None)
        for variant in (rows, _without_anchor(rows))
    )
    if not record:
        return None
    combined, courses = combined_quantiles(record, bars)
    return Walked(record, unseen, {"raw": _joined(raw), **_own(record), **combined}, courses)


def chain(rows: pd.DataFrame) -> Chain | None:
    """Postprocess a backtest's forecasts and compare the stages; None if there are too few."""
    walked = walk(rows, bars_of(rows))
    return None if walked is None else chain_of(walked)


def chain_of(walked: Walked) -> Chain | None:
    """Compare the stages; None if there are too few forecasts."""
    record, quantiles = walked.record, walked.quantiles
    actual = np.concatenate([part.actual for part in record])
    losses = pd.DataFrame({name: crps(actual, values) for name, values in quantiles.items()})
    known = losses[[RANDOM_WALK, EWMA_WALK, "combined"]].notna().all(axis=1).to_numpy()
    if known.sum() < MIN_FORECASTS:
        return None
    losses = losses[known].dropna(axis="columns")  # files of earlier versions lack some columns
    as_of = np.concatenate([part.as_of for part in record])[known]
    skills = _Skills(as_of, losses, block=max(int(part.step.max()) for part in record))
    symbols = np.concatenate([np.full(len(part), part.symbol) for part in record])[known]
    return Chain(
        n=int(known.sum()),
        sessions=len(np.unique(as_of)),
        unseen=walked.unseen,
        links={
            name: Link(
                *skills.over(RANDOM_WALK, name),
                *skills.over(EWMA_WALK, name),
                *_held(quantiles[name][known], actual[known]),
            )
            for name in map(str, losses)
        },
        shares=dict(
            zip(
                FORECASTERS,
                np.mean(
                    [course.newest.weights for course in walked.courses.values()], axis=0
                ).tolist(),
                strict=True,
            )
        ),
        worst=_worst(losses, symbols),
    )


def bars_of(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each ticker's candles by day; files of earlier versions have closes only."""
    names = dict(zip((*RANGES, "actual"), ("open", "high", "low", "close"), strict=True))
    found = {}
    for symbol, ticker_rows in rows[rows["step"] == 0].groupby("symbol"):
        days = ticker_rows.drop_duplicates("as_of").sort_values("as_of")
        bars = days[[*names]].rename(columns=names).set_index(pd.DatetimeIndex(days["as_of"]))
        found[str(symbol)] = bars.dropna(axis="columns")
    return found


def _without_anchor(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the quantiles before anchoring at the last close. NaN where unknown."""
    factor = rows["anchor_factor"]
    if not rows["revision"].iloc[0].endswith(ANCHORED):
        factor = factor.fillna(1.0)
    return rows.assign(**{name: rows[name] / factor for name in QUANTILES})


def _joined(record: Sequence[ForecastOutcomes]) -> Floats:
    quantiles: Floats = np.concatenate([part.raw_quantiles for part in record])
    return quantiles


def _own(record: Sequence[ForecastOutcomes]) -> dict[str, Floats]:
    """Return the model's quantiles (n, 19), before combination."""
    given = _joined(record)
    factors = np.concatenate(out_of_sample_factors(record))
    wide = widened(given, np.nan_to_num(factors, nan=1.0))
    calibrated = np.where(np.isnan(factors[:, :1]), given, wide)
    anchored = record[0].model_revision.endswith(ANCHORED)
    return ({"anchored": given} if anchored else {}) | {"calibrated": calibrated}


def combined_quantiles(
    record: Sequence[ForecastOutcomes], bars: Mapping[str, pd.DataFrame]
) -> tuple[dict[str, Floats], dict[int, Course]]:
    """Return quantiles (n, 19) of the combination and each expert, and the states by step."""
    n = [len(part) for part in record]
    found = {name: [np.full((rows, 19), np.nan) for rows in n] for name in ("combined", *EXPERTS)}
    by_step: dict[int, list[tuple[int, Panel]]] = {}
    for number, part in enumerate(record):
        for step, panel in panels_of(part, bars[part.symbol]):
            by_step.setdefault(step, []).append((number, panel))
    learnt = {}
    for step, parts in by_step.items():
        courses = _courses([(asset_class(record[number].symbol), panel) for number, panel in parts])
        learnt[step] = courses[ALL_CLASSES]
        for number, panel in parts:
            at = record[number].step == step
            kind = asset_class(record[number].symbol)
            found["combined"][number][at] = np.exp(_combine(courses, kind, panel))
            for name, quantiles in zip(EXPERTS, panel.experts.swapaxes(0, 1), strict=True):
                found[name][number][at] = np.exp(quantiles)
    return {name: np.concatenate(parts) for name, parts in found.items()}, learnt


def _courses(panels: Sequence[tuple[str, Panel]]) -> dict[str, Course]:
    """Return the states of one step after each session, for each asset class and for all."""
    return {
        kind: replay(
            joined([panel for of, panel in panels if kind in (of, ALL_CLASSES)]),
            without_record(len(EXPERTS)),
        )
        for kind in (ALL_CLASSES, *{of for of, _ in panels})
    }


def _combine(courses: Mapping[str, Course], kind: str, panel: Panel) -> Floats:
    """Combine each forecast with the asset class's state, or that of all classes.

    The latter is used where the class had too few outcomes when the forecast was made.
    """
    of_kind = courses[kind]
    sufficed = np.array([suffices(state) for state in of_kind.states])[of_kind.known(panel)]
    return np.where(sufficed[:, None], of_kind.combine(panel), courses[ALL_CLASSES].combine(panel))


class _Skills:
    """Skills: 1 - CRPS ÷ a walk's, with 95 % intervals by block bootstrap over sessions."""

    def __init__(self, as_of: Times, losses: pd.DataFrame, block: int) -> None:
        sums, drawn = resampled(as_of, losses.to_numpy(), block=block)
        self._sums = dict(zip(losses, sums.tolist(), strict=True))
        self._drawn = dict(zip(losses, drawn.T, strict=True))

    def over(self, walk: str, name: str) -> tuple[float, float | None, float | None]:
        bounds = interval(1 - self._drawn[name] / self._drawn[walk])
        low, high = (None, None) if bounds is None else (float(bounds[0]), float(bounds[1]))
        return 1 - self._sums[name] / self._sums[walk], low, high


def _worst(losses: pd.DataFrame, symbols: NDArray[Any]) -> WorstTicker | None:
    count = losses.groupby(symbols)["combined"].count()
    means = losses.groupby(symbols).mean()[count >= MIN_FORECASTS]
    if means.empty:
        return None
    alone = "anchored" if "anchored" in means else "raw"
    single = means[[name for name in (alone, *EXPERTS) if name in means]]
    behind = means["combined"] / single.min(axis=1) - 1
    at = int(behind.to_numpy().argmax())
    best = single.columns[int(single.to_numpy()[at].argmin())]
    return WorstTicker(str(behind.index[at]), float(behind.iloc[at]), str(best))


def _held(quantiles: Floats, actual: Floats) -> list[float]:
    """Return the share of closes inside each of BANDS."""
    edges = [map(QUANTILE_LEVELS.index, bounds) for bounds in BANDS.values()]
    return [
        float(((quantiles[:, low] <= actual) & (actual <= quantiles[:, high])).mean())
        for low, high in edges
    ]
