"""The metrics of `kronos_scores`, of many records at once, from sums by session.

docs/concepts/scores.md has the formulas. Records of equally many sessions are computed together,
which takes a tenth of the time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.metric_sums import BANDS, Columns
from tradingbot.evaluation.sequential_testing import anytime_skill_intervals
from tradingbot.evaluation.statistics import diebold_mariano_each, share_intervals
from tradingbot.typing import Floats

MIN_FORECASTS = 30  # with an outcome; fewer say nothing, and every measure of them is None
MIN_SESSIONS = 10  # for what varies from session to session: the hit rate's interval, the ICs
_ROUNDING = 1e-12  # a difference of two errors that is smaller beside them is none


@dataclass(frozen=True)
class ForecastMetrics:
    """As the columns of KronosScore, which says what each is; None: too few, or it says nothing."""

    n: int
    sessions: int
    first_target: datetime | None = None  # None when n is 0
    last_target: datetime | None = None
    mae: float | None = None
    naive_mae: float | None = None
    relative_mae: float | None = None
    mase: float | None = None
    crps: float | None = None
    raw_crps: float | None = None
    random_walk_crps: float | None = None
    crps_skill: float | None = None
    skill_low: float | None = None
    skill_high: float | None = None
    ewma_walk_crps: float | None = None
    ewma_skill: float | None = None
    wql: float | None = None
    coverage_50: float | None = None
    coverage_80: float | None = None
    coverage_90: float | None = None
    coverage_50_low: float | None = None
    coverage_50_high: float | None = None
    coverage_80_low: float | None = None
    coverage_80_high: float | None = None
    coverage_90_low: float | None = None
    coverage_90_high: float | None = None
    raw_coverage_50: float | None = None
    raw_coverage_80: float | None = None
    raw_coverage_90: float | None = None
    width_50: float | None = None
    width_80: float | None = None
    width_90: float | None = None
    hit_rate: float | None = None
    hit_low: float | None = None
    hit_high: float | None = None
    ic: float | None = None
    rank_ic: float | None = None
    dm_statistic: float | None = None
    dm_p_value: float | None = None


@dataclass(frozen=True)
class SessionSums:
    """Sums over forecasts by target session, of one step ahead or of all.

    Attributes:
        sessions: (n,) their seconds, ascending.
        sums: (n, len(SUMS)).
        origins: (n,) the second of the first bar that any forecast of the session was made from.
        steps: (n,) the most steps ahead of any of them.
        correlated: (k,) sessions with correlations across tickers.
        correlations: (k, 2) IC and rank IC of each.
        whole: Whether these are all forecasts there are. Only then may the interval of the skill be
            looked at every night: a window that moves on begins a new record each time.
    """

    sessions: NDArray[np.int64]
    sums: Floats
    origins: NDArray[np.int64]
    steps: NDArray[np.int64]
    correlated: NDArray[np.int64]
    correlations: Floats
    whole: bool = True

    def since(self, session: int) -> "SessionSums":
        """Those of the sessions from this one on."""
        there, known = self.sessions >= session, self.correlated >= session
        return SessionSums(
            self.sessions[there],
            self.sums[there],
            self.origins[there],
            self.steps[there],
            self.correlated[known],
            self.correlations[known],
            whole=False,
        )

    @property
    def overlap(self) -> int:
        """Sessions in a row, the session itself among them, whose forecasts share some bars.

        1 where each begins after the one before has ended.
        """
        earliest = np.minimum.accumulate(self.origins[::-1])[::-1]  # of it or any later session
        until = np.searchsorted(earliest, self.sessions)  # from here on they begin at it or later
        return min(int((until - np.arange(len(until))).max()), int(self.steps.max()))


def measure(records: Sequence[SessionSums]) -> list[ForecastMetrics]:
    """Compute the metrics of each record."""
    found = [_counts(one) for one in records]
    known = [
        _Known(values, one, one.overlap, Columns(one.sums.sum(axis=0)))
        for values, one in zip(found, records, strict=True)
        if values["n"] >= MIN_FORECASTS
    ]
    for one in known:
        one.values.update(_means(one.total) | _across_tickers(one.record))
    _coverage_intervals([one for one in known if len(one.record.sums) >= MIN_SESSIONS])
    _direction([one for one in known if one.total["moves"] >= MIN_FORECASTS])
    _against_walks([one for one in known if one.total["compared"] >= MIN_FORECASTS])
    return [ForecastMetrics(**values) for values in found]


@dataclass(frozen=True)
class _Known:
    """A record with enough forecasts: what is known of it so far, by the fields of the metrics."""

    values: dict[str, Any]
    record: SessionSums
    overlap: int
    total: Columns


def _counts(one: SessionSums) -> dict[str, Any]:
    if not len(one.sums):
        return {"n": 0, "sessions": 0}
    return {
        "n": int(Columns(one.sums)["n"].sum()),
        "sessions": len(one.sessions),
        "first_target": _moment(one.sessions[0]),
        "last_target": _moment(one.sessions[-1]),
    }


def _means(total: Columns) -> dict[str, Any]:
    n = total["n"]
    kinds = {"coverage": "in", "raw_coverage": "raw_in", "width": "width"}
    return {
        "mae": float(total["error"] / n),
        "naive_mae": float(total["naive"] / n),
        "relative_mae": _ratio(total["error"], total["naive"]),
        "mase": _ratio(total["error"], total["naive"]),
        "crps": float(total["crps"] / n),
        "raw_crps": float(total["raw_crps"] / n),
        "wql": _ratio(total["crps"], total["actual"]),
        **{
            f"{name}_{band}": float(total[f"{kind}_{band}"] / n)
            for name, kind in kinds.items()
            for band in BANDS
        },
    }


def _across_tickers(one: SessionSums) -> dict[str, Any]:
    usable = ~np.isnan(one.correlations).any(axis=1)
    if len(np.unique(one.correlated[usable])) < MIN_SESSIONS:
        return {}
    ic, rank_ic = one.correlations[usable].mean(axis=0).tolist()
    return {"ic": ic, "rank_ic": rank_ic}


def _coverage_intervals(known: Sequence[_Known]) -> None:
    for overlap, group, sums in _alike(known):
        for band in BANDS:
            ends = share_intervals(sums[f"in_{band}"], sums["n"], overlap)
            _note(group, (f"coverage_{band}_low", f"coverage_{band}_high"), ends)


def _direction(known: Sequence[_Known]) -> None:
    for one in known:
        one.values["hit_rate"] = float(one.total["hits"] / one.total["moves"])
    for overlap, group, sums in _alike(known):
        if sums["n"].shape[1] >= MIN_SESSIONS:
            ends = share_intervals(sums["hits"], sums["moves"], overlap)
            _note(group, ("hit_low", "hit_high"), ends)


def _against_walks(known: Sequence[_Known]) -> None:
    """The records beside both walks, over the forecasts that have one."""
    for one in known:
        total = one.total
        one.values.update(
            random_walk_crps=float(total["walk_crps"] / total["compared"]),
            crps_skill=_skill(total["compared_crps"], total["walk_crps"]),
            ewma_walk_crps=float(total["ewma_crps"] / total["compared"]),
            ewma_skill=_skill(total["compared_crps"], total["ewma_crps"]),
        )
    compared = [replace(one, record=_compared(one.record)) for one in known]
    for overlap, group, sums in _alike(compared):
        count = sums["compared"]
        ours, walk = sums["compared_crps"] / count, sums["walk_crps"] / count
        worse = ours - walk
        worse[abs(worse) <= _ROUNDING * walk] = 0
        tests = diebold_mariano_each(worse, overlap)
        _note(group, ("dm_statistic", "dm_p_value"), tests)
        if group[0].record.whole:
            ends = anytime_skill_intervals(ours, walk, overlap)
            _note(group, ("skill_low", "skill_high"), ends)


def _compared(one: SessionSums) -> SessionSums:
    """Its sessions that have a forecast beside a walk."""
    some = Columns(one.sums)["compared"] > 0
    return one if some.all() else replace(one, sums=one.sums[some])


def _alike(known: Sequence[_Known]) -> Iterator[tuple[int, list[_Known], Columns]]:
    """Records that can be computed together: their overlap, and their sums (records, n, …)."""

    def shape(one: _Known) -> tuple[int, int, bool]:
        return one.overlap, len(one.record.sums), one.record.whole

    for (overlap, _, _), group in groupby(sorted(known, key=shape), key=shape):
        some = list(group)
        yield overlap, some, Columns(np.stack([one.record.sums for one in some]))


def _note(group: Sequence[_Known], names: tuple[str, str], values: tuple[Floats, Floats]) -> None:
    """NaN is nothing."""
    for name, of_group in zip(names, values, strict=True):
        for one, value in zip(group, of_group.tolist(), strict=True):
            one.values[name] = None if np.isnan(value) else value


def _skill(ours: float, theirs: float) -> float | None:
    ratio = _ratio(ours, theirs)
    return None if ratio is None else 1 - ratio


def _ratio(value: float, by: float) -> float | None:
    return float(value / by) if by > 0 else None


def _moment(second: int) -> datetime:
    moment: datetime = np.datetime64(int(second), "s").astype(datetime)
    return moment
