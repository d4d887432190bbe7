"""Read stored event probabilities, and read and write their scores in kronos_event_scores."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Row, delete, func, inspect, select

from tradingbot.forecast import Forecast, price_scale
from tradingbot.path_events.event_probabilities import EventChance
from tradingbot.path_events.grammar import parse_event
from tradingbot.persistence.columns import columns_of, primary_key_of
from tradingbot.persistence.event_models import KronosEvent, KronosEventScore
from tradingbot.persistence.ledger import LedgerPart, as_times, first_complete
from tradingbot.persistence.models import ALL_STEPS, ALL_SYMBOLS
from tradingbot.persistence.upsert import upsert
from tradingbot.typing import Floats, SessionFactory, Times

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_EVENTS = KronosEvent
_SAME = 1e-3  # a smaller relative difference of closes is a correction, not a split


@dataclass(frozen=True)
class StoredChances:
    """n stored probabilities of one event, sorted by `as_of`, then `target`."""

    event: str
    revision: NDArray[Any]  # (n,) text, "" if unknown
    as_of: Times  # (n,) whole seconds, naive UTC
    target: Times  # (n,)
    step: NDArray[np.int64]  # (n,) bars ahead
    last_close: Floats  # (n,)
    probability: Floats  # (n,)

    def __len__(self) -> int:
        return len(self.step)


def event_parts(
    session: "Session", *, model: str | None = None, symbols: Collection[str] | None = None
) -> list[LedgerPart]:
    """Return the parts of the event ledger by ticker, interval and model, in this order.

    Args:
        model: Only probabilities of this model.
        symbols: Only probabilities of these tickers.
    """
    key = (_EVENTS.symbol, _EVENTS.interval, _EVENTS.model_name)
    rows = session.execute(
        select(*key, func.min(_EVENTS.as_of), func.count())
        .where(*_matching(KronosEvent, model, symbols))
        .group_by(*key)
    )
    return [LedgerPart(*row) for row in sorted(rows.all())]


def read_events(sessions: SessionFactory, part: LedgerPart) -> list[StoredChances]:
    """Return the probabilities of this ticker and model, one item per event.

    If a forecast was stored several times, the probabilities are those of the same vintage that
    scoring uses (`ledger.first_complete`).
    """
    query = (
        select(
            _EVENTS.event,
            func.coalesce(_EVENTS.model_revision, "").label("revision"),
            _EVENTS.as_of,
            _EVENTS.target_date,
            _EVENTS.horizon_days,
            _EVENTS.last_close,
            _EVENTS.probability,
            _EVENTS.prediction_made_at,
        )
        .where(
            _EVENTS.symbol == part.symbol,
            _EVENTS.interval == part.interval,
            _EVENTS.model_name == part.model_name,
        )
        .order_by(_EVENTS.event, _EVENTS.as_of, _EVENTS.target_date, _EVENTS.prediction_made_at)
    )
    with sessions() as session:
        rows = session.execute(query).all()
    return [
        _as_arrays(first_complete(part, list(of_event)))
        for _, of_event in groupby(rows, key=itemgetter(0))
    ]


def _as_arrays(rows: Sequence[Row[Any]]) -> StoredChances:
    """Convert rows of one event, at least one."""
    events, revision, as_of, target, step, last_close, probability, _ = zip(*rows, strict=True)
    return StoredChances(
        events[0],
        np.array(revision, dtype=object),
        as_times(as_of),
        as_times(target),
        np.array(step, dtype="int64"),
        np.array(last_close, dtype="float64"),
        np.array(probability, dtype="float64"),
    )


def store_event_scores(session: "Session", rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert or overwrite scores, and return the number of rows.

    The keys of a row are the columns of KronosEventScore.
    """
    return upsert(session, KronosEventScore, rows)


def delete_event_scores_before(
    session: "Session",
    moment: datetime,
    *,
    model: str | None = None,
    symbols: Collection[str] | None = None,
    keep: Collection[str] = (),
) -> None:
    """Delete scores computed before `moment`.

    The arguments are those of `scores.delete_scores_before`.
    """
    outdated = delete(KronosEventScore).where(
        KronosEventScore.scored_at < moment, *_matching(KronosEventScore, model, symbols)
    )
    if keep:
        outdated = outdated.where(KronosEventScore.symbol.not_in([*keep, ALL_SYMBOLS]))
    session.execute(outdated)


def read_event_scores(
    session: "Session", *, model: str | None = None, symbols: Collection[str] | None = None
) -> Sequence[Row[Any]]:
    """Return all scores, or only those of one model or of some tickers, in the order of their key.

    With `symbols`, the scores over all tickers are included.
    """
    table = KronosEventScore
    names = None if symbols is None else [*symbols, ALL_SYMBOLS]
    query = select(*columns_of(table)).where(*_matching(table, model, names))
    return session.execute(query.order_by(*primary_key_of(table))).all()


def event_scores_of(
    session: "Session", *, model: str, revision: str, interval: str
) -> Sequence[KronosEventScore]:
    """Return one model's scores over all tickers and steps.

    The score of all events together is first.
    """
    return session.scalars(
        select(KronosEventScore)
        .where(
            KronosEventScore.model_name == model,
            KronosEventScore.model_revision == revision,
            KronosEventScore.interval == interval,
            KronosEventScore.symbol == ALL_SYMBOLS,
            KronosEventScore.step == ALL_STEPS,
        )
        .order_by(KronosEventScore.event)
    ).all()


def with_stored_events(session: "Session", forecasts: Iterable[Forecast]) -> list[Forecast]:
    """Return stored forecasts with their stored event probabilities.

    With an older schema the forecasts are returned unchanged. Event levels given as prices are not
    restated: after a split such events are left out.
    """
    stored = list(forecasts)
    if not stored or not inspect(session.connection()).has_table(KronosEvent.__tablename__):
        return stored
    rows = session.scalars(
        select(KronosEvent)
        .where(
            KronosEvent.symbol.in_({forecast.symbol for forecast in stored}),
            KronosEvent.as_of.in_({forecast.as_of for forecast in stored}),
        )
        .order_by(KronosEvent.event)
    )
    known: dict[tuple[Any, ...], dict[str, dict[datetime, KronosEvent]]] = {}
    closes = {(forecast.symbol, forecast.as_of): forecast.last_close for forecast in stored}
    for row in rows:
        if not _has_same_meaning(row, closes.get((row.symbol, row.as_of))):
            continue
        of_event = known.setdefault(_vintage(row), {}).setdefault(row.event, {})
        of_event[row.target_date] = row
    return [
        replace(forecast, events=_chances(forecast, known.get(_vintage(forecast), {})))
        for forecast in stored
    ]


def newest_chances(
    session: "Session",
    *,
    model: str,
    interval: str,
    closes: Mapping[str, float | None],
    as_of: datetime,
) -> Iterator[Row[Any]]:
    """Yield the event probabilities of forecasts of `as_of`, step by step.

    `closes` maps each ticker to the close of the `as_of` bar in today's candles, or to None if that
    close is unknown. Events that name a price are left out if there was a split since.
    """
    for row in session.execute(
        select(*columns_of(KronosEvent))
        .where(
            KronosEvent.model_name == model,
            KronosEvent.interval == interval,
            KronosEvent.symbol.in_(list(closes)),
            KronosEvent.as_of == as_of,
        )
        .order_by(
            KronosEvent.symbol,
            KronosEvent.event,
            KronosEvent.horizon_days,
            KronosEvent.prediction_made_at,
        )
    ):
        if _has_same_meaning(row, closes[row.symbol]):
            yield row


def _has_same_meaning(row: Any, close: float | None) -> bool:
    """Return whether the event still has its original meaning.

    An event that names a price loses it if the `as_of` bar's close is now `close` due to a split.
    """
    if abs(price_scale(row.last_close, close) - 1) < _SAME:
        return True
    try:
        return all(level.is_move for level in parse_event(row.event).levels)
    except ValueError:  # written by a later version
        return False


def _vintage(of: KronosEvent | Forecast) -> tuple[Any, ...]:
    return of.symbol, of.interval, of.model_name, of.as_of, of.bars_hash


def _chances(
    forecast: Forecast, by_event: Mapping[str, Mapping[datetime, KronosEvent]]
) -> tuple[EventChance, ...]:
    """Return the probabilities of each event that has one for every bar of the forecast."""
    found = []
    for event, by_target in by_event.items():
        rows = [by_target.get(bar.target_date) for bar in forecast.bars]
        known_rows = [row for row in rows if row is not None]
        if len(known_rows) == len(rows):
            means = [row.mean for row in known_rows if row.mean is not None]
            found.append(
                EventChance(
                    event,
                    tuple(row.probability for row in known_rows),
                    tuple(row.low for row in known_rows),
                    tuple(row.high for row in known_rows),
                    tuple(means) or None,
                )
            )
    return tuple(found)


def _matching(
    table: type[KronosEvent] | type[KronosEventScore],
    model: str | None,
    symbols: Collection[str] | None,
) -> list[ColumnElement[bool]]:
    return [
        *([] if model is None else [table.model_name == model]),
        *([] if symbols is None else [table.symbol.in_(list(symbols))]),
    ]
