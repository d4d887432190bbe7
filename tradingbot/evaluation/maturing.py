"""Bring the matured forecasts up to date: read from the ledger what is new, keep the rest.

    for part in matured_parts(sessions, closes, keys, resume=True): ...

A forecast is *settled* once all targets of its `as_of` lie a week behind the newest bar: then its
candles no longer change, except by a restatement. Settled forecasts are kept in `kronos_matured`;
the others are read again each time. A part (one ticker, one model) is computed again as a whole if

- it is not stored, or was by another VERSION of this code;
- its oldest forecast is another than before, or a forecast was stored that it should hold
  (`persistence.matured.forget_older`);
- its closes have changed within LOOKBACK, but for a common factor, which a split is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.errors import DataError
from tradingbot.evaluation.matured import ByRevision, MaturedForecasts, by_quarter, joined
from tradingbot.evaluation.outcomes import (
    BEFORE,
    Closes,
    Unresolved,
    UnresolvedReason,
    count_reasons,
    known_closes,
    resolve,
)
from tradingbot.persistence.ledger import LedgerPart, LedgerRows, read_part
from tradingbot.persistence.matured import (
    PartKey,
    StoredPart,
    read_matured,
    store_matured,
)
from tradingbot.persistence.open_forecasts import count_forecasts, read_open
from tradingbot.typing import Floats, SessionFactory

VERSION = 1  # raise it when what MaturedForecasts hold is computed in another way
SETTLED = timedelta(days=7)  # as many as the cache of candles fetches again
# Of candles before the oldest unsettled forecast. Within 480 bars the EWMA walk forgets how its
# past began (0.94^480 is 1e-13), and the job has fetched as many already.
LOOKBACK = timedelta(days=700)
_BARS = 450  # fewer in LOOKBACK: then all candles are asked for
_SAME = 1e-12  # closes that differ by a smaller share are the same
_TICKERS = 50  # in memory at a time


@dataclass(frozen=True)
class MaturedPart:
    """The forecasts of one ticker by one model: by revision those with an outcome, and the rest."""

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
    """Yield these parts of the ledger in their order, and store what is settled.

    Args:
        sessions: Of the database; no transaction is open while a part is handed over.
        closes: As for `resolve_outcomes`.
        parts: Of `ledger_keys`, of all models: where a ticker's candles begin depends on them.
        model: Only the parts of this model.
        resume: Whether to go on from what is stored. Otherwise all of it is computed again.
    """
    tickers = [list(some) for _, some in groupby(parts, key=lambda one: (one.symbol, one.interval))]
    if model is not None:
        tickers = [some for some in tickers if any(one.model_name == model for one in some)]
    many = _TICKERS if resume else 1
    for start in range(0, len(tickers), many):
        some = tickers[start : start + many]
        yield from _matured(sessions, closes, some, model=model, resume=resume)


@dataclass(frozen=True)
class _Settled:
    """What is stored of one part.

    Attributes:
        until: Forecasts with an earlier `as_of` are settled.
        times: Of the closes that they were compared with, in seconds.
        closes: These.
        left_out: Forecasts that will have no outcome.
        by_revision: Those with an outcome.
        stored: Whether it is; else the part has to be computed as a whole.
    """

    until: datetime
    times: NDArray[np.int64]
    closes: Floats
    left_out: Counter[UnresolvedReason]
    by_revision: ByRevision
    stored: bool = True

    @classmethod
    def nothing(cls, part: LedgerPart) -> "_Settled":
        empty: NDArray[Any] = np.empty(0)
        return cls(part.first_as_of, empty, empty, Counter(), {}, stored=False)

    @classmethod
    def of(cls, stored: StoredPart) -> "_Settled":
        """Raises ValueError, KeyError: it is damaged."""
        chunks: dict[str, list[MaturedForecasts]] = {}
        for (revision, _), data in stored.forecasts.items():
            chunks.setdefault(revision, []).append(MaturedForecasts.unpacked(data))
        if sum(len(one) for some in chunks.values() for one in some) != stored.count:
            raise ValueError(f"these are not {stored.count} forecasts")
        times, closes = np.frombuffer(stored.closes, "float64").reshape(2, -1)
        return cls(
            stored.until,
            times.astype("int64"),
            closes,
            Counter({UnresolvedReason[name]: n for name, n in stored.left_out.items()}),
            {revision: MaturedForecasts.joined(some) for revision, some in chunks.items()},
        )

    def still_holds(self, past: pd.Series) -> bool:
        """Whether `past` has the closes that it was compared with, but for a common factor."""
        if not len(self.closes):
            return not self.by_revision
        times, closes = _arrays(past)
        before = self.times >= times[0]
        now = (times >= self.times[0]) & (times <= self.times[-1])
        if not before.any() or not np.array_equal(self.times[before], times[now]):
            return False
        ratio = closes[now] / self.closes[before]
        return bool(np.ptp(ratio) <= _SAME * ratio[0])


def _matured(
    sessions: SessionFactory,
    closes: Closes,
    tickers: Sequence[list[LedgerPart]],
    *,
    model: str | None,
    resume: bool,
) -> Iterator[MaturedPart]:
    every = [one for parts in tickers for one in parts if model in (None, one.model_name)]
    known = _stored(sessions, every) if resume else {}
    pasts: dict[LedgerPart, pd.Series | DataError] = {}
    settled: dict[LedgerPart, _Settled] = {}
    for parts in tickers:
        wanted = [part for part in parts if model in (None, part.model_name)]
        first = min(part.first_as_of for part in parts)
        past, of_ticker = _past(closes, wanted, known, first - BEFORE)
        pasts |= dict.fromkeys(wanted, past)
        settled |= {part: of_ticker.get(part) or _Settled.nothing(part) for part in wanted}
    newest = read_open(sessions, {part: one.until for part, one in settled.items() if one.stored})
    new: dict[PartKey, StoredPart] = {}
    for part, one in settled.items():
        past = pasts[part]
        if isinstance(past, DataError):
            yield _without_candles(sessions, part, past)
            continue
        rows = newest.get(part) if one.stored else read_part(sessions, part)
        found = _Part(part, one, rows, past)
        if to_store := found.to_store():
            new[part.key] = to_store
        yield found.matured()
    replaced = [part.key for part, one in settled.items() if not one.stored]
    with sessions() as session:
        store_matured(session, new, replaced=new.keys() & replaced)


def _stored(sessions: SessionFactory, parts: Sequence[LedgerPart]) -> dict[LedgerPart, _Settled]:
    """What is stored, of this version and of the same oldest forecast."""
    with sessions() as session:
        stored = read_matured(session, [part.key for part in parts])
    found = {}
    for part in parts:
        one = stored.get(part.key)
        if one and (one.version, one.first_as_of) == (VERSION, part.first_as_of):
            try:
                found[part] = _Settled.of(one)
            except (ValueError, KeyError):  # damaged: it is computed again
                continue
    return found


def _past(
    closes: Closes,
    parts: Sequence[LedgerPart],
    known: Mapping[LedgerPart, _Settled],
    first: datetime,
) -> tuple[pd.Series | DataError, dict[LedgerPart, _Settled]]:
    """The closes of one ticker, from `first` on if need be; what holds of what is known of it."""
    symbol, interval = parts[0].symbol, parts[0].interval
    settled = {part: known[part] for part in parts if part in known}
    if len(settled) == len(parts):
        until = min(one.until for one in settled.values())
        past = known_closes(closes, symbol, interval, max(first, until - LOOKBACK))
        if isinstance(past, DataError):
            return past, {}
        enough = first >= until - LOOKBACK or len(past.loc[:until]) >= _BARS
        if enough and all(one.still_holds(past) for one in settled.values()):
            return past, settled
    past = known_closes(closes, symbol, interval, first)
    if isinstance(past, DataError):
        return past, {}
    return past, {part: one for part, one in settled.items() if one.still_holds(past)}


def _without_candles(sessions: SessionFactory, part: LedgerPart, error: DataError) -> MaturedPart:
    with sessions() as session:
        count = count_forecasts(session, part)
    reason = UnresolvedReason.NO_CANDLES
    unresolved = [Unresolved(part.symbol, part.model_name, reason, count, error.reason)]
    return MaturedPart(part, {}, unresolved)


class _Part:
    """One part: what was settled before, and the rows of the ledger that were not."""

    def __init__(
        self, part: LedgerPart, settled: _Settled, rows: LedgerRows | None, past: pd.Series
    ) -> None:
        self._part = part
        self._settled = settled
        self._rows = rows
        self._past = past
        self._resolved = None if rows is None else resolve(part, rows, past)
        outcomes = self._resolved.outcomes if self._resolved else []
        self._new = {one.model_revision: MaturedForecasts.of(one) for one in outcomes}

    def matured(self) -> MaturedPart:
        counts = Counter[tuple[UnresolvedReason, str]]()
        counts.update({(reason, ""): n for reason, n in self._settled.left_out.items()})
        for one in self._resolved.unresolved() if self._resolved else ():
            counts[one.reason, one.detail] += one.n
        unresolved = [
            Unresolved(self._part.symbol, self._part.model_name, reason, n, detail)
            for (reason, detail), n in counts.items()
        ]
        return MaturedPart(self._part, joined(self._settled.by_revision, self._new), unresolved)

    def to_store(self) -> StoredPart | None:
        """What is settled by now; None if it is stored already."""
        if self._rows is None or self._resolved is None:
            return None
        limit = self._past.index[-1] - SETTLED
        late = self._rows.as_of[self._rows.target > limit.to_datetime64()]
        end = late.min() if len(late) else self._rows.as_of.max() + np.timedelta64(1, "s")
        until = max(self._settled.until, end.item())
        if self._settled.stored and until == self._settled.until:
            return None
        new = {
            revision: some[some.forecasts["as_of"] < end.astype("int64")]
            for revision, some in self._new.items()
        }
        left_out = count_reasons(self._resolved.reason[self._resolved.as_of < end])
        times, closes = _arrays(self._past.loc[until - LOOKBACK : limit])
        return StoredPart(
            version=VERSION,
            first_as_of=self._part.first_as_of,
            until=until,
            count=sum(map(len, [*self._settled.by_revision.values(), *new.values()])),
            closes=np.stack([times.astype("float64"), closes]).tobytes(),
            left_out={
                reason.name: n for reason, n in (self._settled.left_out + Counter(left_out)).items()
            },
            forecasts=dict(by_quarter(self._settled.by_revision, new)),
        )


def _arrays(past: pd.Series) -> tuple[NDArray[np.int64], Floats]:
    """Times in seconds, and closes."""
    times = past.index.to_numpy().astype("datetime64[s]").astype("int64")
    return times, past.to_numpy(dtype="float64")
