"""The read-only tools that an assistant may call."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time
from functools import partial
from typing import Any

from pydantic import BaseModel

from tradingbot.ai.forecast_answer import forecast_answer
from tradingbot.ai.forecast_document import ForecastDocument, NoForecast, forecast_document
from tradingbot.ai.forecast_text import forecast_text
from tradingbot.ai.mcp.documents import (
    EventArguments,
    EventsDocument,
    ForecastArguments,
    ModelState,
    NoArguments,
    RecordArguments,
    RunState,
    Score,
    StaleTicker,
    StatusDocument,
    StoredArguments,
    Tickers,
    TickerState,
    TrackRecord,
)
from tradingbot.ai.mcp.events import path_events
from tradingbot.ai.mcp.sources import Closes, Sources, ToolError, ticker_of
from tradingbot.ai.mcp.text import record_text, status_text, tickers_text
from tradingbot.ai.sanitising import name_text
from tradingbot.bots.universe import active_tickers
from tradingbot.data.adjusted_close import adjusted_close
from tradingbot.evaluation.track_record import (
    WINDOWS,
    describe_track_record,
    relative_mae,
    track_record,
)
from tradingbot.formatting import quoted
from tradingbot.markets.calendars import latest_complete_session
from tradingbot.path_events.grammar import GRAMMAR
from tradingbot.persistence.forecast_queries import newest_forecasts, newest_until
from tradingbot.persistence.ledger import newest_revision
from tradingbot.persistence.models import ALL_SYMBOLS
from tradingbot.persistence.scores import has_scores_table, scores_over_all_steps
from tradingbot.settings import Settings


@dataclass(frozen=True)
class Tool:
    """A tool with its schemas. `answer` returns text for the model, and the same as a document."""

    name: str
    title: str
    about: str
    arguments: type[BaseModel]
    document: type[BaseModel]
    answer: Callable[[Any], tuple[str, BaseModel]]
    # whether it asks the Space or a source of candles, in addition to the database
    asks_outside: bool = False
    # closes around the document, for clients that can show the fan chart
    closes: Callable[[Any], Closes] | None = None


class KronosTools:
    """The tools for one database, one source of candles and one Space."""

    def __init__(self, settings: Settings, url: str, *, source: str | None = None) -> None:
        self._sources = Sources(settings, url, source)

    def all(self) -> list[Tool]:
        """Return the tools in the order in which a client lists them."""
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
                closes=self._sources.closes,
            ),
            Tool(
                "stored_forecast",
                "Read a stored forecast",
                "Read the forecast of one ticker that the nightly job has stored: the newest one, "
                "or the forecast made on a day in the past. Computes nothing.",
                StoredArguments,
                ForecastDocument,
                self.stored_forecast,
                closes=self._sources.closes,
            ),
            Tool(
                "path_events",
                "Ask simulated paths",
                "Read the probability of events in the coming days: a price is touched, one level "
                "is reached before another (take-profit before stop-loss), the largest fall is "
                "deeper than a limit, the close is in a range. Reads those stored with the newest "
                f"forecast, else asks the Space. An event is one of: {GRAMMAR}.",
                EventArguments,
                EventsDocument,
                partial(path_events, self._sources),
                asks_outside=True,
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
                "List the tickers that are forecast every night, each with the newest bar of its "
                "newest stored forecast.",
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
            asked.symbol,
            asked.horizon,
            settings=self._sources.settings(),
            sessions=self._sources.session,
        )
        if isinstance(document, NoForecast):
            raise ToolError(text)
        return text, document

    def stored_forecast(self, asked: StoredArguments) -> tuple[str, BaseModel]:
        ticker = ticker_of(asked.symbol)
        data = self._sources.data()
        latest = latest_complete_session(ticker, data.now())
        until = latest if asked.as_of is None else datetime.combine(asked.as_of, time.max)
        with self._sources.session() as session:
            found = newest_until(
                session, ticker, min(until, latest), close_at=adjusted_close(data, ticker)
            )
        if found is None:
            by = "" if asked.as_of is None else f" as of {asked.as_of} or before"
            raise ToolError(
                f"No forecast of {ticker} is stored{by}. `tickers` lists those that are."
            )
        record = describe_track_record(found, self._sources.session)
        document = forecast_document(found, latest, "stored", record=record)
        return forecast_text(document), document

    def track_record(self, asked: RecordArguments) -> tuple[str, BaseModel]:
        ticker = None if asked.symbol is None else ticker_of(asked.symbol)
        with self._sources.session() as session:
            newest = max(
                (
                    known
                    for known in newest_forecasts(session)
                    if known.interval == "1d" and not known.challenger
                ),
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
        settings = self._sources.settings()
        newest: dict[str, datetime | None] = {}
        with self._sources.session() as session:
            for known in newest_forecasts(session):
                if known.interval == "1d" and not known.challenger:
                    dates = filter(None, (newest.get(known.symbol), known.as_of))
                    newest[known.symbol] = max(dates, default=None)
        active = set(active_tickers(settings, self._sources.data(), self._sources.session))
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
        found = self._sources.status()
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
            space=self._sources.space(),
        )
        return status_text(document), document
