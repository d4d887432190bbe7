"""The record of forecasts with their outcomes: sums for each session and step, and its metrics.

Prices are shares of the last close, so an error of 0.01 is one per cent of the price. However many
the tickers, a MetricAccumulator needs no more memory, but for their ranks.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.information_coefficient import (
    MIN_TICKERS,
    Correlations,
    Moves,
    correlations,
)
from tradingbot.evaluation.matured import STEP_BITS, MaturedForecasts
from tradingbot.evaluation.measures import MIN_FORECASTS as MIN_FORECASTS
from tradingbot.evaluation.measures import ForecastMetrics as ForecastMetrics
from tradingbot.evaluation.measures import SessionSums, measure
from tradingbot.evaluation.metric_sums import SUMS, by_key
from tradingbot.evaluation.outcomes import ForecastOutcomes
from tradingbot.typing import Floats


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

    def __init__(self, known: Correlations | None = None) -> None:
        """`known` are correlations across tickers that need not be computed again."""
        self._keys = np.empty(0, dtype="int64")
        self._sums = np.empty((0, len(SUMS)))
        self._origins = np.empty(0, dtype="int64")
        self._known = known or Correlations.none()
        self._moves: list[Moves] = []  # of every forecast: ranks across tickers need them

    @classmethod
    def of(cls, one: ForecastOutcomes) -> "MetricAccumulator":
        """Of the forecasts of one ticker, by what was served."""
        return cls.of_matured(MaturedForecasts.of(one, kinds=()))

    @classmethod
    def of_matured(cls, matured: MaturedForecasts, *, ranked: bool = True) -> "MetricAccumulator":
        """Of the forecasts of one ticker, by what was served.

        Args:
            matured: The forecasts.
            ranked: Whether to keep what correlations across tickers need.
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

    def __len__(self) -> int:
        return int(self._sums[:, 0].sum())

    def sessions(self) -> NDArray[np.int64]:
        """The seconds of all target sessions, ascending."""
        return np.unique(self._session)

    def steps(self) -> list[int]:
        """The steps ahead that there are forecasts of."""
        steps: list[int] = np.unique(self._step).tolist()
        return steps

    def sums(self, *names: str) -> tuple[NDArray[np.datetime64], NDArray[np.int64], Floats]:
        """Session (k,), step (k,) and the sums of these columns (k, names), as in SUMS."""
        columns = [SUMS.index(name) for name in names]
        return self._session.astype("datetime64[s]"), self._step, self._sums[:, columns]

    def by_session(self, step: int | None = None) -> SessionSums:
        """Of one step ahead, or of all: what `measure` needs."""
        chosen = np.ones(len(self._keys), dtype=bool) if step is None else self._step == step
        session = self._session[chosen]
        starts = np.flatnonzero(np.diff(session, prepend=session[:1] - 1))
        fields = self._sums[chosen], self._origins[chosen], self._step[chosen]
        if len(starts) < len(session):
            adds: Iterator[Any] = iter((np.add, np.minimum, np.maximum))
            fields = tuple(next(adds).reduceat(one, starts) for one in fields)
        few = len(self._moves) < MIN_TICKERS
        correlated = np.flatnonzero(chosen)[: 0 if few else None]
        known = np.empty((0, 2)) if few else self._correlations[correlated]
        return SessionSums(session[starts], *fields, self._session[correlated], known)

    def measures(
        self, step: int | None = None, last_sessions: int | None = None
    ) -> ForecastMetrics:
        """Of one step ahead, or of all; of targets in the newest sessions, or in all."""
        found = self.by_session(step)
        if last_sessions and len(self._keys):
            found = found.since(int(self.sessions()[-last_sessions:][0]))
        return measure([found])[0]

    def correlations(self) -> Correlations:
        """Across tickers, with what they depend on."""
        return Correlations.of(self._keys, self._sums, self._correlations)

    @cached_property
    def _correlations(self) -> Floats:
        """(k, 2): IC and rank IC for each key; NaN where too few tickers have a forecast."""
        found = self._known.still_true(self._keys, self._sums)
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
        if np.array_equal(keys, self._keys):  # as of most tickers of an exchange
            self._sums = self._sums + sums
            self._origins = np.maximum(self._origins, origins)
            return
        self._keys, self._sums, self._origins = by_key(
            np.concatenate([self._keys, keys]),
            np.concatenate([self._sums, sums]),
            np.concatenate([self._origins, origins]),
        )
