"""How the nightly job is doing, from what it left in the database: its runs, what is stale.

Reads only: no database is made, no schema is upgraded, no lock is taken.
"""

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tradingbot.errors import ConfigError, DatabaseError, DataError
from tradingbot.persistence.runs import Run, bad_runs, last_runs
from tradingbot.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


WAY_OUT = "`kronosbot run` fills it; or set DATABASE_URL, or say --database-url, if it is another"


@dataclass(frozen=True)
class Freshest:
    """The newest forecast of one ticker by one model."""

    model: str
    interval: str
    symbol: str
    as_of: datetime | None  # None: not known, as in rows of the first published layout


@dataclass(frozen=True)
class Model:
    """What one model has forecast."""

    name: str
    interval: str
    as_of: datetime | None  # the freshest
    tickers: int
    fresh: int  # of them, as of the latest complete session of their exchange
    record: str | None = None  # how good it was, in a sentence; None in an older schema


@dataclass(frozen=True)
class Ticker:
    """An active ticker that has no daily forecast of the latest complete session."""

    symbol: str
    as_of: datetime | None
    behind: int | None  # complete sessions since `as_of`; None: that cannot be told
    why: str  # in words


@dataclass(frozen=True)
class Status:
    """`problems`, a sentence each, are what makes the exit code 1."""

    now: datetime  # naive UTC, as all times
    database: str  # without a password
    source: str | None = None
    clock: datetime | None = None  # the source's: what sessions are complete
    runs: list[Run] = field(default_factory=list)  # newest first
    models: list[Model] = field(default_factory=list)
    active: int = 0  # tickers
    stale: list[Ticker] = field(default_factory=list)  # of the active ones
    inactive: list[str] = field(default_factory=list)  # have a forecast, but are active no more
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 1 if self.problems else 0


def read_status(url: str, settings: Settings, *, source: str | None, max_age: int) -> Status:
    """The state of the database `url`; ConfigError, DatabaseError.

    Tickers are judged by the calendar up to the clock of `source`, by default the last run's.
    `max_age` is how many sessions a forecast may be behind before it is a problem.
    """
    from tradingbot.persistence.locks import open_lock
    from tradingbot.persistence.url import database_exists, redact
    from tradingbot.runtime.clock import utcnow

    status = Status(now=utcnow(), database=redact(url))
    if not database_exists(url):
        return replace(status, problems=[f"there is no {status.database} yet: {WAY_OUT}"])
    with reading(url) as session:
        if lacking := _lacking(session, status.database):
            return replace(status, problems=[lacking])
        runs = last_runs(session, status.now, lambda shard: open_lock(url, f"run {shard}"))
        freshest = _freshest(session)
        last_source = next((run.source for run in runs if run.source), None)
        source = source or last_source or settings.data_source
        settings = replace(settings, data_source=source)
        clock, active = _clock_and_tickers(settings, lambda: nullcontext(session))
        records = _records(session, freshest)
    latest = _latest_sessions({*active, *(known.symbol for known in freshest)}, clock)
    stale = _stale(active, freshest, latest)
    return replace(
        status,
        source=source,
        clock=clock,
        runs=runs,
        models=_models(freshest, latest, records),
        active=len(active),
        stale=stale,
        inactive=sorted({known.symbol for known in freshest} - set(active)),
        problems=[*bad_runs(runs), *_bad_tickers(stale, len(active), max_age)],
    )


# what is read -----------------------------------------------------------------------------


@contextmanager
def reading(url: str) -> "Iterator[Session]":
    """A session that cannot write."""
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.orm import Session

    from tradingbot.persistence.failures import unreachable

    engine = _reading_engine(url)
    try:
        with Session(engine) as session:
            yield session
    except DBAPIError as error:
        raise unreachable(engine.url, error) from error
    finally:
        engine.dispose()


def _reading_engine(url: str) -> "Engine":
    from sqlalchemy import create_engine

    from tradingbot.persistence.engine import get_engine

    engine = get_engine(url)
    path = engine.url.database or ""
    if engine.dialect.name != "sqlite":
        return engine.execution_options(postgresql_readonly=True)
    if path in ("", ":memory:") or path.startswith("file:"):
        return engine

    def connect() -> sqlite3.Connection:
        # not as get_engine does, which makes the file and changes how it is journaled
        connection = sqlite3.connect(f"{Path(path).as_uri()}?mode=rw", uri=True)
        connection.execute("PRAGMA query_only = ON")
        return connection

    return create_engine(engine.url, creator=connect)


def _lacking(session: "Session", database: str) -> str | None:
    """Why there is nothing to read, in words."""
    from sqlalchemy import inspect, text

    from tradingbot.persistence.models import (
        SCHEMA_VERSION,
        KronosForecast,
        KronosPrediction,
        RunLog,
    )

    there = set(inspect(session.connection()).get_table_names())
    if {RunLog.__tablename__, KronosForecast.__tablename__} <= there:
        found = session.scalar(text("SELECT version_num FROM alembic_version"))
        if found is not None and found > SCHEMA_VERSION:
            raise DatabaseError(
                f"{database} has schema {found}, newer than {SCHEMA_VERSION}, which this program "
                "knows: upgrade the program"
            )
        return None
    if KronosPrediction.__tablename__ in there:
        return f"{database} is as an older version left it: the next `kronosbot run` upgrades it"
    return f"{database} is empty: {WAY_OUT}"


def _freshest(session: "Session") -> list[Freshest]:
    """The newest `as_of` of every model, interval and ticker, from both tables."""
    from sqlalchemy import func, select

    from tradingbot.persistence.models import KronosForecast, KronosPrediction

    newest: dict[tuple[str, str, str], datetime | None] = {}
    for table in (KronosForecast, KronosPrediction):
        key = table.model_name, table.interval, table.symbol
        for *found, as_of in session.execute(select(*key, func.max(table.as_of)).group_by(*key)):
            model, interval, symbol = found
            known = newest.get((model, interval, symbol)), as_of
            newest[model, interval, symbol] = max(filter(None, known), default=None)
    return [Freshest(*key, as_of) for key, as_of in sorted(newest.items())]


def _records(session: "Session", freshest: list[Freshest]) -> dict[tuple[str, str], str]:
    """The record of each model and interval, of the revision that has forecast last."""
    from sqlalchemy import inspect

    from tradingbot.evaluation.track_record import newest_revision, track_record
    from tradingbot.persistence.models import KronosScore

    if not inspect(session.connection()).has_table(KronosScore.__tablename__):
        return {}
    records = {}
    for model, interval in {(known.model, known.interval) for known in freshest}:
        revision = newest_revision(session, model, interval)
        records[model, interval] = track_record(
            session, None, model=model, revision=revision, interval=interval
        )
    return records


def _clock_and_tickers(
    settings: Settings, sessions: "Callable[[], Any]"
) -> tuple[datetime, list[str]]:
    """What time it is for the source, and the active tickers."""
    from tradingbot.bots.universe import active_tickers
    from tradingbot.data.service import DataService

    try:
        data = DataService(settings.data_source, horizon=settings.horizon)
        return data.now(), active_tickers(settings, data, sessions)
    except ConfigError as error:
        raise ConfigError(f"{error}; --source says where candles come from") from error


# what is made of it -----------------------------------------------------------------------


def _latest_sessions(symbols: Iterable[str], clock: datetime) -> dict[str, datetime | str]:
    """The latest complete session of each ticker's exchange, or why there is none to be had."""
    from tradingbot.markets.calendars import latest_complete_session

    latest: dict[str, datetime | str] = {}
    for symbol in symbols:
        try:
            latest[symbol] = latest_complete_session(symbol, clock)
        except DataError as error:
            latest[symbol] = str(error).removeprefix(f"{symbol}: ")
    return latest


def _stale(
    active: list[str], freshest: list[Freshest], latest: dict[str, datetime | str]
) -> list[Ticker]:
    """The active tickers that are not fresh, those without a forecast first, then by age."""
    newest: dict[str, datetime | None] = {}
    for known in freshest:
        if known.interval == "1d":
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
    """None for a ticker whose forecast is fresh."""
    from tradingbot.markets.calendars import sessions_between

    if not forecast:
        return Ticker(symbol, None, None, "no forecast")
    if as_of is None:
        return Ticker(symbol, None, None, "a forecast of an older version, which kept no as_of")
    if isinstance(latest, str):
        return Ticker(symbol, as_of, None, latest)
    try:
        behind = sessions_between(symbol, as_of, latest)
    except DataError as error:
        return Ticker(symbol, as_of, None, str(error).removeprefix(f"{symbol}: "))
    if not behind:
        return None
    sessions = "1 session" if behind == 1 else f"{behind} sessions"
    return Ticker(symbol, as_of, behind, f"{sessions} behind {latest:%Y-%m-%d}")


def _models(
    freshest: list[Freshest],
    latest: dict[str, datetime | str],
    records: dict[tuple[str, str], str],
) -> list[Model]:
    """Those with the freshest forecasts first."""
    of_model: dict[tuple[str, str], list[Freshest]] = {}
    for known in freshest:
        of_model.setdefault((known.model, known.interval), []).append(known)
    models = [
        Model(
            name,
            interval,
            as_of=max((one.as_of for one in known if one.as_of), default=None),
            tickers=len(known),
            fresh=sum(_is_fresh(one, latest[one.symbol]) for one in known),
            record=records.get((name, interval)),
        )
        for (name, interval), known in of_model.items()
    ]
    return sorted(models, key=lambda model: model.as_of or datetime.min, reverse=True)


def _is_fresh(known: Freshest, latest: datetime | str) -> bool:
    return known.as_of is not None and not isinstance(latest, str) and known.as_of >= latest


def _bad_tickers(stale: list[Ticker], active: int, max_age: int) -> list[str]:
    bad = [ticker for ticker in stale if ticker.behind is None or ticker.behind > max_age]
    if not bad:
        return []
    some = ", ".join(ticker.symbol for ticker in bad[:5])
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    return [f"{len(bad)} of {active} active tickers are stale: {some}{more}"]
