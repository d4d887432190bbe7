"""`kronos_scores`: the record of every model, recomputed from forecasts and closes.

What was served has rows for each ticker, step and window. Beside them stand its parts (raw,
calibrated, combined), of all tickers likewise, of a single one over all its forecasts.

Only one run at a time does so for a database. Rows are written as tickers are done, so that a run
that is stopped loses none; what it would have replaced stays until the next one.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from tradingbot.evaluation.metric_sums import walk_losses
from tradingbot.evaluation.metrics import ForecastMetrics, MetricAccumulator
from tradingbot.evaluation.outcomes import (
    Closes,
    ForecastOutcomes,
    Unresolved,
    UnresolvedReason,
    resolve_outcomes,
)
from tradingbot.persistence.ledger import count_tickers
from tradingbot.persistence.models import ALL_SESSIONS, ALL_STEPS, ALL_SYMBOLS, SERVED
from tradingbot.persistence.scores import delete_scores_before, last_scored_at, store_scores
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.typing import Floats, SessionFactory

WINDOWS = (ALL_SESSIONS, 250, 60)  # newest sessions
_BATCH = 2000  # rows a transaction

Record = tuple[str, str, str]  # model, its revision, interval
Measured = tuple[int, int, ForecastMetrics]  # of this step and window


@dataclass
class Scoring:
    """What was scored, and what was not."""

    scored: int = 0  # forecasts with an outcome
    waiting: int = 0  # whose session is still to come
    tickers: set[str] = field(default_factory=set)  # that have a forecast with an outcome
    records: set[Record] = field(default_factory=set)
    unscored: list[Unresolved] = field(default_factory=list)  # but for those that wait

    def remarks(self) -> Iterator[str]:
        """Why some were not scored, and whose record starts over; a line each, the most first."""
        reasons: dict[str, Counter[str]] = {}
        for one in self.unscored:
            reasons.setdefault(one.text, Counter())[one.symbol] += one.n
        for reason, by_symbol in sorted(reasons.items(), key=lambda item: -item[1].total()):
            some = ", ".join(sorted(by_symbol)[:5])
            more = f" and {len(by_symbol) - 5} more" if len(by_symbol) > 5 else ""
            yield f"{_forecasts(by_symbol.total())} not scored ({some}{more}): {reason}"
        for (model, interval), count in sorted(Counter((m, i) for m, _, i in self.records).items()):
            if count > 1:
                yield f"{model} ({interval}) has {count} revisions, each with a separate record"
        if self.waiting:
            yield f"{_forecasts(self.waiting)} wait for their session to be complete"


def score(
    sessions: SessionFactory,
    closes: Closes,
    *,
    model: str | None = None,
    symbols: Collection[str] | None = None,
    reporter: ProgressReporter | None = None,
) -> Scoring:
    """Recompute and store the record of all models and tickers, or of one and some.

    The record of all tickers together is left alone where only some are counted. Scores of deleted
    forecasts are deleted; those of a ticker whose candles are not available now stay.
    """
    run = _ScoringRun(sessions, utcnow())
    if reporter is not None:
        with sessions() as session:
            total = count_tickers(session, model=model, symbols=symbols)
        reporter.step("score", "Scoring", total=total)
    every = resolve_outcomes(sessions, closes, model=model, symbols=symbols)
    for _, of_ticker in groupby(every, lambda one: one.symbol):
        for one in of_ticker:
            run.add(one)
        if reporter is not None:
            reporter.advance()
    if symbols is None:
        run.add_totals()
    run.store()
    with sessions() as session:
        delete_scores_before(
            session, run.scored_at, model=model, symbols=symbols, keep=run.without_candles
        )
    return run.found


def scored_since(session: Session, moment: datetime) -> bool:
    """Whether all was scored after `moment`, naive UTC."""
    newest = last_scored_at(session)
    return newest is not None and newest >= moment


class _ScoringRun:
    """The rows of kronos_scores, made of one ticker's forecasts after the other."""

    def __init__(self, sessions: SessionFactory, scored_at: datetime) -> None:
        self.scored_at = scored_at
        self.found = Scoring()
        self.without_candles: set[str] = set()  # tickers
        self._sessions = sessions
        self._totals: dict[tuple[Record, str], MetricAccumulator] = {}  # by forecast, too
        self._rows: list[dict[str, Any]] = []

    def add(self, one: ForecastOutcomes | Unresolved) -> None:
        """Count in these forecasts; their rows are stored once there are enough for a batch."""
        if isinstance(one, ForecastOutcomes):
            self._add_outcomes(one)
        elif one.reason == UnresolvedReason.NOT_YET:
            self.found.waiting += one.n
        else:
            self.found.unscored.append(one)
            if one.reason == UnresolvedReason.NO_CANDLES:
                self.without_candles.add(one.symbol)

    def add_totals(self) -> None:
        """Add the rows of all tickers together."""
        for record in self.found.records:
            parts = {name: total for (of, name), total in self._totals.items() if of == record}
            for forecast in _worth_telling(parts):
                self._rows += self._counted(record, forecast, ALL_SYMBOLS, parts[forecast])

    def store(self) -> None:
        """Store the rows that are not stored yet."""
        if self._rows:
            with self._sessions() as session:
                store_scores(session, self._rows)
            self._rows = []

    def _add_outcomes(self, one: ForecastOutcomes) -> None:
        record = _record(one)
        self.found.scored += len(one)
        self.found.tickers.add(one.symbol)
        self.found.records.add(record)
        walks = walk_losses(one)
        of_ticker = {SERVED: MetricAccumulator.of(one, walks)}
        for forecast, part, its_walks in _parts(one, walks):
            of_ticker[forecast] = MetricAccumulator.of(part, its_walks, ranked=False)
        for forecast, tally in of_ticker.items():
            total = self._totals.setdefault((record, forecast), MetricAccumulator())
            total += tally
        for forecast in _worth_telling(of_ticker):
            self._rows += self._counted(record, forecast, one.symbol, of_ticker[forecast])
        if len(self._rows) >= _BATCH:
            self.store()

    def _counted(
        self, record: Record, forecast: str, symbol: str, tally: MetricAccumulator
    ) -> Iterator[dict[str, Any]]:
        whole = forecast != SERVED and symbol != ALL_SYMBOLS
        measured = [_whole(tally)] if whole else _by_step_and_window(tally)
        for step, window, measures in measured:
            yield {
                **dict(zip(("model_name", "model_revision", "interval"), record, strict=True)),
                "symbol": symbol,
                "step": step,
                "last_sessions": window,
                "forecast": forecast,
                **vars(measures),
                "scored_at": self.scored_at,
            }


def _record(one: ForecastOutcomes) -> Record:
    return one.model_name, one.model_revision, one.interval


def _parts(one: ForecastOutcomes, walks: Floats) -> Iterator[tuple[str, ForecastOutcomes, Floats]]:
    """The names of what was served's parts, and the forecasts that have them, with their walks."""
    for name, quantiles in (
        ("raw", one.raw_quantiles),
        ("calibrated", one.calibrated_quantiles),
        ("combined", one.combined_quantiles),
    ):
        if quantiles is None:
            continue
        known = np.flatnonzero(np.isfinite(quantiles).all(axis=1))
        if len(known):
            yield name, replace(one, quantiles=quantiles)[known], walks[known]


def _worth_telling(forecasts: Collection[str]) -> Collection[str]:
    """All of them; where Kronos alone was served, that has no parts."""
    return [SERVED] if {*forecasts} == {SERVED, "raw"} else forecasts


def _whole(tally: MetricAccumulator) -> Measured:
    return ALL_STEPS, ALL_SESSIONS, tally.measures()


def _by_step_and_window(tally: MetricAccumulator) -> Iterator[Measured]:
    """For each step and window that there are forecasts of."""
    # a window that holds them all has the measures of ALL_SESSIONS, the first
    windows = [window for window in WINDOWS if window < tally.sessions()]
    for step in (ALL_STEPS, *tally.steps()):
        known = {window: tally.measures(step or None, window or None) for window in windows}
        for window in WINDOWS:
            of_window = known.get(window, known[ALL_SESSIONS])
            if of_window.n:  # else there is no such target in the newest sessions
                yield step, window, of_window


def _forecasts(count: int) -> str:
    return "1 forecast" if count == 1 else f"{count} forecasts"
