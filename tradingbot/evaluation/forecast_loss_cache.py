"""Keep the matured forecasts up to date: read new forecasts from the ledger, reuse stored ones.

    for part in matured_parts(sessions, closes, keys, resume=True): ...

A forecast is *settled* when all targets of its `as_of` are more than a week before the newest bar.
Its candles then change only by a restatement. Settled forecasts are stored in `kronos_matured`.
All other forecasts are read in each run from the ledger, the table of stored forecasts. A
part of the ledger is all forecasts of one ticker by one model. A part is recomputed in full if

- the part is not stored, or was stored by another VERSION of this code;
- its oldest forecast has changed, or the ledger has got a new forecast that is older than the
  settled ones (`persistence.forecast_losses.forget_older`);
- its closes within LOOKBACK have changed by more than a common factor. A split changes all closes
  by a common factor, which does not matter.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

import numpy as np
import pandas as pd

from tradingbot.errors import DataError
from tradingbot.evaluation.close_outcomes import (
    BEFORE,
    Closes,
    Unresolved,
    UnresolvedReason,
    count_reasons,
    known_closes,
    resolve,
)
from tradingbot.evaluation.forecast_losses import (
    ByRevision,
    MaturedForecasts,
    added,
    by_quarter,
    by_revision,
)
from tradingbot.evaluation.stored_forecast_losses import Settled, closes_as_arrays
from tradingbot.persistence.engine import has_one_connection
from tradingbot.persistence.forecast_losses import (
    PartKey,
    StoredPart,
    read_matured,
    store_matured,
)
from tradingbot.persistence.ledger import LedgerPart, LedgerRows, read_part
from tradingbot.persistence.open_forecasts import count_forecasts, read_open
from tradingbot.runtime.concurrency import read_ahead
from tradingbot.typing import SessionFactory

VERSION = 1  # increment it when the computation of MaturedForecasts changes
SETTLED = timedelta(days=7)  # the candle cache also fetches the last seven days again
# Period of candles to load before the oldest unsettled forecast, about 480 bars. After 480 bars the
# EWMA walk no longer depends on its first return (0.94^480 is 1e-13). The job has already fetched
# candles of this period.
LOOKBACK = timedelta(days=700)
_BARS = 450  # if LOOKBACK contains fewer bars, all candles are loaded
_TICKERS = 50  # number of tickers in memory


@dataclass(frozen=True)
class MaturedPart:
    """The forecasts of one ticker by one model: matured by revision, and those without outcome."""

    part: LedgerPart
    by_revision: ByRevision
    unresolved: list[Unresolved]


def matured_parts(
    sessions: SessionFactory,
    closes: Closes,
    parts: Sequence[LedgerPart],
    *,
    model: str | None = None,
    resume: bool,
) -> Iterator[MaturedPart]:
    """Yield these parts of the ledger in the given order, and store the settled forecasts.

    Args:
        sessions: Sessions of the database. No transaction is open while a part is yielded.
        closes: As in `resolve_outcomes`.
        parts: From `ledger_keys`, for all models: a ticker's candles are loaded from the first
            forecast of any model on.
        model: Yield only the parts of this model.
        resume: Reuse stored forecasts. False recomputes everything.
    """
    by_ticker = groupby(parts, key=lambda part: (part.symbol, part.interval))
    tickers = [list(group) for _, group in by_ticker]
    if model is not None:
        tickers = [group for group in tickers if any(part.model_name == model for part in group)]
    many = _TICKERS if resume else 1
    batches = [tickers[start : start + many] for start in range(0, len(tickers), many)]
    if not resume:
        for batch in batches:
            yield from _matured(sessions, closes, batch, model=model, known={})
        return
    with sessions() as session:
        alone = has_one_connection(session)

    def read(batch: Sequence[list[LedgerPart]]) -> dict[LedgerPart, Settled]:
        return _stored(sessions, _parts(batch, model))

    read_batches = ((batch, read(batch)) for batch in batches)
    for batch, known in read_batches if alone else read_ahead(read, batches):
        yield from _matured(sessions, closes, batch, model=model, known=known)


def _matured(
    sessions: SessionFactory,
    closes: Closes,
    tickers: Sequence[list[LedgerPart]],
    *,
    model: str | None,
    known: Mapping[LedgerPart, Settled],
) -> Iterator[MaturedPart]:
    pasts: dict[LedgerPart, pd.Series | DataError] = {}
    settled: dict[LedgerPart, Settled] = {}
    for parts in tickers:
        wanted = _parts([parts], model)
        first = min(part.first_as_of for part in parts)
        past, of_ticker = _past(closes, wanted, known, first - BEFORE)
        pasts |= dict.fromkeys(wanted, past)
        settled |= {part: of_ticker.get(part) or Settled.nothing(part) for part in wanted}
    resumed = {part: before.until for part, before in settled.items() if before.stored}
    newest = read_open(sessions, resumed)
    new: dict[PartKey, StoredPart] = {}
    for part, before in settled.items():
        past = pasts[part]
        if isinstance(past, DataError):
            yield _without_candles(sessions, part, past)
            continue
        rows = newest.get(part) if before.stored else read_part(sessions, part)
        found = _Part(part, before, rows, past)
        if to_store := found.to_store():
            new[part.key] = to_store
        yield found.matured()
    replaced = [part.key for part, before in settled.items() if not before.stored]
    with sessions() as session:
        store_matured(session, new, replaced=new.keys() & replaced)


def _parts(tickers: Sequence[list[LedgerPart]], model: str | None) -> list[LedgerPart]:
    """Return the parts of this model, or of all models."""
    return [part for parts in tickers for part in parts if model in (None, part.model_name)]


def _stored(sessions: SessionFactory, parts: Sequence[LedgerPart]) -> dict[LedgerPart, Settled]:
    """Return the stored parts that have this version and the same oldest forecast."""
    with sessions() as session:
        stored = read_matured(session, [part.key for part in parts])
    found = {}
    for part in parts:
        stored_part = stored.get(part.key)
        valid_for = VERSION, part.first_as_of
        if stored_part and (stored_part.version, stored_part.first_as_of) == valid_for:
            try:
                found[part] = Settled.of(stored_part)
            except (ValueError, KeyError):  # a damaged part is recomputed
                continue
    return found


def _past(
    closes: Closes,
    parts: Sequence[LedgerPart],
    known: Mapping[LedgerPart, Settled],
    first: datetime,
) -> tuple[pd.Series | DataError, dict[LedgerPart, Settled]]:
    """Return the closes of one ticker, and its stored parts that these closes do not invalidate.

    Closes are read from `first` on only where the stored parts need it.
    """
    symbol, interval = parts[0].symbol, parts[0].interval
    settled = {part: known[part] for part in parts if part in known}
    if len(settled) == len(parts):
        until = min(stored.until for stored in settled.values())
        past = known_closes(closes, symbol, interval, max(first, until - LOOKBACK))
        if isinstance(past, DataError):
            return past, {}
        enough = first >= until - LOOKBACK or len(past.loc[:until]) >= _BARS
        if enough and all(stored.is_valid_for(past) for stored in settled.values()):
            return past, settled
    past = known_closes(closes, symbol, interval, first)
    if isinstance(past, DataError):
        return past, {}
    return past, {part: stored for part, stored in settled.items() if stored.is_valid_for(past)}


def _without_candles(sessions: SessionFactory, part: LedgerPart, error: DataError) -> MaturedPart:
    with sessions() as session:
        count = count_forecasts(session, part)
    reason = UnresolvedReason.NO_CANDLES
    unresolved = [Unresolved(part.symbol, part.model_name, reason, count, error.reason)]
    return MaturedPart(part, {}, unresolved)


class _Part:
    """One part of the ledger: its stored forecasts, and its rows that were not settled."""

    def __init__(
        self, part: LedgerPart, settled: Settled, rows: LedgerRows | None, past: pd.Series
    ) -> None:
        self._part = part
        self._settled = settled
        self._rows = rows
        self._past = past
        self._resolved = None if rows is None else resolve(part, rows, past)
        outcomes = self._resolved.outcomes if self._resolved else []
        self._new = {outcome.model_revision: MaturedForecasts.of(outcome) for outcome in outcomes}

    def matured(self) -> MaturedPart:
        counts = Counter[tuple[UnresolvedReason, str]]()
        counts.update({(reason, ""): n for reason, n in self._settled.left_out.items()})
        for group in self._resolved.unresolved() if self._resolved else ():
            counts[group.reason, group.detail] += group.n
        unresolved = [
            Unresolved(self._part.symbol, self._part.model_name, reason, n, detail)
            for (reason, detail), n in counts.items()
        ]
        before = self._settled.forecasts
        every = by_revision(before | added(before, by_quarter(self._new)))
        return MaturedPart(self._part, every, unresolved)

    def to_store(self) -> StoredPart | None:
        """Return the settled forecasts to store; None if all settled forecasts are stored."""
        if self._rows is None or self._resolved is None:
            return None
        limit = self._past.index[-1] - SETTLED
        late = self._rows.as_of[self._rows.target > limit.to_datetime64()]
        end = late.min() if len(late) else self._rows.as_of.max() + np.timedelta64(1, "s")
        until = max(self._settled.until, end.item())
        if self._settled.stored and until == self._settled.until:
            return None
        new = {
            revision: matured[matured.forecasts["as_of"] < end.astype("int64")]
            for revision, matured in self._new.items()
        }
        quarters = added(self._settled.forecasts, by_quarter(new))
        left_out = count_reasons(self._resolved.reason[self._resolved.as_of < end])
        times, closes = closes_as_arrays(self._past.loc[until - LOOKBACK : limit])
        return StoredPart(
            version=VERSION,
            first_as_of=self._part.first_as_of,
            until=until,
            count=sum(map(len, [*self._settled.forecasts.values(), *new.values()])),
            closes=np.stack([times.astype("float64"), closes]).tobytes(),
            left_out={
                reason.name: n for reason, n in (self._settled.left_out + Counter(left_out)).items()
            },
            forecasts={quarter: some.packed() for quarter, some in quarters.items()},
        )
