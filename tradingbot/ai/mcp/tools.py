"""The tools that an assistant may call. All of them only read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, time
from typing import Any

from pydantic import BaseModel
from sqlalchemy.orm import Session

from tradingbot.ai.forecast_answer import as_ticker, forecast_answer
from tradingbot.ai.forecast_document import ForecastDocument, NoForecast, forecast_document
from tradingbot.ai.forecast_text import forecast_text
from tradingbot.ai.mcp.documents import (
    ForecastArguments,
    ModelState,
    NoArguments,
    RecordArguments,
    RunState,
    Score,
    SpaceState,
    StaleTicker,
    StatusDocument,
    StoredArguments,
    Tickers,
    TickerState,
    TrackRecord,
)
from tradingbot.ai.mcp.text import record_text, status_text, tickers_text
from tradingbot.ai.sanitising import MOST_NAME, name_text
from tradingbot.bots.universe import active_tickers
from tradingbot.client import KronosClient
from tradingbot.data.close_now import close_now
from tradingbot.data.service import DataService
from tradingbot.errors import DatabaseError, KronosError
from tradingbot.evaluation.track_record import (
    WINDOWS,
    describe_track_record,
    relative_mae,
    track_record,
)
from tradingbot.formatting import quoted
from tradingbot.jobs.status import WAY_OUT, read_status
from tradingbot.markets.calendars import latest_complete_session
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecast_queries import newest_forecasts, newest_until
from tradingbot.persistence.ledger import newest_revision
from tradingbot.persistence.models import ALL_SYMBOLS
from tradingbot.persistence.runs import last_source
from tradingbot.persistence.scores import has_scores_table, scores_over_all_steps
from tradingbot.persistence.url import database_exists, redact
from tradingbot.settings import Settings


class ToolError(KronosError):
    """A call has no answer; the text says why, and what to ask instead."""


@dataclass(frozen=True)
class Tool:
    """A tool by its schemas. `answer` gives words for the model, and the same as a document."""

    name: str
    title: str
    about: str
    arguments: type[BaseModel]
    document: type[BaseModel]
    answer: Callable[[Any], tuple[str, BaseModel]]
    asks_outside: bool = False  # the Space or a source of candles, besides the database
    is_drawn: bool = False  # as a fan, where the client can show it


class KronosTools:
    """What the tools read: one database, one source of candles, one Space."""

    def __init__(self, settings: Settings, url: str, *, source: str | None = None) -> None:
        self._given_source = source
        self._settings = settings
        self._url = url

    def all(self) -> list[Tool]:
        """The tools, in the order in which a client lists them."""
        return [
            Tool(
                "forecast",
                "Forecast a ticker",
                "Forecast the next daily prices of one ticker with Kronos, a model of price "
                "candles: for each trading day the expected close, the range that should hold four "
                "closes of five, and P(up), with the forecast's age, its track record and its "
                "limits. Takes the stored forecast where it is the newest, else asks the Space.",
                ForecastArguments,
                ForecastDocument,
                self.forecast,
                asks_outside=True,
                is_drawn=True,
            ),
            Tool(
                "stored_forecast",
                "Read a stored forecast",
                "Read the forecast of one ticker that the nightly job has stored: the newest one, "
                "or what was believed on a day in the past. Computes nothing.",
                StoredArguments,
                ForecastDocument,
                self.stored_forecast,
                is_drawn=True,
            ),
            Tool(
                "track_record",
                "Read the track record",
                "Read how good the model's past forecasts were, of one ticker or of all: skill "
                "over a random walk, how often the bands held, direction. Ask before you rely on a "
                "forecast.",
                RecordArguments,
                TrackRecord,
                self.track_record,
            ),
            Tool(
                "tickers",
                "List the tickers",
                "List the tickers that are forecast every night, and of which bar each one's "
                "newest stored forecast is.",
                NoArguments,
                Tickers,
                self.tickers,
            ),
            Tool(
                "status",
                "Read the job's status",
                "Read how the nightly job is doing: its last runs, stale tickers, problems, and "
                "whether the Space that computes forecasts can be asked now.",
                NoArguments,
                StatusDocument,
                self.status,
                asks_outside=True,
            ),
        ]

    def forecast(self, asked: ForecastArguments) -> tuple[str, BaseModel]:
        text, document = forecast_answer(
            asked.symbol, asked.horizon, settings=self.settings(), sessions=self.session
        )
        if isinstance(document, NoForecast):
            raise ToolError(text)
        return text, document

    def stored_forecast(self, asked: StoredArguments) -> tuple[str, BaseModel]:
        ticker = _ticker(asked.symbol)
        data = self._data()
        latest = latest_complete_session(ticker, data.now())
        until = latest if asked.as_of is None else datetime.combine(asked.as_of, time.max)
        with self.session() as session:
            found = newest_until(
                session, ticker, min(until, latest), close_at=close_now(data, ticker)
            )
        if found is None:
            by = "" if asked.as_of is None else f" as of {asked.as_of} or before"
            raise ToolError(
                f"No forecast of {ticker} is stored{by}. `tickers` lists those that are."
            )
        record = describe_track_record(found, self.session)
        document = forecast_document(found, latest, "stored", record=record)
        return forecast_text(document), document

    def track_record(self, asked: RecordArguments) -> tuple[str, BaseModel]:
        ticker = None if asked.symbol is None else _ticker(asked.symbol)
        with self.session() as session:
            newest = max(
                (known for known in newest_forecasts(session) if known.interval == "1d"),
                key=lambda known: known.as_of or datetime.min,
                default=None,
            )
            if newest is None or not has_scores_table(session):
                raise ToolError("There is no record yet: nothing is stored that could be scored.")
            revision = newest_revision(session, newest.model, "1d")
            summary = track_record(session, ticker, model=newest.model, revision=revision)
            rows = scores_over_all_steps(
                session,
                list({ticker or ALL_SYMBOLS, ALL_SYMBOLS}),
                model=newest.model,
                revision=revision or "",
                interval="1d",
                windows=WINDOWS,
            )
        rows = sorted(rows, key=lambda row: (row.symbol == ALL_SYMBOLS, row.last_sessions or 10**9))
        document = TrackRecord(
            model=name_text(newest.model),
            model_revision=None if revision is None else name_text(revision),
            interval="1d",
            summary=quoted(summary, 300),
            scored_at=max((row.scored_at for row in rows), default=None),
            scores=[
                Score.model_validate(row).model_copy(update={"relative_mae": relative_mae(row)})
                for row in rows
            ],
        )
        return record_text(document), document

    def tickers(self, _asked: NoArguments) -> tuple[str, BaseModel]:
        settings = self.settings()
        newest: dict[str, datetime | None] = {}
        with self.session() as session:
            for known in newest_forecasts(session):
                if known.interval == "1d":
                    dates = filter(None, (newest.get(known.symbol), known.as_of))
                    newest[known.symbol] = max(dates, default=None)
        active = set(active_tickers(settings, self._data(), self.session))
        document = Tickers(
            tickers=[
                TickerState(
                    symbol=name_text(symbol), active=symbol in active, as_of=newest.get(symbol)
                )
                for symbol in sorted(active | newest.keys())
            ]
        )
        return tickers_text(document), document

    def status(self, _asked: NoArguments) -> tuple[str, BaseModel]:
        found = read_status(self._url, self._settings, source=self._given_source, max_age=1)
        document = StatusDocument(
            ok=not found.problems,
            problems=found.problems,
            notes=found.notes,
            now=found.now,
            source=found.source,
            clock=found.clock,
            active=found.active,
            stale=[StaleTicker.model_validate(ticker) for ticker in found.stale],
            models=[ModelState.model_validate(model) for model in found.models],
            runs=[RunState.model_validate(run) for run in found.runs],
            space=self._space(),
        )
        return status_text(document), document

    # what they read ----------------------------------------------------------------------

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for reading. DatabaseError where there is no database; none is made."""
        if not database_exists(self._url):
            raise DatabaseError(f"there is no {redact(self._url)} yet: {WAY_OUT}")
        with get_db_session(self._url, create=False) as session:
            yield session

    def settings(self) -> Settings:
        """The settings, with the source of candles that was given, or else of the last run."""
        source = self._given_source
        if source is None:
            with suppress(DatabaseError), self.session() as session:
                source = last_source(session)
        return self._settings if source is None else replace(self._settings, data_source=source)

    def _data(self) -> DataService:
        settings = self.settings()
        return DataService(
            settings.data_source,
            horizon=settings.horizon,
            timeouts=settings.timeouts,
            max_jump=settings.max_jump,
        )

    def _space(self) -> SpaceState:
        try:
            with KronosClient(settings=self._settings) as client:
                return SpaceState(up=True, model=str(client.health()["model"]), message=None)
        except KronosError as error:
            return SpaceState(up=False, model=None, message=quoted(error.reason, 300))


def _ticker(symbol: str) -> str:
    ticker = as_ticker(symbol)
    if ticker is None:
        raise ToolError(
            f"symbol={quoted(symbol, MOST_NAME)!r} is not a ticker: ask again with the ticker as "
            "on Yahoo Finance, such as AAPL, 7203.T or BTC-USD."
        )
    return ticker
