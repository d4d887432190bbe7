"""The metrics of `kronos_scores`, computed from forecasts and their outcomes.

docs/concepts/scores.md has the formulas. Prices are shares of the last close, so an error of 0.01
is one per cent of the price. A MetricAccumulator holds sums for each session and step, whatever
the number of tickers, so that a million forecasts need no more memory than a thousand.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.information_coefficient import MIN_TICKERS, correlations
from tradingbot.evaluation.metric_sums import BANDS, SUMS, Columns, by_key, sums_of, walk_losses
from tradingbot.evaluation.outcomes import ForecastOutcomes
from tradingbot.evaluation.sequential_testing import anytime_skill_interval
from tradingbot.evaluation.statistics import diebold_mariano, share_interval
from tradingbot.typing import Floats

MIN_FORECASTS = 30  # with an outcome; fewer say nothing, and every measure of them is None
_ROUNDING = 1e-12  # a difference of two errors that is smaller beside them is none
MIN_SESSIONS = 10  # for what varies from session to session: the hit rate's interval, the ICs


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


def compute_metrics(
    outcomes: Iterable[ForecastOutcomes], step: int | None = None, last_sessions: int | None = None
) -> ForecastMetrics:
    """Compute the metrics of all these forecasts together; see `MetricAccumulator.measures`."""
    tally = MetricAccumulator()
    for one in outcomes:
        tally += MetricAccumulator.of(one)
    return tally.measures(step, last_sessions)


class MetricAccumulator:
    """Sums over forecasts for each session and step; `+=` puts tickers together.

    keys: (k,) ascending, the target's second and the step in one number. sums: (k, len(SUMS)).
    origins: (k,) the second of the newest bar that any of these forecasts was made from.
    """

    def __init__(self) -> None:
        self._keys = np.empty(0, dtype="int64")
        self._sums = np.empty((0, len(SUMS)))
        self._origins = np.empty(0, dtype="int64")
        # (key, predicted return, actual return) of every forecast: ranks across tickers need them
        self._moves: list[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]] = []

    @classmethod
    def of(
        cls, one: ForecastOutcomes, walks: Floats | None = None, *, ranked: bool = True
    ) -> "MetricAccumulator":
        """Of the forecasts of one ticker.

        Args:
            one: The forecasts.
            walks: Their `walk_losses`, where these are known.
            ranked: Whether to keep what correlations across tickers need.
        """
        tally = cls()
        keys = one.target.astype("int64") << _STEP_BITS | one.step
        sums = sums_of(one, walk_losses(one) if walks is None else walks)
        tally._add(keys, sums, one.as_of.astype("datetime64[s]").astype("int64"))
        if ranked:
            moves = (one.mean - 1).astype("float32"), (one.actual - 1).astype("float32")
            tally._moves = [(keys, *moves)]
        return tally

    def __iadd__(self, other: "MetricAccumulator") -> "MetricAccumulator":
        self._add(other._keys, other._sums, other._origins)
        self._moves += other._moves
        return self

    def __len__(self) -> int:
        return int(self._sums[:, 0].sum())

    def sessions(self) -> int:
        """How many sessions are targets."""
        return len(np.unique(self._session))

    def steps(self) -> list[int]:
        """The steps ahead that there are forecasts of."""
        steps: list[int] = np.unique(self._step).tolist()
        return steps

    def sums(self, *names: str) -> tuple[NDArray[np.datetime64], NDArray[np.int64], Floats]:
        """Session (k,), step (k,) and the sums of these columns (k, names), as in SUMS."""
        columns = [SUMS.index(name) for name in names]
        return self._session.astype("datetime64[s]"), self._step, self._sums[:, columns]

    def measures(
        self, step: int | None = None, last_sessions: int | None = None
    ) -> ForecastMetrics:
        """Of one step ahead, or of all; of targets in the newest sessions, or in all."""
        chosen = np.ones(len(self._keys), dtype=bool) if step is None else self._step == step
        if last_sessions:
            newest = np.unique(self._session)[-last_sessions:]
            chosen &= self._session >= newest[:1]
        sums, sessions = self._sums[chosen], self._session[chosen]
        if not sums.size:
            return ForecastMetrics(0, 0)
        starts = np.flatnonzero(np.diff(sessions, prepend=sessions[0] - 1))
        by_session = Columns(np.add.reduceat(sums, starts))  # (sessions, len(SUMS))
        total = Columns(sums.sum(axis=0))
        known: dict[str, Any] = {
            "n": int(total["n"]),
            "sessions": len(starts),
            "first_target": _moment(sessions[0]),
            "last_target": _moment(sessions[-1]),
        }
        if known["n"] < MIN_FORECASTS:
            return ForecastMetrics(**known)
        first_origins = np.minimum.reduceat(self._origins[chosen], starts)
        overlap = min(_overlap(sessions[starts], first_origins), int(self._step[chosen].max()))
        return ForecastMetrics(
            **known,
            **_means(total),
            **_against_walks(total, by_session, overlap, since_ever=not last_sessions),
            **_coverage_intervals(by_session, overlap),
            **_direction(total, by_session, overlap),
            **self._across_tickers(chosen),
        )

    def _across_tickers(self, chosen: NDArray[np.bool_]) -> dict[str, Any]:
        if len(self._moves) < MIN_TICKERS:
            return {}
        usable = chosen & ~np.isnan(self._correlations).any(axis=1)
        if len(np.unique(self._session[usable])) < MIN_SESSIONS:
            return {}
        ic, rank_ic = self._correlations[usable].mean(axis=0).tolist()
        return {"ic": ic, "rank_ic": rank_ic}

    @cached_property
    def _correlations(self) -> Floats:
        """(k, 2): IC and rank IC for each key; NaN where too few tickers have a forecast."""
        return correlations(self._keys, self._moves)

    @property
    def _session(self) -> NDArray[np.int64]:
        return self._keys >> _STEP_BITS

    @property
    def _step(self) -> NDArray[np.int64]:
        return self._keys & (1 << _STEP_BITS) - 1

    def _add(self, keys: NDArray[np.int64], sums: Floats, origins: NDArray[np.int64]) -> None:
        self._keys, self._sums, self._origins = by_key(
            np.concatenate([self._keys, keys]),
            np.concatenate([self._sums, sums]),
            np.concatenate([self._origins, origins]),
        )
        self.__dict__.pop("_correlations", None)


_STEP_BITS = 9  # a horizon has at most 256 steps


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


def _against_walks(
    total: Columns, by_session: Columns, overlap: int, *, since_ever: bool
) -> dict[str, Any]:
    """The record beside both walks.

    since_ever: These are all forecasts there are. Only then may the interval of the skill be
    looked at every night: a window that moves on begins a new record each time.
    """
    compared = total["compared"]
    if compared < MIN_FORECASTS:
        return {}
    some = by_session["compared"] > 0
    count = by_session["compared"][some]
    ours, walk = by_session["compared_crps"][some] / count, by_session["walk_crps"][some] / count
    worse = ours - walk
    worse[abs(worse) <= _ROUNDING * walk] = 0
    statistic, p_value = diebold_mariano(worse, overlap)
    bounds = anytime_skill_interval(ours, walk, overlap) if since_ever else None
    low, high = bounds or (None, None)
    return {
        "random_walk_crps": float(total["walk_crps"] / compared),
        "crps_skill": _skill(total["compared_crps"], total["walk_crps"]),
        "skill_low": low,
        "skill_high": high,
        "ewma_walk_crps": float(total["ewma_crps"] / compared),
        "ewma_skill": _skill(total["compared_crps"], total["ewma_crps"]),
        "dm_statistic": statistic,
        "dm_p_value": p_value,
    }


def _coverage_intervals(by_session: Columns, overlap: int) -> dict[str, Any]:
    if len(by_session["n"]) < MIN_SESSIONS:
        return {}
    found: dict[str, Any] = {}
    for band in BANDS:
        low, high = share_interval(by_session[f"in_{band}"], by_session["n"], overlap)
        found |= {f"coverage_{band}_low": low, f"coverage_{band}_high": high}
    return found


def _direction(total: Columns, by_session: Columns, overlap: int) -> dict[str, Any]:
    if total["moves"] < MIN_FORECASTS:
        return {}
    low, high = None, None
    if len(by_session["n"]) >= MIN_SESSIONS:
        low, high = share_interval(by_session["hits"], by_session["moves"], overlap)
    return {"hit_rate": float(total["hits"] / total["moves"]), "hit_low": low, "hit_high": high}


def _overlap(targets: NDArray[np.int64], origins: NDArray[np.int64]) -> int:
    """Sessions in a row, the session itself among them, whose forecasts share some of their bars.

    1 where each begins after the one before has ended. Both (sessions,): the targets in order, and
    the first bar that any forecast of them was made from.
    """
    earliest = np.minimum.accumulate(origins[::-1])[::-1]  # of that session or any later one
    until = np.searchsorted(earliest, targets)  # from here on they begin at the target or later
    return int((until - np.arange(len(targets))).max())


def _skill(ours: float, theirs: float) -> float | None:
    ratio = _ratio(ours, theirs)
    return None if ratio is None else 1 - ratio


def _ratio(value: float, by: float) -> float | None:
    return float(value / by) if by > 0 else None


def _moment(second: int) -> datetime:
    moment: datetime = np.datetime64(int(second), "s").astype(datetime)
    return moment
