"""Read the state of the nightly job from its database: runs, models, stale tickers.

Nothing is written: no database is created, no schema is upgraded, no lock is taken.
"""

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from tradingbot.bots.universe import active_tickers
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError, DataError
from tradingbot.jobs.model_status import Model as Model
from tradingbot.jobs.model_status import models_of, read_models
from tradingbot.markets.calendars import calendar_gap, latest_complete_session, sessions_between
from tradingbot.persistence.damage import damaged_rows
from tradingbot.persistence.database_locks import open_lock
from tradingbot.persistence.engine import read_only_session
from tradingbot.persistence.forecast_queries import NewestForecast, newest_forecasts
from tradingbot.persistence.models import KronosForecast, KronosPrediction, RunLog
from tradingbot.persistence.runs import Run, bad_runs, last_runs
from tradingbot.persistence.schema import schema_version, table_names
from tradingbot.persistence.url import database_exists, redact
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import Settings
from tradingbot.typing import SessionFactory

REMEDY = "`kronosbot run` fills it; for another one, set DATABASE_URL or give --database-url"

NOTICE = timedelta(days=60)  # report holiday calendars that end within this time
CHECKED = 500_000  # rows to check for damage, half a second; `kronosbot score` checks all


@dataclass(frozen=True)
class Ticker:
    """An active ticker without a daily forecast of the latest complete session."""

    symbol: str
    as_of: datetime | None
    behind: int | None  # complete sessions since `as_of`; None: unknown
    why: str  # a reason to print


@dataclass(frozen=True)
class Status:
    """The state of the nightly job. With any of `problems`, a sentence each, the exit code is 1."""

    now: datetime  # naive UTC, like all times here
    database: str  # without a password
    source: str | None = None
    clock: datetime | None = None  # the source's clock, which decides what sessions are complete
    runs: list[Run] = field(default_factory=list)  # newest first
    models: list[Model] = field(default_factory=list)
    active: int = 0  # number of active tickers
    stale: list[Ticker] = field(default_factory=list)  # active tickers without a fresh forecast
    inactive: list[str] = field(default_factory=list)  # inactive tickers with a forecast
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # warnings that do not change the exit code

    @property
    def exit_code(self) -> int:
        return 1 if self.problems else 0


def read_status(url: str, settings: Settings, *, source: str | None, max_age: int) -> Status:
    """Read the state of the job from the database `url`.

    Args:
        url: The database.
        settings: Settings of the job.
        source: Data source whose clock decides which sessions are complete. Default: the last
            run's source.
        max_age: Number of sessions that a forecast may be behind before it is a problem.

    Raises:
        ConfigError, DatabaseError: The state cannot be read.
    """
    status = Status(now=utcnow(), database=redact(url))
    if not database_exists(url):
        return replace(status, problems=[f"there is no {status.database} yet: {REMEDY}"])
    with read_only_session(url) as session:
        if lacking := _lacking(session, status.database):
            return replace(status, problems=[lacking])
        runs = last_runs(session, status.now, lambda shard: open_lock(url, f"run {shard}"))
        freshest = newest_forecasts(session)
        last_source = next((run.source for run in runs if run.source), None)
        source = source or last_source or settings.data_source
        settings = replace(settings, data_source=source)
        clock, active = _clock_and_tickers(settings, lambda: nullcontext(session))
        known = read_models(session, freshest)
        damage = list(damaged_rows(session, most=CHECKED))
    latest = _latest_sessions({*active, *(known.symbol for known in freshest)}, clock)
    stale = _stale(active, freshest, latest)
    return replace(
        status,
        source=source,
        clock=clock,
        runs=runs,
        models=models_of(known, freshest, latest),
        active=len(active),
        stale=stale,
        inactive=sorted({known.symbol for known in freshest} - set(active)),
        problems=[*bad_runs(runs), *_bad_tickers(stale, len(active), max_age)],
        notes=[*damage, *_calendars_that_end(active, clock + NOTICE)],
    )


# read from the database --------------------------------------------------------------------


def _lacking(session: Session, database: str) -> str | None:
    """Return why there is nothing to read, or None."""
    tables = table_names(session.connection())
    if {RunLog.__tablename__, KronosForecast.__tablename__} <= tables:
        schema_version(session.connection(), database=database)
        return None
    if KronosPrediction.__tablename__ in tables:
        return f"{database} has an older schema: the next `kronosbot run` upgrades it"
    return f"{database} is empty: {REMEDY}"


def _clock_and_tickers(settings: Settings, sessions: SessionFactory) -> tuple[datetime, list[str]]:
    """Return the time on the source's clock, and the active tickers."""
    try:
        data = DataService(
            settings.data_source,
            horizon=settings.horizon,
            timeouts=settings.timeouts,
            max_jump=settings.max_jump,
        )
        return data.now(), active_tickers(settings, data, sessions)
    except ConfigError as error:
        raise ConfigError(f"{error}; --source says where candles come from") from error


# derived from these data --------------------------------------------------------------------------


def _latest_sessions(symbols: Iterable[str], clock: datetime) -> dict[str, datetime | str]:
    """Return the latest complete session of each ticker's exchange, or why it is unknown."""
    latest: dict[str, datetime | str] = {}
    for symbol in symbols:
        try:
            latest[symbol] = latest_complete_session(symbol, clock)
        except DataError as error:
            latest[symbol] = error.reason
    return latest


def _stale(
    active: list[str], freshest: list[NewestForecast], latest: dict[str, datetime | str]
) -> list[Ticker]:
    """Return the stale active tickers, those without a forecast first, then the oldest."""
    newest: dict[str, datetime | None] = {}
    for known in freshest:
        if known.interval == "1d" and not known.challenger:
            older = newest.get(known.symbol)
            newest[known.symbol] = max(filter(None, (older, known.as_of)), default=None)
    stale = [
        ticker
        for symbol in active
        if (ticker := _age(symbol, symbol in newest, newest.get(symbol), latest[symbol]))
    ]
    return sorted(stale, key=lambda ticker: -math.inf if ticker.behind is None else -ticker.behind)


def _age(
    symbol: str, forecast: bool, as_of: datetime | None, latest: datetime | str
) -> Ticker | None:
    """Return the ticker with the age of its forecast, or None if that is fresh."""
    if not forecast:
        return Ticker(symbol, None, None, "no forecast")
    if as_of is None:
        return Ticker(symbol, None, None, "a forecast of an older version, which kept no as_of")
    if isinstance(latest, str):
        return Ticker(symbol, as_of, None, latest)
    try:
        behind = sessions_between(symbol, as_of, latest)
    except DataError as error:
        return Ticker(symbol, as_of, None, error.reason)
    if not behind:
        return None
    sessions = "1 session" if behind == 1 else f"{behind} sessions"
    return Ticker(symbol, as_of, behind, f"{sessions} behind {latest:%Y-%m-%d}")


def _calendars_that_end(active: list[str], until: datetime) -> list[str]:
    """Return a sentence on each calendar without holidays up to `until`, with its tickers."""
    found: dict[str, list[str]] = {}
    for symbol in active:
        try:
            gap = calendar_gap(symbol, until)
        except DataError:  # unknown exchange, for which the ticker is already stale
            continue
        if gap is not None:
            found.setdefault(gap, []).append(symbol)
    return [
        f"{gap}; of {', '.join(symbols[:5])}{' and more' if len(symbols) > 5 else ''}. "
        "A newer exchange-calendars may know them"
        for gap, symbols in found.items()
    ]


def _bad_tickers(stale: list[Ticker], active: int, max_age: int) -> list[str]:
    bad = [ticker for ticker in stale if ticker.behind is None or ticker.behind > max_age]
    if not bad:
        return []
    examples = ", ".join(ticker.symbol for ticker in bad[:5])
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    return [f"{len(bad)} of {active} active tickers are stale: {examples}{more}"]
