"""`kronos_scores`: the record of every model, counted anew from the ledger and what came.

Only one run at a time does so for a database. Rows are written as tickers are done, so that a run
that is stopped loses none; what it would have replaced stays until the next one.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy.orm import Session

from tradingbot.evaluation.metrics import MetricAccumulator
from tradingbot.evaluation.outcomes import (
    Closes,
    ForecastOutcomes,
    Unresolved,
    UnresolvedReason,
    resolve_outcomes,
)
from tradingbot.persistence.ledger import count_tickers
from tradingbot.persistence.models import ALL_SESSIONS, ALL_STEPS, ALL_SYMBOLS
from tradingbot.persistence.scores import delete_scores_before, last_scored_at, store_scores
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.typing import SessionFactory

WINDOWS = (ALL_SESSIONS, 250, 60)  # newest sessions
_BATCH = 2000  # rows a transaction

Record = tuple[str, str, str]  # model, its revision, interval


@dataclass
class Scoring:
    """What was scored, and what was not."""

    scored: int = 0  # forecasts with an outcome
    waiting: int = 0  # whose session is still to come
    tickers: set[str] = field(default_factory=set)  # that have a forecast with an outcome
    records: set[Record] = field(default_factory=set)
    unscored: list[Unresolved] = field(default_factory=list)  # but for those that wait

    def remarks(self) -> Iterator[str]:
        """Why some were not scored, and whose record begins anew; a line each, the most first."""
        reasons: dict[str, Counter[str]] = {}
        for one in self.unscored:
            reasons.setdefault(one.text, Counter())[one.symbol] += one.n
        for reason, by_symbol in sorted(reasons.items(), key=lambda item: -item[1].total()):
            some = ", ".join(sorted(by_symbol)[:5])
            more = f" and {len(by_symbol) - 5} more" if len(by_symbol) > 5 else ""
            yield f"{_forecasts(by_symbol.total())} not scored ({some}{more}): {reason}"
        for (model, interval), count in sorted(Counter((m, i) for m, _, i in self.records).items()):
            if count > 1:
                yield f"{model} ({interval}) has {count} revisions; each has a record of its own"
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
    """Count the record of all models and tickers anew, or of one and some, and store it.

    The record of all tickers together is left alone where only some are counted. Scores of
    forecasts that are no longer there go; those of a ticker whose candles cannot be had now stay.
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
        self._totals: dict[Record, MetricAccumulator] = {}
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
        for record, total in self._totals.items():
            self._rows += _rows(record, ALL_SYMBOLS, total, self.scored_at)

    def store(self) -> None:
        """Store the rows that are not stored yet."""
        if self._rows:
            with self._sessions() as session:
                store_scores(session, self._rows)
            self._rows = []

    def _add_outcomes(self, one: ForecastOutcomes) -> None:
        record = _record(one)
        of_ticker = MetricAccumulator.of(one)
        total = self._totals.setdefault(record, MetricAccumulator())
        total += of_ticker
        self.found.scored += len(one)
        self.found.tickers.add(one.symbol)
        self.found.records.add(record)
        self._rows += _rows(record, one.symbol, of_ticker, self.scored_at)
        if len(self._rows) >= _BATCH:
            self.store()


def _record(one: ForecastOutcomes) -> Record:
    return one.model_name, one.model_revision, one.interval


def _rows(
    record: Record, symbol: str, tally: MetricAccumulator, scored_at: datetime
) -> Iterator[dict[str, Any]]:
    """A row for each step and window that there are forecasts of."""
    model, revision, interval = record
    # a window that holds them all has the measures of ALL_SESSIONS, the first
    windows = [window for window in WINDOWS if window < tally.sessions()]
    for step in (ALL_STEPS, *tally.steps()):
        known = {window: tally.measures(step or None, window or None) for window in windows}
        measures = {window: known.get(window, known[ALL_SESSIONS]) for window in WINDOWS}
        for window, of_window in measures.items():
            if of_window.n:  # else there is no such target in the newest sessions
                yield {
                    "model_name": model,
                    "model_revision": revision,
                    "interval": interval,
                    "symbol": symbol,
                    "step": step,
                    "last_sessions": window,
                    **vars(of_window),
                    "scored_at": scored_at,
                }


def _forecasts(count: int) -> str:
    return "1 forecast" if count == 1 else f"{count} forecasts"
