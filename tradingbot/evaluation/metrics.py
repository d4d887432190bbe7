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

from tradingbot.evaluation.baselines import random_walk_quantiles
from tradingbot.evaluation.information_coefficient import MIN_TICKERS, correlations
from tradingbot.evaluation.outcomes import LEVELS, ForecastOutcomes
from tradingbot.evaluation.statistics import diebold_mariano, share_interval
from tradingbot.typing import Floats

MIN_FORECASTS = 30  # with an outcome; fewer say nothing, and every measure of them is None
MIN_SESSIONS = 10  # for what varies from session to session: the hit rate's interval, the ICs
BANDS = {50: (0.25, 0.75), 80: (0.1, 0.9), 90: (0.05, 0.95)}


@dataclass(frozen=True)
class ForecastMetrics:
    """As the columns of KronosScore, which says what each is; None: too few, or it says nothing."""

    n: int
    sessions: int
    first_target: datetime | None = None  # None when n is 0
    last_target: datetime | None = None
    mae: float | None = None
    naive_mae: float | None = None
    mase: float | None = None
    crps: float | None = None
    raw_crps: float | None = None
    random_walk_crps: float | None = None
    crps_skill: float | None = None
    wql: float | None = None
    coverage_50: float | None = None
    coverage_80: float | None = None
    coverage_90: float | None = None
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


def crps(actual: Floats, quantiles: Floats) -> Floats:
    """(n,) from (n,) outcomes and (n, 19) quantiles at LEVELS: twice the mean pinball loss."""
    levels = np.array(LEVELS)
    above = actual[:, None] - quantiles
    loss: Floats = 2 * np.maximum(levels * above, (levels - 1) * above).mean(axis=1)
    return loss


# The columns of a tally's sums.
_SUMS = (
    "n", "error", "naive", "crps", "raw_crps", "actual", "compared", "compared_crps", "walk_crps",
    "moves", "hits",
    *(f"{kind}_{band}" for kind in ("in", "raw_in", "width") for band in BANDS),
)  # fmt: skip


class MetricAccumulator:
    """Sums over forecasts for each session and step; `+=` puts tickers together.

    keys: (k,) ascending, the target's second and the step in one number. sums: (k, len(_SUMS)).
    """

    def __init__(self) -> None:
        self._keys = np.empty(0, dtype="int64")
        self._sums = np.empty((0, len(_SUMS)))
        # (key, predicted return, actual return) of every forecast: ranks across tickers need them
        self._moves: list[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]] = []

    @classmethod
    def of(cls, one: ForecastOutcomes) -> "MetricAccumulator":
        """Of the forecasts of one ticker."""
        tally = cls()
        keys = one.target.astype("int64") << _STEP_BITS | one.step
        tally._add(keys, _sums_of(one))
        predicted, actual = (one.mean - 1).astype("float32"), (one.actual - 1).astype("float32")
        tally._moves = [(keys, predicted, actual)]
        return tally

    def __iadd__(self, other: "MetricAccumulator") -> "MetricAccumulator":
        self._add(other._keys, other._sums)
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
        """Session (k,), step (k,) and the sums of these columns (k, names), as in _SUMS."""
        columns = [_SUMS.index(name) for name in names]
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
        by_session = _Columns(np.add.reduceat(sums, starts))  # (sessions, len(_SUMS))
        total = _Columns(sums.sum(axis=0))
        known: dict[str, Any] = {
            "n": int(total["n"]),
            "sessions": len(starts),
            "first_target": _moment(sessions[0]),
            "last_target": _moment(sessions[-1]),
        }
        if known["n"] < MIN_FORECASTS:
            return ForecastMetrics(**known)
        overlap = int(self._step[chosen].max())
        return ForecastMetrics(
            **known,
            **_means(total),
            **_against_random_walk(total, by_session, overlap),
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

    def _add(self, keys: NDArray[np.int64], sums: Floats) -> None:
        together, where = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        added = np.zeros((len(together), len(_SUMS)))
        added[where[: len(self._keys)]] = self._sums
        np.add.at(added, where[len(self._keys) :], sums)
        self._keys, self._sums = together, added
        self.__dict__.pop("_correlations", None)


_STEP_BITS = 9  # a horizon has at most 256 steps


class _Columns:
    """Sums by their names; values: (…, len(_SUMS))."""

    def __init__(self, values: Floats) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[..., _SUMS.index(name)]


def _sums_of(one: ForecastOutcomes) -> Floats:
    """(n, len(_SUMS)): what each forecast adds."""
    actual, quantiles, raw = one.actual, one.quantiles, one.raw_quantiles
    loss, raw_loss = crps(actual, quantiles), crps(actual, raw)
    walk = crps(actual, random_walk_quantiles(one.past, one.as_of, one.step))
    compared = ~np.isnan(walk)  # there was enough of a past to walk on from
    moved = (one.mean != 1) & (actual != 1)
    inside, raw_inside, width = [], [], []
    for low, high in (_band(bounds) for bounds in BANDS.values()):
        inside.append((quantiles[:, low] <= actual) & (actual <= quantiles[:, high]))
        raw_inside.append((raw[:, low] <= actual) & (actual <= raw[:, high]))
        width.append(quantiles[:, high] - quantiles[:, low])
    columns = [
        np.ones(len(one)),
        abs(one.mean - actual),
        abs(1 - actual),
        loss,
        raw_loss,
        abs(actual),
        compared,
        np.where(compared, loss, 0),
        np.where(compared, walk, 0),
        moved,
        moved & ((one.mean > 1) == (actual > 1)),
        *inside,
        *raw_inside,
        *width,
    ]
    return np.column_stack(columns).astype("float64")


def _band(bounds: tuple[float, float]) -> tuple[int, int]:
    low, high = bounds
    return LEVELS.index(low), LEVELS.index(high)


def _means(total: _Columns) -> dict[str, Any]:
    n = total["n"]
    kinds = {"coverage": "in", "raw_coverage": "raw_in", "width": "width"}
    return {
        "mae": float(total["error"] / n),
        "naive_mae": float(total["naive"] / n),
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


def _against_random_walk(total: _Columns, by_session: _Columns, overlap: int) -> dict[str, Any]:
    compared = total["compared"]
    if compared < MIN_FORECASTS:
        return {}
    ratio = _ratio(total["compared_crps"], total["walk_crps"])
    some = by_session["compared"] > 0
    worse = by_session["compared_crps"][some] - by_session["walk_crps"][some]
    statistic, p_value = diebold_mariano(worse / by_session["compared"][some], overlap)
    return {
        "random_walk_crps": float(total["walk_crps"] / compared),
        "crps_skill": None if ratio is None else 1 - ratio,
        "dm_statistic": statistic,
        "dm_p_value": p_value,
    }


def _direction(total: _Columns, by_session: _Columns, overlap: int) -> dict[str, Any]:
    if total["moves"] < MIN_FORECASTS:
        return {}
    low, high = None, None
    if len(by_session["n"]) >= MIN_SESSIONS:
        low, high = share_interval(by_session["hits"], by_session["moves"], overlap)
    return {"hit_rate": float(total["hits"] / total["moves"]), "hit_low": low, "hit_high": high}


def _ratio(value: float, by: float) -> float | None:
    return float(value / by) if by > 0 else None


def _moment(second: int) -> datetime:
    moment: datetime = np.datetime64(int(second), "s").astype(datetime)
    return moment
