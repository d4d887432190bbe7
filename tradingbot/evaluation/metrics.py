"""Accumulate sums of forecasts for each session and step, and compute metrics from the sums.

Prices are relative to the last close, so an error of 0.01 is one per cent of the price. The memory
of a MetricAccumulator does not grow with the number of tickers, except for the returns that rank
correlations need.
"""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.evaluation.forecast_losses import STEP_BITS, MaturedForecasts
from tradingbot.evaluation.information_coefficient import (
    MIN_TICKERS,
    Correlations,
    Moves,
    correlations,
)
from tradingbot.evaluation.metric_formulas import MIN_FORECASTS as MIN_FORECASTS
from tradingbot.evaluation.metric_formulas import ForecastMetrics as ForecastMetrics
from tradingbot.evaluation.metric_formulas import SessionSums, measure
from tradingbot.evaluation.metric_sums import SUMS, by_key
from tradingbot.typing import Floats


def compute_metrics(
    outcomes: Iterable[ForecastOutcomes], step: int | None = None, last_sessions: int | None = None
) -> ForecastMetrics:
    """Return the metrics of all these forecasts together. See `MetricAccumulator.measures`."""
    tally = MetricAccumulator()
    for of_ticker in outcomes:
        tally += MetricAccumulator.of(of_ticker)
    return tally.measures(step, last_sessions)


class MetricAccumulator:
    """Sums over forecasts for each session and step; `+=` adds another ticker.

    keys: (k,) ascending. Each combines the target in seconds and the step into one number.
    sums: (k, len(SUMS)) the sums over the forecasts with that key.
    origins: (k,) the newest `as_of` of the forecasts with that key, in seconds.
    """

    def __init__(self, known: Correlations | None = None) -> None:
        """Start empty. `known` are correlations across tickers that need not be recomputed."""
        self._keys = np.empty(0, dtype="int64")
        self._sums = np.empty((0, len(SUMS)))
        self._origins = np.empty(0, dtype="int64")
        self._known = known or Correlations.none()
        self._moves: list[Moves] = []  # of every forecast, for ranks across tickers

    @classmethod
    def of(cls, outcomes: ForecastOutcomes) -> "MetricAccumulator":
        """Accumulate the forecasts of one ticker, using their served quantiles."""
        return cls.of_matured(MaturedForecasts.of(outcomes, kinds=()))

    @classmethod
    def of_matured(cls, matured: MaturedForecasts, *, ranked: bool = True) -> "MetricAccumulator":
        """Accumulate the matured forecasts of one ticker, using their served quantiles.

        Args:
            matured: The forecasts.
            ranked: Keep the returns that correlations across tickers need.
        """
        tally = cls()
        tally._add(matured.keys, matured.sums(), matured.forecasts["as_of"])
        if ranked:
            mean, actual = (matured.forecasts[name] for name in ("mean", "actual"))
            moves = matured.keys, (mean - 1).astype("f4"), (actual - 1).astype("f4")
            tally._moves = [moves]
        return tally

    def __iadd__(self, other: "MetricAccumulator") -> "MetricAccumulator":
        self._add(other._keys, other._sums, other._origins)
        self._moves += other._moves
        return self

    def without_ranks(self) -> "MetricAccumulator":
        """Return the same sums, without the returns that correlations across tickers need."""
        tally = MetricAccumulator()
        tally._keys, tally._sums, tally._origins = self._keys, self._sums, self._origins
        return tally

    def __len__(self) -> int:
        return int(self._sums[:, 0].sum())

    def sessions(self) -> NDArray[np.int64]:
        """Return all target sessions in seconds, ascending."""
        return np.unique(self._session)

    def steps(self) -> list[int]:
        """Return the steps ahead that have forecasts."""
        steps: list[int] = np.unique(self._step).tolist()
        return steps

    def sums(self, *names: str) -> tuple[NDArray[np.datetime64], NDArray[np.int64], Floats]:
        """Return the session and the step of each key, and the sums `names`, a column per name."""
        columns = [SUMS.index(name) for name in names]
        return self._session.astype("datetime64[s]"), self._step, self._sums[:, columns]

    def by_session(self, step: int | None = None) -> SessionSums:
        """Return the sums by session that `measure` needs, for one step or all steps."""
        every = np.arange(len(self._keys))
        chosen = every if step is None else np.flatnonzero(self._step == step)
        session = self._session[chosen]
        starts = np.flatnonzero(np.diff(session, prepend=session[:1] - 1))
        sums = self._sums if step is None else self._sums.take(chosen, axis=0)
        origins, steps = self._origins[chosen], self._step[chosen]
        if len(starts) < len(session):
            sums = np.add.reduceat(sums, starts)
            origins = np.minimum.reduceat(origins, starts)
            steps = np.maximum.reduceat(steps, starts)
        few = len(self._moves) < MIN_TICKERS
        correlated = chosen[: 0 if few else None]
        known = np.empty((0, 2)) if few else self._correlations[correlated]
        return SessionSums(session[starts], sums, origins, steps, self._session[correlated], known)

    def measures(
        self, step: int | None = None, last_sessions: int | None = None
    ) -> ForecastMetrics:
        """Return the metrics for one step or all steps, of the newest sessions or all sessions."""
        found = self.by_session(step)
        if last_sessions and len(self._keys):
            found = found.since(int(self.sessions()[-last_sessions:][0]))
        return measure([found])[0]

    def correlations(self) -> Correlations:
        """Return the correlations across tickers, with their fingerprints."""
        return Correlations.of(self._keys, self._sums, self._correlations)

    @cached_property
    def _correlations(self) -> Floats:
        """Return IC and rank IC for each key. NaN where too few tickers have a forecast."""
        found = self._known.reusable(self._keys, self._sums)
        missing = np.isinf(found[:, 0])
        if missing.any():
            found[missing] = correlations(self._keys[missing], self._moves)
        return found

    @property
    def _session(self) -> NDArray[np.int64]:
        return self._keys >> STEP_BITS

    @property
    def _step(self) -> NDArray[np.int64]:
        return self._keys & (1 << STEP_BITS) - 1

    def _add(self, keys: NDArray[np.int64], sums: Floats, origins: NDArray[np.int64]) -> None:
        self.__dict__.pop("_correlations", None)
        if np.array_equal(keys, self._keys):  # true for most tickers of an exchange
            self._sums = self._sums + sums
            self._origins = np.maximum(self._origins, origins)
            return
        self._keys, self._sums, self._origins = by_key(
            np.concatenate([self._keys, keys]),
            np.concatenate([self._sums, sums]),
            np.concatenate([self._origins, origins]),
        )
