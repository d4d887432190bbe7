"""Score the stored forecasts on demand: all of them, some tickers, or one model."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Row

from tradingbot.data.service import DataService
from tradingbot.errors import DatabaseError
from tradingbot.evaluation.close_outcomes import closes_of
from tradingbot.evaluation.event_outcomes import bars_of
from tradingbot.evaluation.event_scoring import EventScoring, score_events
from tradingbot.evaluation.scoring import Scoring, score
from tradingbot.persistence.damage import warn_of_damaged_rows
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import get_db_session, init_db
from tradingbot.persistence.events import read_event_scores
from tradingbot.persistence.ledger import has_forecasts
from tradingbot.persistence.runs import last_source
from tradingbot.persistence.scores import read_scores
from tradingbot.persistence.url import database_exists, redact
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings

REMEDY = "`kronosbot run` makes them; or set DATABASE_URL, or give --database-url"


@dataclass(frozen=True)
class StoredScores:
    """The result of scoring, and all stored scores.

    Attributes:
        found: Counts of scored and unscored forecasts.
        rows: Rows of kronos_scores, in the order of the primary key.
        database: The URL without its password.
        events: Counts of scored and unscored event probabilities.
        event_rows: Rows of kronos_event_scores, in the order of the primary key.
    """

    found: Scoring
    rows: Sequence[Row[Any]]
    database: str
    events: EventScoring = field(default_factory=EventScoring)
    event_rows: Sequence[Row[Any]] = ()


def rescore(
    url: str,
    settings: Settings,
    *,
    source: str | None,
    symbols: Collection[str] | None,
    model: str | None,
    reporter: ProgressReporter,
) -> StoredScores:
    """Compare the stored forecasts with realised closes, and store their scores.

    Args:
        url: The database.
        settings: Name the data source if neither `source` nor the last run names one.
        source: Source of closes; None: the source of the last run.
        symbols: Only these tickers; None: all tickers.
        model: Only this model; None: all models.
        reporter: Shows the progress.

    Raises:
        DatabaseError: This model has no forecast of these tickers, or another run is scoring.
    """
    database = redact(url)
    if not database_exists(url):
        raise DatabaseError(f"there is no {database} yet, and no forecasts: {REMEDY}")
    init_db(url)
    sessions = partial(get_db_session, url)
    with sessions() as session:
        warn_of_damaged_rows(session, most=math.inf)  # scoring reads the whole ledger anyway
        if not has_forecasts(session, model=model, symbols=symbols):
            which = "such" if model is not None or symbols is not None else "any"
            raise DatabaseError(f"{database} has no forecasts of {which} kind: {REMEDY}")
        source = source or last_source(session) or settings.data_source
    data = DataService(
        source,
        now=utcnow(),
        sessions=sessions,
        timeouts=settings.timeouts,
        max_jump=settings.max_jump,
    )
    with open_lock(url, "scores") as lock:
        if not lock.try_exclusive():
            raise DatabaseError(f"another run is scoring, {lock.held_by()}: try again later")
        found = score(sessions, closes_of(data), model=model, symbols=symbols, reporter=reporter)
        events = score_events(sessions, bars_of(data), model=model, symbols=symbols)
    with sessions() as session:
        rows = read_scores(session, model=model, symbols=symbols)
        event_rows = read_event_scores(session, model=model, symbols=symbols)
    return StoredScores(found, rows, database, events, event_rows)
