"""Read the ledger `kronos_forecasts` as arrays, one ticker at a time."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter, eq
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Row, Select, Text, cast, func, null, select
from sqlalchemy.orm import Session

from tradingbot.errors import DataError
from tradingbot.markets.data_quality import bar_closes
from tradingbot.persistence.damage import EVERY_ROW
from tradingbot.persistence.models import KronosForecast
from tradingbot.persistence.quantile_arrays import decoded, where_known
from tradingbot.persistence.row_ranges import YEARS
from tradingbot.typing import Floats, SessionFactory, Times

_CHUNK = 5000  # rows whose JSON is decoded at once
_LEDGER = KronosForecast


Targets = tuple[datetime, datetime]  # target sessions after the first time and before the second


@dataclass(frozen=True)
class LedgerPart:
    """The forecasts of one ticker by one model."""

    symbol: str
    interval: str
    model_name: str
    first_as_of: datetime
    count: int

    @property
    def key(self) -> tuple[str, str, str]:
        """Return symbol, interval and model."""
        return self.symbol, self.interval, self.model_name


@dataclass(frozen=True)
class LedgerRows:
    """n forecasts, sorted by `as_of`, then `target`. Prices are relative to `last_close`."""

    revision: NDArray[Any]  # (n,) text, "" if unknown
    as_of: Times  # (n,) whole seconds, naive UTC
    target: Times  # (n,)
    step: NDArray[np.int64]  # (n,) bars ahead
    mean: Floats  # (n,) predicted close
    prob_up: Floats  # (n,)
    raw_quantiles: Floats  # (n, 19) of the model; NaN for a level that is not stored
    calibrated_quantiles: Floats  # (n, 19) NaN if there are none
    combined_quantiles: Floats  # (n, 19) NaN if there are none
    quantiles: Floats  # (n, 19) served quantiles: combined, calibrated or raw


def ledger_parts(
    session: Session,
    *,
    model: str | None = None,
    symbols: Collection[str] | None = None,
    since: datetime | None = None,
    targets: Targets | None = None,
) -> list[LedgerPart]:
    """Return the parts of the ledger by ticker, interval and model, in this order."""
    key = (_LEDGER.symbol, _LEDGER.interval, _LEDGER.model_name)
    rows = session.execute(
        select(*key, func.min(_LEDGER.as_of), func.count())
        .where(*_matching(model, symbols), *_within(since, targets))
        .group_by(*key)
    )
    return [LedgerPart(*row) for row in sorted(rows.all())]


def read_part(
    sessions: SessionFactory,
    part: LedgerPart,
    *,
    since: datetime | None = None,
    targets: Targets | None = None,
    raw_only: bool = False,
) -> LedgerRows | None:
    """Return the forecasts of this part with an `as_of` from `since` on, or None.

    With `raw_only` only the model's quantiles are read, and used as the served quantiles too.
    JSON is decoded after the transaction, because a server may end an idle transaction.
    """
    query = select_rows(
        _LEDGER.symbol == part.symbol,
        _LEDGER.interval == part.interval,
        _LEDGER.model_name == part.model_name,
        *_within(since, targets),
        raw_only=raw_only,
    )
    with sessions() as session:
        rows = first_complete(part, session.execute(query).all())
    return rows_as_arrays(rows) if rows else None


def select_rows(*conditions: ColumnElement[bool], raw_only: bool = False) -> Select[Any]:
    """Return a query of the columns for `rows_as_arrays`; `raw_only` as in `read_part`.

    The rows are sorted by symbol, `as_of`, target, and time of making.
    """
    post_processed: dict[str, Any] = {
        "calibrated": null() if raw_only else _LEDGER.calibrated_quantiles,
        "combined": null() if raw_only else _LEDGER.combined_quantiles,
    }
    columns: list[Any] = [
        func.coalesce(_LEDGER.model_revision, ""),
        _LEDGER.as_of,
        _LEDGER.target_date,
        _LEDGER.horizon_days,
        _LEDGER.last_close,
        _LEDGER.predicted_close,
        _LEDGER.prob_up,
        cast(_LEDGER.close_quantiles, Text),  # as text, so that many can be decoded together
        *(cast(quantiles, Text).label(kind) for kind, quantiles in post_processed.items()),
        _LEDGER.symbol,
        _LEDGER.prediction_made_at,
    ]
    order = _LEDGER.symbol, _LEDGER.as_of, _LEDGER.target_date, _LEDGER.prediction_made_at
    return select(*columns).where(*conditions).order_by(*order)


def rows_as_arrays(rows: Sequence[Any]) -> LedgerRows:
    """Convert rows of `select_rows`, at least one."""
    chunks = [_columns(rows[start : start + _CHUNK]) for start in range(0, len(rows), _CHUNK)]
    return LedgerRows(*(np.concatenate(columns) for columns in zip(*chunks, strict=True)))


def first_complete(part: LedgerPart, rows: Sequence[Any]) -> Sequence[Any]:
    """Return one row per as_of and target: the first that was made from complete bars.

    If there is none, return the first row. `rows` are sorted by as_of, target, time of making.
    """
    if not _has_vintages(rows):
        return rows
    kept: list[Any] = []
    for row in rows:
        if kept and (kept[-1].as_of, kept[-1].target_date) == (row.as_of, row.target_date):
            closed = _closed(part, row.as_of)
            if kept[-1].prediction_made_at < closed <= row.prediction_made_at:
                kept[-1] = row
            continue
        kept.append(row)
    return kept


_forecast_of = attrgetter("as_of", "target_date")


def _has_vintages(rows: Sequence[Any]) -> bool:
    """Return whether there are several rows with the same as_of and target."""
    forecasts = [*map(_forecast_of, rows)]
    return any(map(eq, forecasts, forecasts[1:]))


def _closed(part: LedgerPart, as_of: datetime) -> datetime:
    """Return the time at which the bar of `as_of` was complete."""
    try:
        times = bar_closes(part.symbol, pd.DatetimeIndex([as_of]), part.interval)
    except DataError:  # unknown exchange
        return as_of
    closed: datetime = times[0].to_pydatetime()
    return closed


def has_forecasts(
    session: Session, *, model: str | None = None, symbols: Collection[str] | None = None
) -> bool:
    """Return whether the ledger has any forecast. The arguments are those of `ledger_parts`."""
    query = select(_LEDGER.symbol).where(*_matching(model, symbols)).limit(1)
    return session.scalar(query) is not None


def newest_vintage(session: Session) -> datetime | None:
    """Return the newest `as_of` of all forecasts, or None."""
    found: datetime | None = session.scalar(select(func.max(_LEDGER.as_of)))
    return found


def newest_of_tickers(
    session: Session, *, model: str, interval: str, since: datetime
) -> dict[str, datetime]:
    """Return the newest `as_of` of each ticker with a forecast by this model since `since`."""
    rows = session.execute(
        select(_LEDGER.symbol, func.max(_LEDGER.as_of).label("newest"))
        .where(_LEDGER.model_name == model, _LEDGER.interval == interval, *_made_since(since))
        .group_by(_LEDGER.symbol)
    )
    return {row.symbol: row.newest for row in rows}


def challengers_since(session: Session, since: datetime, *, interval: str) -> list[str]:
    """Return the names of the models that have forecast as challengers since `since`, sorted."""
    models = session.scalars(
        select(_LEDGER.model_name)
        .where(_LEDGER.challenger, _LEDGER.interval == interval, *_made_since(since))
        .distinct()
    )
    return sorted(models)


def is_challenger(session: Session, model: str, interval: str) -> bool:
    """Return whether the model's newest forecast was made as a challenger."""
    newest = _of_newest(session, model, interval, _LEDGER.challenger)
    return bool(newest and newest[0])


def newest_revision(session: Session, model: str, interval: str) -> str | None:
    """Return the revision of the model's newest forecast, scored or not; None if unknown."""
    newest = _of_newest(session, model, interval, _LEDGER.model_revision)
    return newest[0] if newest else None


def _of_newest(session: Session, model: str, interval: str, column: Any) -> Row[Any] | None:
    """Return the smallest value of a column among the forecasts that were made last.

    On Postgres the time of the last forecasts is looked up first, with its index. In a single
    query, the conditions on damaged rows would make the planner read the whole table.
    """
    of_model = _LEDGER.model_name == model, _LEDGER.interval == interval
    values = select(column).where(*of_model).limit(1)
    made_at = _LEDGER.prediction_made_at
    if session.connection().dialect.name != "postgresql":
        return session.execute(values.order_by(made_at.desc(), column)).first()
    times = select(func.max(made_at)).where(*of_model, made_at.between(*YEARS))
    times = times.execution_options(**{EVERY_ROW: True})
    newest = session.scalar(times)
    while newest is not None:
        if found := session.execute(values.where(made_at == newest).order_by(column)).first():
            return found
        newest = session.scalar(times.where(made_at < newest))  # all rows of that time are damaged
    return None


def _matching(model: str | None, symbols: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [
        *([] if model is None else [_LEDGER.model_name == model]),
        *([] if symbols is None else [_LEDGER.symbol.in_(list(symbols))]),
    ]


def _made_since(as_of: datetime) -> list[ColumnElement[bool]]:
    """Return conditions on the time of making that forecasts since `as_of` meet.

    An index can use them. No forecast is made before its bar.
    """
    day_before = as_of - timedelta(days=1)  # a session's date begins before its midnight in UTC
    return [_LEDGER.as_of >= as_of, _LEDGER.prediction_made_at >= day_before]


def _within(since: datetime | None, targets: Targets | None) -> list[ColumnElement[bool]]:
    conditions = [] if since is None else [_LEDGER.as_of >= since]
    if targets is not None:
        after, before = targets
        conditions += [_LEDGER.target_date > after, _LEDGER.target_date < before]
    return conditions


def _columns(rows: Sequence[Any]) -> tuple[NDArray[Any], ...]:
    """Return the columns of LedgerRows."""
    revision, as_of, target, step, last_close, close, prob_up, *texts, _, _ = zip(
        *rows, strict=True
    )
    raw, calibrated, combined = texts
    scale = np.array(last_close, dtype="float64")
    raw_quantiles = decoded(raw) / scale[:, None]
    calibrated_quantiles, combined_quantiles = (
        where_known(texts, scale) for texts in (calibrated, combined)
    )
    served = raw_quantiles
    for quantiles in (calibrated_quantiles, combined_quantiles):
        served = np.where(np.isnan(quantiles), served, quantiles)
    return (
        np.array(revision, dtype=object),
        as_times(as_of),
        as_times(target),
        np.array(step, dtype="int64"),
        np.array(close, dtype="float64") / scale,
        np.array(prob_up, dtype="float64"),
        raw_quantiles,
        calibrated_quantiles,
        combined_quantiles,
        served,
    )


def as_times(moments: Sequence[datetime]) -> Times:
    """Convert to datetime64. This is twenty times as fast as numpy's conversion."""
    times: Times = pd.DatetimeIndex(list(moments)).to_numpy().astype("datetime64[s]")
    return times
