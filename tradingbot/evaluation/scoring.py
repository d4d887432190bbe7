"""`kronos_scores`: the record of every model, counted anew from the ledger and what came.

Only one run at a time does so for a database. Rows are written as tickers are done, so that a run
that is stopped loses none; what it would have replaced stays until the next one.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from tradingbot.evaluation.metrics import MetricAccumulator
from tradingbot.evaluation.outcomes import (
    NO_CANDLES,
    NOT_YET,
    Closes,
    ForecastOutcomes,
    Unresolved,
    resolve_outcomes,
)
from tradingbot.persistence.models import (
    ALL_SESSIONS,
    ALL_STEPS,
    ALL_SYMBOLS,
    KronosForecast,
    KronosScore,
)
from tradingbot.persistence.upsert import upsert
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

    def in_words(self) -> Iterator[str]:
        """Why some were not scored, and whose record begins anew; a line each, the most first."""
        reasons: dict[str, Counter[str]] = {}
        for one in self.unscored:
            reasons.setdefault(one.reason, Counter())[one.symbol] += one.n
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
    narrator: ProgressReporter | None = None,
) -> Scoring:
    """Count the record of all models and tickers anew, or of one and some, and store it.

    The record of all tickers together is left alone where only some are counted. Scores of
    forecasts that are no longer there go; those of a ticker whose candles cannot be had now stay.
    """
    found = Scoring()
    scored_at = utcnow()
    totals: dict[Record, MetricAccumulator] = {}
    rows: list[dict[str, Any]] = []
    out_of_reach: set[str] = set()
    with sessions() as session:
        if narrator is not None:
            narrator.step("score", "Scoring", total=_count_tickers(session, model, symbols))
        symbol = None
        for one in resolve_outcomes(session, closes, model=model, symbols=symbols):
            if narrator is not None and symbol not in (None, one.symbol):
                narrator.advance()
            symbol = one.symbol
            if isinstance(one, ForecastOutcomes):
                tally = _take(found, totals, one)
                rows += _rows(_record(one), one.symbol, tally, scored_at)
                if len(rows) >= _BATCH:
                    _store(sessions, rows)
                    rows = []
            elif one.reason == NOT_YET:
                found.waiting += one.n
            else:
                found.unscored.append(one)
                if one.reason.startswith(NO_CANDLES):
                    out_of_reach.add(one.symbol)
        if narrator is not None and symbol is not None:
            narrator.advance()
    if symbols is None:
        for record, tally in totals.items():
            rows += _rows(record, ALL_SYMBOLS, tally, scored_at)
    _store(sessions, rows)
    _forget_older(sessions, scored_at, model, symbols, out_of_reach)
    return found


def scored_since(session: Session, moment: datetime) -> bool:
    """Whether all was scored after `moment`, naive UTC."""
    newest = session.scalar(
        select(func.max(KronosScore.scored_at)).where(KronosScore.symbol == ALL_SYMBOLS)
    )
    return newest is not None and newest >= moment


def _count_tickers(
    session: Session, model: str | None, symbols: Collection[str] | None
) -> int | None:
    table = KronosForecast.__table__.c
    query = select(func.count(table.symbol.distinct()))
    if model is not None:
        query = query.where(table.model_name == model)
    if symbols is not None:
        query = query.where(table.symbol.in_(list(symbols)))
    return session.scalar(query)


def _take(
    found: Scoring, totals: dict[Record, MetricAccumulator], one: ForecastOutcomes
) -> MetricAccumulator:
    """Count in the forecasts of one ticker; their tally."""
    tally = MetricAccumulator.of(one)
    total = totals.setdefault(_record(one), MetricAccumulator())
    total += tally
    found.scored += len(one)
    found.tickers.add(one.symbol)
    found.records.add(_record(one))
    return tally


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


def _store(sessions: SessionFactory, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    with sessions() as session:
        upsert(session, KronosScore, rows)


def _forget_older(
    sessions: SessionFactory,
    scored_at: datetime,
    model: str | None,
    symbols: Collection[str] | None,
    out_of_reach: set[str],
) -> None:
    outdated = delete(KronosScore).where(KronosScore.scored_at < scored_at)
    if model is not None:
        outdated = outdated.where(KronosScore.model_name == model)
    if symbols is not None:
        outdated = outdated.where(KronosScore.symbol.in_(list(symbols)))
    if out_of_reach:
        outdated = outdated.where(KronosScore.symbol.not_in([*out_of_reach, ALL_SYMBOLS]))
    with sessions() as session:
        session.execute(outdated)


def _forecasts(count: int) -> str:
    return "1 forecast" if count == 1 else f"{count} forecasts"
