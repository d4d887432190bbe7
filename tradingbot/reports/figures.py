"""Statistics of a report's forecasts for its charts, with confidence intervals.

All statistics are computed from `Record.outcomes`. Intervals are 95 % intervals from resampled
sessions (`evaluation/significance.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.close_outcomes import LEVELS, ForecastOutcomes
from tradingbot.evaluation.metrics import ForecastMetrics, MetricAccumulator
from tradingbot.evaluation.significance import interval, resampled
from tradingbot.reports.record import Record
from tradingbot.typing import Floats

Series = dict[str, list[float] | None]  # value, low and high; None for both without an interval

# nominal coverage of the central bands of the 19 levels
NOMINAL = tuple(round(0.1 * i, 1) for i in range(1, 10))
_MIDDLE = len(LEVELS) // 2  # index of the median


@dataclass(frozen=True)
class Estimate:
    """A statistic and its interval, which is None if there are too few sessions."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Figures:
    """Statistics of past forecasts. `overall` is None without outcomes, a chart with too few."""

    overall: ForecastMetrics | None
    skill: Estimate | None  # of CRPS relative to the random walk
    steps: list[tuple[int, ForecastMetrics, Estimate | None]]
    tickers: dict[str, ForecastMetrics]
    charts: dict[str, Any]  # reliability, pit and skill, as report.js expects them


def compute_figures(record: Record) -> Figures:
    """Compute the statistics. A statistic is None if there are too few outcomes for it."""
    record_outcomes = record.outcomes
    if not record_outcomes:
        return Figures(None, None, [], {}, {})
    together = MetricAccumulator()
    tickers = {}
    for outcomes in record_outcomes:
        tally = MetricAccumulator.of(outcomes)
        tickers[outcomes.symbol] = tally.measures()
        together += tally
    overall = together.measures()
    if overall.crps_skill is None:
        return Figures(overall, None, [], tickers, {})
    steps = [(step, together.measures(step)) for step in together.steps()]
    skills = {
        step: _skills(together, step) for step, measures in steps if measures.crps_skill is not None
    }
    sample = _Sample.of(record_outcomes)
    charts: dict[str, Any] = {
        "reliability": {"nominal": NOMINAL, **_both(sample, _coverage)},
        "pit": _both(sample, _places),
    }
    if skills:
        charts["skill"] = {
            "steps": list(skills),
            "given": _joined([skill["given"] for skill in skills.values()]),
            "raw": _joined([skill["raw"] for skill in skills.values()]),
        }
    return Figures(
        overall=overall,
        skill=_estimate(_skills(together)["given"]),
        steps=[
            (step, measures, _estimate(skills[step]["given"]) if step in skills else None)
            for step, measures in steps
        ],
        tickers=tickers,
        charts=charts,
    )


def _skills(tally: MetricAccumulator, step: int | None = None) -> dict[str, Series | None]:
    """Return 1 - CRPS ÷ the random walk's CRPS, for the served and the model's own quantiles.

    The latter is None if the served quantiles are the model's own.
    """
    session, steps, sums = tally.sums(
        "n", "compared", "compared_crps", "crps", "raw_crps", "walk_crps"
    )
    chosen = slice(None) if step is None else steps == step
    session, block = session[chosen], int(steps[chosen].max())
    n, compared, given, all_given, all_raw, walk = sums[chosen].T

    def skill(losses: Floats) -> Series:
        pair = np.column_stack([losses, walk])
        return _series(session, block, pair, lambda sums: 1 - sums[..., :1] / sums[..., 1:])

    # the model's own errors exist for forecasts without a walk too
    raw = not np.array_equal(all_given, all_raw) and np.array_equal(n, compared)
    return {"given": skill(given), "raw": skill(all_raw) if raw else None}


@dataclass(frozen=True)
class _Sample:
    """Forecasts of all tickers in arrays."""

    session: NDArray[np.datetime64]  # (n,) target session
    step: NDArray[np.int64]  # (n,)
    actual: Floats  # (n,)
    given: Floats  # (n, 19) quantiles
    raw: Floats  # (n, 19)

    @classmethod
    def of(cls, record: Sequence[ForecastOutcomes]) -> "_Sample":
        parts = [
            (part.target, part.step, part.actual, part.quantiles, part.raw_quantiles)
            for part in record
        ]
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _both(sample: _Sample, of: Callable[[Floats, Floats], NDArray[np.bool_]]) -> dict[str, Any]:
    """Return, for served and raw quantiles, the share of forecasts for which `of` is true."""

    def shares(quantiles: Floats) -> Series:
        true = of(quantiles, sample.actual[:, None])
        counted = np.column_stack([true, np.ones(len(true))])
        block = int(sample.step.max())
        return _series(sample.session, block, counted, lambda sums: sums[..., :-1] / sums[..., -1:])

    is_raw = np.array_equal(sample.given, sample.raw)
    return {"given": shares(sample.given), "raw": None if is_raw else shares(sample.raw)}


def _coverage(quantiles: Floats, actual: Floats) -> NDArray[np.bool_]:
    """Return whether the close is inside each of the bands NOMINAL. Shape (n, 9)."""
    away = np.arange(1, len(NOMINAL) + 1)
    return (quantiles[:, _MIDDLE - away] <= actual) & (actual <= quantiles[:, _MIDDLE + away])


def _places(quantiles: Floats, actual: Floats) -> NDArray[np.bool_]:
    """Return whether each twentieth of the forecast distribution contains the close, (n, 20).

    If the forecasts are calibrated, all twentieths contain it equally often.
    """
    below = (quantiles < actual).sum(axis=1, keepdims=True)
    lies_in: NDArray[np.bool_] = below == np.arange(quantiles.shape[1] + 1)
    return lies_in


def _series(
    session: NDArray[np.datetime64],
    block: int,
    values: Floats,
    figures: Callable[[Floats], Floats],
) -> Series:
    """Return a series with intervals.

    `figures` computes the series from sums of `values`: from shape (…, k) to shape (…, m).
    """
    sums, drawn = resampled(session, values, block=block)
    ends = interval(figures(drawn))
    low, high = (None, None) if ends is None else (end.tolist() for end in ends)
    return {"value": figures(sums).tolist(), "low": low, "high": high}


def _joined(parts: Sequence[Series | None]) -> dict[str, Any] | None:
    """Join several series. Keep the intervals only if all series have intervals."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return {
        name: [value for part in known for value in part[name] or ()]
        if all(part[name] is not None for part in known)
        else None
        for name in ("value", "low", "high")
    }


def _estimate(series: Series | None) -> Estimate | None:
    if series is None or series["value"] is None:
        return None
    low, high = series["low"], series["high"]
    return Estimate(
        series["value"][0], None if low is None else low[0], None if high is None else high[0]
    )
