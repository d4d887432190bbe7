"""Compute `kronos_scores`: the past performance of every model, from forecasts and closes.

Served forecasts have rows for each ticker, step and window, and for all tickers together. The
stages of postprocessing (raw, calibrated, combined) have the same rows for all tickers together.
For a single ticker, each stage has one row for all steps and sessions.

Only one run at a time may score a database. Rows are written ticker by ticker, so a stopped run
loses nothing: rows that it did not replace stay until the next run.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy.orm import Session

from tradingbot.evaluation.close_outcomes import Closes, Unresolved, UnresolvedReason
from tradingbot.evaluation.forecast_loss_cache import MaturedPart, matured_parts
from tradingbot.evaluation.forecast_losses import MaturedForecasts
from tradingbot.evaluation.information_coefficient import Correlations
from tradingbot.evaluation.metric_formulas import SessionSums, measure
from tradingbot.evaluation.metrics import MetricAccumulator
from tradingbot.persistence.forecast_losses import (
    forget_others,
    read_correlations,
    store_correlations,
)
from tradingbot.persistence.models import ALL_SESSIONS, ALL_STEPS, ALL_SYMBOLS, SERVED
from tradingbot.persistence.open_forecasts import ledger_keys
from tradingbot.persistence.scores import delete_scores_before, last_scored_at, store_scores
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.typing import SessionFactory

WINDOWS = (ALL_SESSIONS, 250, 60)  # numbers of newest sessions
_BATCH = 1000  # rows per transaction

Record = tuple[str, str, str]  # model, its revision, interval
Summed = tuple[int, int, SessionSums]  # step, window, sums


@dataclass
class Scoring:
    """What was scored, and what was not."""

    scored: int = 0  # forecasts with an outcome
    waiting: int = 0  # forecasts whose target session is in the future
    tickers: set[str] = field(default_factory=set)  # with a scored forecast
    records: set[Record] = field(default_factory=set)
    unscored: list[Unresolved] = field(default_factory=list)  # without the waiting ones

    def remarks(self) -> Iterator[str]:
        """Yield a line for each reason why forecasts were not scored, the most frequent first.

        Then yield a line for each model with several revisions, because each revision
        starts a new record, and a line for waiting forecasts.
        """
        reasons: dict[str, Counter[str]] = {}
        for group in self.unscored:
            reasons.setdefault(group.text, Counter())[group.symbol] += group.n
        for reason, by_symbol in sorted(reasons.items(), key=lambda item: -item[1].total()):
            examples = ", ".join(sorted(by_symbol)[:5])
            more = f" and {len(by_symbol) - 5} more" if len(by_symbol) > 5 else ""
            yield f"{_forecasts(by_symbol.total())} not scored ({examples}{more}): {reason}"
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
    resume: bool = False,
    reporter: ProgressReporter | None = None,
) -> Scoring:
    """Recompute and store the scores of all models and tickers, or of one model or some tickers.

    With `resume`, only unsettled forecasts are read from the ledger, and stored losses of settled
    forecasts are reused. The result is the same (see `forecast_loss_cache`). With `symbols`, the
    scores over all tickers are not changed. Scores of deleted forecasts are deleted. Scores of a
    ticker whose candles are not available now are kept.
    """
    run = _ScoringRun(sessions, utcnow())
    with sessions() as session:
        parts = ledger_keys(session, symbols=symbols)
        if model is None and symbols is None:
            forget_others(session, [part.key for part in parts])
    if reporter is not None:
        tickers = {part.symbol for part in parts if model in (None, part.model_name)}
        reporter.step("score", "Scoring", total=len(tickers))
    matured = matured_parts(sessions, closes, parts, model=model, resume=resume)
    for _, of_ticker in groupby(matured, lambda matured_part: matured_part.part.symbol):
        for matured_part in of_ticker:
            run.add(matured_part)
        if reporter is not None:
            reporter.advance()
    if symbols is None:
        run.add_totals(keep_correlations=model is None)
    run.store()
    with sessions() as session:
        delete_scores_before(
            session, run.scored_at, model=model, symbols=symbols, keep=run.without_candles
        )
    return run.found


def scored_since(session: Session, moment: datetime) -> bool:
    """Return whether all forecasts were scored at or after `moment`, naive UTC."""
    newest = last_scored_at(session)
    return newest is not None and newest >= moment


class _ScoringRun:
    """One run of `score`: collects rows of kronos_scores ticker by ticker."""

    def __init__(self, sessions: SessionFactory, scored_at: datetime) -> None:
        self.scored_at = scored_at
        self.found = Scoring()
        self.without_candles: set[str] = set()  # tickers
        self._sessions = sessions
        self._totals: dict[Record, dict[str, MetricAccumulator]] = {}  # by kind of forecast
        self._rows: list[tuple[dict[str, Any], SessionSums]] = []  # primary key, sums

    def add(self, matured_part: MaturedPart) -> None:
        """Add these forecasts. Rows are stored when a batch is full."""
        for unresolved in matured_part.unresolved:
            if unresolved.reason == UnresolvedReason.NOT_YET:
                self.found.waiting += unresolved.n
                continue
            self.found.unscored.append(unresolved)
            if unresolved.reason == UnresolvedReason.NO_CANDLES:
                self.without_candles.add(unresolved.symbol)
        for revision, matured in matured_part.by_revision.items():
            if len(matured):
                record = matured_part.part.model_name, revision, matured_part.part.interval
                self._add_matured(record, matured_part.part.symbol, matured)

    def add_totals(self, *, keep_correlations: bool) -> None:
        """Add the rows over all tickers."""
        for record, totals in self._totals.items():
            for forecast, total in totals.items():
                self._add_rows(record, forecast, ALL_SYMBOLS, _by_step_and_window(total))
        if keep_correlations:
            known = {
                record: totals[SERVED].correlations().packed()
                for record, totals in self._totals.items()
            }
            with self._sessions() as session:
                store_correlations(session, known)

    def store(self) -> None:
        """Measure and store the collected rows."""
        if not self._rows:
            return
        measured = measure([sums for _, sums in self._rows])
        rows = [
            {**key, **vars(measures), "scored_at": self.scored_at}
            for (key, _), measures in zip(self._rows, measured, strict=True)
        ]
        self._rows = []
        with self._sessions() as session:
            store_scores(session, rows)

    def _add_matured(self, record: Record, symbol: str, matured: MaturedForecasts) -> None:
        self.found.scored += len(matured)
        self.found.tickers.add(symbol)
        self.found.records.add(record)
        if record not in self._totals:
            with self._sessions() as session:
                known = Correlations.unpacked(read_correlations(session, record))
            self._totals[record] = {SERVED: MetricAccumulator(known)}
        of_ticker = {SERVED: MetricAccumulator.of_matured(matured)}
        if not matured.is_raw:
            of_ticker |= {
                kind: MetricAccumulator.of_matured(matured.of_kind(kind), ranked=False)
                for kind in matured.losses.keys() - {SERVED}
            }
        _add_up(self._totals[record], of_ticker)
        for kind, tally in of_ticker.items():
            by = _by_step_and_window(tally) if kind == SERVED else _whole(tally)
            self._add_rows(record, kind, symbol, by)
        if len(self._rows) >= _BATCH:
            self.store()

    def _add_rows(self, record: Record, forecast: str, symbol: str, sums: Iterable[Summed]) -> None:
        for step, window, session_sums in sums:
            key = {
                **dict(zip(("model_name", "model_revision", "interval"), record, strict=True)),
                "symbol": symbol,
                "step": step,
                "last_sessions": window,
                "forecast": forecast,
            }
            self._rows.append((key, session_sums))


def _add_up(
    totals: dict[str, MetricAccumulator], of_ticker: Mapping[str, MetricAccumulator]
) -> None:
    """Add the sums of one ticker to `totals`.

    `totals` has no "raw" as long as Kronos alone was served, because "raw" would equal SERVED.
    """
    if len(of_ticker) > 1:
        totals.setdefault("raw", totals[SERVED].without_ranks())
    elif "raw" in totals:
        totals["raw"] += of_ticker[SERVED].without_ranks()
    for kind, tally in of_ticker.items():
        total = totals.setdefault(kind, MetricAccumulator())
        total += tally


def _whole(tally: MetricAccumulator) -> Iterator[Summed]:
    yield ALL_STEPS, ALL_SESSIONS, tally.by_session()


def _by_step_and_window(tally: MetricAccumulator) -> Iterator[Summed]:
    """Yield sums for each step and window that has forecasts."""
    sessions = tally.sessions()
    for step in (ALL_STEPS, *tally.steps()):
        whole = tally.by_session(step or None)
        for window in WINDOWS:
            # a window that covers all sessions would repeat ALL_SESSIONS
            narrow = window != ALL_SESSIONS and window < len(sessions)
            selected = whole.since(int(sessions[-window])) if narrow else whole
            if len(selected.sums):  # this step may have no target in the newest sessions
                yield step, window, selected


def _forecasts(count: int) -> str:
    return "1 forecast" if count == 1 else f"{count} forecasts"
