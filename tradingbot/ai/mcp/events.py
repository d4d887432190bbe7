"""The tool `path_events`: probabilities of events, from the simulated paths of one ticker."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from tradingbot.ai.mcp.documents import EventArguments, EventsDocument, EventState
from tradingbot.ai.mcp.sources import Sources, ToolError, ticker_of
from tradingbot.ai.mcp.text import events_text
from tradingbot.ai.sanitising import name_text
from tradingbot.data.adjusted_close import adjusted_close
from tradingbot.data.service import DataService
from tradingbot.errors import KronosError
from tradingbot.forecast import Forecast
from tradingbot.formatting import quoted
from tradingbot.markets.calendars import latest_complete_session
from tradingbot.path_events.grammar import Event, parse_events
from tradingbot.persistence.event_models import KronosEvent
from tradingbot.persistence.events import event_scores_of, newest_chances
from tradingbot.persistence.forecast_queries import newest_model
from tradingbot.persistence.schema import table_names


def path_events(sources: Sources, arguments: EventArguments) -> tuple[str, EventsDocument]:
    """Return the probabilities stored with the newest forecast, or else those of the Space.

    Raises:
        KronosError: There are none.
    """
    ticker = ticker_of(arguments.symbol)
    try:
        events = parse_events(arguments.events)
    except ValueError as error:
        raise ToolError(quoted(error, 700)) from error
    data = sources.data()
    latest = latest_complete_session(ticker, data.now())
    close = adjusted_close(data, ticker)(latest)
    document = _stored(sources, ticker, events, arguments.horizon, latest, close)
    if document is None:
        document = _computed(sources, data, ticker, events, arguments.horizon)
    return events_text(document), document


def _computed(
    sources: Sources, data: DataService, ticker: str, events: Sequence[Event], days: int
) -> EventsDocument:
    texts = [event.text for event in events]
    with sources.client(data) as client:
        [(_, found)] = client.forecast_many([ticker], days, events=texts)
    if isinstance(found, KronosError):
        raise found
    records = _records(sources, found)
    return EventsDocument(
        symbol=name_text(ticker),
        model=name_text(found.model_name),
        as_of=found.as_of,
        last_close=found.last_close,
        source="space",
        days=[bar.target_date for bar in found.bars],
        events=[
            EventState(
                event=chance.event,
                probability=list(chance.probability),
                low=list(chance.low),
                high=list(chance.high),
                mean=None if chance.mean is None else list(chance.mean),
                record=records.get(chance.event),
            )
            for chance in found.events
        ],
        warnings=[quoted(warning, 300) for warning in found.warnings[:20]],
    )


def _stored(
    sources: Sources,
    ticker: str,
    events: Sequence[Event],
    days: int,
    latest: datetime,
    close: float | None,
) -> EventsDocument | None:
    """Return None if an event is not stored for each of the days after `latest`.

    `close` is the close of `latest` in today's candles, or None if unknown.
    """
    try:
        with sources.session() as session:
            if KronosEvent.__tablename__ not in table_names(session.connection()):
                return None
            model = newest_model(session, [ticker], interval="1d")
            if model is None:
                return None
            chances = list(
                newest_chances(
                    session, model=model, interval="1d", closes={ticker: close}, as_of=latest
                )
            )
            wanted = [_steps(chances, event.text, days) for event in events]
            if not all(wanted):
                return None
            first = wanted[0][0]
            records = _records_of(session, model, first.model_revision)
    except KronosError:  # no readable database: ask the Space instead
        return None
    return EventsDocument(
        symbol=name_text(ticker),
        model=name_text(model),
        as_of=latest,
        last_close=close or first.last_close,
        source="stored",
        days=[row.target_date for row in wanted[0]],
        events=[
            EventState(
                event=rows[0].event,
                probability=[row.probability for row in rows],
                low=[row.low for row in rows],
                high=[row.high for row in rows],
                mean=None if rows[0].mean is None else [row.mean for row in rows],
                record=records.get(rows[0].event),
            )
            for rows in wanted
        ],
        warnings=[],
    )


def _steps(chances: Iterable[Any], event: str, days: int) -> list[Any]:
    """Return the newest rows of this event, one per day; [] if a day is missing."""
    rows = {row.horizon_days: row for row in chances if row.event == event}
    steps = range(1, days + 1)
    return [rows[step] for step in steps] if rows.keys() >= set(steps) else []


def _records(sources: Sources, forecast: Forecast) -> dict[str, str]:
    try:
        with sources.session() as session:
            return _records_of(session, forecast.model_name, forecast.model_revision)
    except KronosError:
        return {}


def _records_of(session: Session, model: str, revision: str | None) -> dict[str, str]:
    """Describe forecast probability and actual frequency of each scored event."""
    if KronosEvent.__tablename__ not in table_names(session.connection()):
        return {}
    scores = event_scores_of(session, model=model, revision=revision or "", interval="1d")
    return {
        score.event: f"forecast with {score.mean_probability:.0%} on average in {score.n} cases, "
        f"happened in {score.frequency:.0%} of them"
        for score in scores
        if score.mean_probability is not None and score.frequency is not None
    }
