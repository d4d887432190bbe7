"""The ledger joined with what came: every forecast whose target session is complete.

Prices are shares of the close that the forecast was made from: the predicted one ÷ the ledger's
`last_close`, against the history's own close(target) ÷ close(as_of). So splits and restatements
cancel, wherever they lie, and tickers can be put together.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from tradingbot.errors import DataError
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.markets.calendars import latest_complete_session
from tradingbot.persistence.models import KronosForecast
from tradingbot.runtime.clock import utcnow
from tradingbot.typing import Floats

if TYPE_CHECKING:
    from tradingbot.data.service import DataService


LEVELS = QUANTILE_LEVELS

Closes = Callable[[str, str, datetime], pd.Series]  # symbol, interval, since -> closes by time

BEFORE = timedelta(days=400)  # of candles before the first forecast: the random walk's past


@dataclass(frozen=True)
class ForecastOutcomes:
    """Forecasts of one ticker by one revision of one model, with what came.

    n forecasts, sorted by `as_of`, then `step`. Prices are shares of the close of `as_of`.
    """

    symbol: str
    model_name: str
    model_revision: str  # "" where it is not known
    interval: str
    as_of: NDArray[np.datetime64]  # (n,) whole seconds, naive UTC
    target: NDArray[np.datetime64]  # (n,)
    step: NDArray[np.int64]  # (n,) bars ahead
    mean: Floats  # (n,) the forecast's close
    quantiles: Floats  # (n, 19) at LEVELS, as they were given: calibrated where they were
    raw_quantiles: Floats  # (n, 19) the model's own
    prob_up: Floats  # (n,)
    actual: Floats  # (n,)
    past: pd.Series  # all known closes of the ticker; a yardstick may look at those up to as_of

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class Unresolved:
    """`n` forecasts of one ticker by one model that cannot be compared with anything, and why."""

    symbol: str
    model_name: str
    reason: str  # NOT_YET, or words that go on from "AAPL: "
    n: int


NOT_YET = "the target session is not complete yet"
NO_CANDLES = "its candles cannot be had"  # how the reason begins; this may pass


def resolve_outcomes(
    session: Session,
    closes: Closes,
    *,
    model: str | None = None,
    symbols: Collection[str] | None = None,
    since: datetime | None = None,
) -> Iterator[ForecastOutcomes | Unresolved]:
    """What the ledger holds of one ticker after the other, in order of their names.

    `closes(symbol, interval, since)` are the known closes of a ticker, indexed by naive times; it
    may raise DataError. `model` is a model's name, `since` the oldest `as_of` that counts. Only
    one ticker's forecasts are in memory at a time. The revisions of a model come apart.
    """
    table = KronosForecast.__table__.c
    wanted = [
        *([] if model is None else [table.model_name == model]),
        *([] if symbols is None else [table.symbol.in_(list(symbols))]),
        *([] if since is None else [table.as_of >= since]),
    ]
    key = (table.symbol, table.interval, table.model_name)
    groups = session.execute(
        select(*key, func.min(table.as_of), func.count()).where(*wanted).group_by(*key)
    ).all()
    first_of: dict[tuple[str, str], datetime] = {}
    for symbol, interval, _, first, _ in groups:
        first_of[symbol, interval] = min(first, first_of.get((symbol, interval), first))
    known: tuple[tuple[str, str], pd.Series | DataError] | None = None
    for symbol, interval, name, _, count in sorted(groups):
        ticker = (symbol, interval)
        if known is None or known[0] != ticker:
            known = ticker, _closes(closes, symbol, interval, first_of[ticker] - BEFORE)
        if isinstance(past := known[1], DataError):
            reason = str(past).removeprefix(f"{symbol}: ")
            yield Unresolved(symbol, name, f"{NO_CANDLES}: {reason}", count)
            continue
        of_group = [column == value for column, value in zip(key, (*ticker, name), strict=True)]
        rows = _read(session, [*wanted, *of_group])
        yield from _joined(symbol, name, interval, rows, past)


def closes_of(data: "DataService") -> Closes:
    """The closes that `data` knows; its clock should be the wall's, `DataService(now=utcnow())`.

    Of a ticker that the source no longer has (delisted), what the database has kept counts.
    """
    return lambda symbol, interval, since: data.closes(symbol, interval=interval, since=since)


def _closes(closes: Closes, symbol: str, interval: str, since: datetime) -> pd.Series | DataError:
    try:
        found = closes(symbol, interval, since)
    except DataError as error:
        return error
    if found.empty:
        return DataError(f"none from {since:%Y-%m-%d} on")
    return found.sort_index()


@dataclass(frozen=True)
class _Rows:
    """Columns of the ledger; prices as shares of last_close."""

    revision: NDArray[Any]
    as_of: NDArray[np.datetime64]
    target: NDArray[np.datetime64]
    step: NDArray[np.int64]
    mean: Floats
    prob_up: Floats
    raw_quantiles: Floats
    quantiles: Floats


_CHUNK = 5000  # rows whose JSON is in memory as text


def _read(session: Session, wanted: Sequence[Any]) -> _Rows:
    table = KronosForecast.__table__.c
    query = (
        select(
            func.coalesce(table.model_revision, ""),
            table.as_of,
            table.target_date,
            table.horizon_days,
            table.last_close,
            table.predicted_close,
            table.prob_up,
            cast(table.close_quantiles, Text),  # as text: many are decoded at once
            cast(table.calibrated_quantiles, Text),
        )
        .where(*wanted)
        .order_by(table.as_of, table.target_date)
        .execution_options(yield_per=_CHUNK)
    )
    chunks = [_columns(chunk) for chunk in session.execute(query).partitions()]
    return _Rows(*(np.concatenate(columns) for columns in zip(*chunks, strict=True)))


def _columns(rows: Sequence[Any]) -> tuple[NDArray[Any], ...]:
    revision, as_of, target, step, last_close, close, prob_up, raw, calibrated = zip(
        *rows, strict=True
    )
    scale = np.array(last_close, dtype="float64")
    raw_quantiles = _decoded(raw) / scale[:, None]
    quantiles = raw_quantiles
    if some := [i for i, text in enumerate(calibrated) if text is not None]:
        quantiles = raw_quantiles.copy()
        quantiles[some] = _decoded([calibrated[i] for i in some]) / scale[some, None]
    return (
        np.array(revision, dtype=object),
        np.array(as_of, dtype="datetime64[s]"),
        np.array(target, dtype="datetime64[s]"),
        np.array(step, dtype="int64"),
        np.array(close, dtype="float64") / scale,
        np.array(prob_up, dtype="float64"),
        raw_quantiles,
        quantiles,
    )


_KEYS = tuple(f"{level:g}" for level in LEVELS)
_quantiles = itemgetter(*_KEYS)


def _decoded(texts: Sequence[str]) -> Floats:
    """(rows, 19) from JSON objects; NaN for a level that one lacks."""
    objects = orjson.loads(f"[{','.join(texts)}]")
    try:
        values = [_quantiles(one) for one in objects]
    except KeyError:
        values = [tuple(one.get(key, np.nan) for key in _KEYS) for one in objects]
    return np.array(values, dtype="float64")


def _joined(
    symbol: str, name: str, interval: str, rows: _Rows, past: pd.Series
) -> Iterator[ForecastOutcomes | Unresolved]:
    times = past.index.to_numpy().astype("datetime64[s]")
    prices = past.to_numpy(dtype="float64")
    start, has_start = _positions(times, rows.as_of)
    end, has_end = _positions(times, rows.target)
    newest = times[-1]
    complete = _complete_until(symbol, interval, newest)
    ended = f"its candles end on {pd.Timestamp(newest):%Y-%m-%d}, before the target"
    reasons: list[tuple[NDArray[np.bool_], str]] = [  # the first that is true counts
        (rows.target > complete, NOT_YET),
        (~has_start, "the bar that it was made from is not in the history"),
        (rows.target > newest, ended),
        (~has_end, "the target session has no bar"),
        (np.isnan(rows.raw_quantiles.sum(axis=1)), "it was stored without all 19 quantiles"),
    ]
    scored = ~np.any([wrong for wrong, _ in reasons], axis=0)
    for revision in dict.fromkeys(rows.revision[scored]):
        these = scored & (rows.revision == revision)
        yield ForecastOutcomes(
            symbol=symbol,
            model_name=name,
            model_revision=revision,
            interval=interval,
            as_of=rows.as_of[these],
            target=rows.target[these],
            step=rows.step[these],
            mean=rows.mean[these],
            quantiles=rows.quantiles[these],
            raw_quantiles=rows.raw_quantiles[these],
            prob_up=rows.prob_up[these],
            actual=prices[end[these]] / prices[start[these]],
            past=past,
        )
    why = np.select([wrong for wrong, _ in reasons], range(len(reasons)), default=-1)
    for index, count in sorted(Counter(why[~scored].tolist()).items()):
        yield Unresolved(symbol, name, reasons[index][1], count)


def _positions(
    times: NDArray[np.datetime64], wanted: NDArray[np.datetime64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where in the ascending `times` each wanted one lies, and whether it is there at all."""
    position = np.minimum(np.searchsorted(times, wanted), len(times) - 1)
    return position, times[position] == wanted


def _complete_until(symbol: str, interval: str, newest: np.datetime64) -> np.datetime64:
    """Targets after this cannot have an outcome yet."""
    if interval != "1d":
        return newest
    try:
        latest = np.datetime64(latest_complete_session(symbol, utcnow()), "s")
    except DataError:  # an exchange that is not known: then only the candles can tell
        return newest
    return max(latest, newest)
