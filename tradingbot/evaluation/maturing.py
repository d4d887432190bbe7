"""Keep the matured forecasts up to date: read new forecasts from the ledger, reuse stored ones.

    for part in matured_parts(sessions, closes, keys, resume=True): ...

A forecast is *settled* when all targets of its `as_of` are more than a week before the newest bar.
Its candles then change only by a restatement. Settled forecasts are stored in `kronos_matured`;
all others are read from the ledger in each run. A part (one ticker, one model) is recomputed in
full if

- it is not stored, or was stored by another VERSION of this code;
- its oldest forecast has changed, or a forecast older than its settled ones was stored
  (`persistence.matured.forget_older`);
- its closes within LOOKBACK have changed by more than a common factor, as a split would.
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

VERSION = 1  # increment it when the computation of MaturedForecasts changes
SETTLED = timedelta(days=7)  # the candle cache also fetches the last seven days again
# Candles to load before the oldest unsettled forecast. The EWMA walk forgets its start within 480
# bars (0.94^480 is 1e-13), and the job has already fetched as many.
LOOKBACK = timedelta(days=700)
_BARS = 450  # if LOOKBACK has fewer, all candles are loaded
_SAME = 1e-12  # relative difference below which closes are equal
_TICKERS = 50  # number of tickers in memory


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
    """Yield these parts of the ledger in their order, and store the settled forecasts.

    Args:
        sessions: Sessions of the database. No transaction is open while a part is yielded.
        closes: As in `resolve_outcomes`.
        parts: From `ledger_keys`, for all models, because they say where a ticker's candles begin.
        model: Yield only the parts of this model.
        resume: Reuse stored forecasts. False recomputes everything.
    """
    by_ticker = groupby(parts, key=lambda part: (part.symbol, part.interval))
    tickers = [list(group) for _, group in by_ticker]
    if model is not None:
        tickers = [group for group in tickers if any(part.model_name == model for part in group)]
    many = _TICKERS if resume else 1
    for start in range(0, len(tickers), many):
        batch = tickers[start : start + many]
        yield from _matured(sessions, closes, batch, model=model, resume=resume)


@dataclass(frozen=True)
class _Settled:
    """The stored, settled forecasts of one part.

    Attributes:
        until: Forecasts with an earlier `as_of` are settled.
        times: Times of the closes that the forecasts were compared with, in seconds.
        closes: These closes.
        left_out: Number of forecasts that will never have an outcome, by reason.
        by_revision: Forecasts with an outcome.
        stored: False if nothing is stored, so that the part must be computed in full.
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
        """Decode a stored part.

        Raises:
            ValueError, KeyError: It is damaged.
        """
        chunks: dict[str, list[MaturedForecasts]] = {}
        for (revision, _), data in stored.forecasts.items():
            chunks.setdefault(revision, []).append(MaturedForecasts.unpacked(data))
        by_revision = {name: MaturedForecasts.joined(group) for name, group in chunks.items()}
        if sum(map(len, by_revision.values())) != stored.count:
            raise ValueError(f"these are not {stored.count} forecasts")
        times, closes = np.frombuffer(stored.closes, "float64").reshape(2, -1)
        return cls(
            stored.until,
            times.astype("int64"),
            closes,
            Counter({UnresolvedReason[name]: n for name, n in stored.left_out.items()}),
            by_revision,
        )

    def still_holds(self, past: pd.Series) -> bool:
        """Return whether `past` equals the closes compared with, up to a common factor."""
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
    selected = [part for parts in tickers for part in parts if model in (None, part.model_name)]
    known = _stored(sessions, selected) if resume else {}
    pasts: dict[LedgerPart, pd.Series | DataError] = {}
    settled: dict[LedgerPart, _Settled] = {}
    for parts in tickers:
        wanted = [part for part in parts if model in (None, part.model_name)]
        first = min(part.first_as_of for part in parts)
        past, of_ticker = _past(closes, wanted, known, first - BEFORE)
        pasts |= dict.fromkeys(wanted, past)
        settled |= {part: of_ticker.get(part) or _Settled.nothing(part) for part in wanted}
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


def _stored(sessions: SessionFactory, parts: Sequence[LedgerPart]) -> dict[LedgerPart, _Settled]:
    """Return the stored parts that have this version and the same oldest forecast."""
    with sessions() as session:
        stored = read_matured(session, [part.key for part in parts])
    found = {}
    for part in parts:
        stored_part = stored.get(part.key)
        valid_for = VERSION, part.first_as_of
        if stored_part and (stored_part.version, stored_part.first_as_of) == valid_for:
            try:
                found[part] = _Settled.of(stored_part)
            except (ValueError, KeyError):  # damaged, so it is recomputed
                continue
    return found


def _past(
    closes: Closes,
    parts: Sequence[LedgerPart],
    known: Mapping[LedgerPart, _Settled],
    first: datetime,
) -> tuple[pd.Series | DataError, dict[LedgerPart, _Settled]]:
    """Return the closes of one ticker and the stored parts that are still valid for them.

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
        if enough and all(stored.still_holds(past) for stored in settled.values()):
            return past, settled
    past = known_closes(closes, symbol, interval, first)
    if isinstance(past, DataError):
        return past, {}
    return past, {part: stored for part, stored in settled.items() if stored.still_holds(past)}


def _without_candles(sessions: SessionFactory, part: LedgerPart, error: DataError) -> MaturedPart:
    with sessions() as session:
        count = count_forecasts(session, part)
    reason = UnresolvedReason.NO_CANDLES
    unresolved = [Unresolved(part.symbol, part.model_name, reason, count, error.reason)]
    return MaturedPart(part, {}, unresolved)


class _Part:
    """One part: its stored forecasts, and the ledger rows that were not settled."""

    def __init__(
        self, part: LedgerPart, settled: _Settled, rows: LedgerRows | None, past: pd.Series
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
        return MaturedPart(self._part, joined(self._settled.by_revision, self._new), unresolved)

    def to_store(self) -> StoredPart | None:
        """Return the forecasts that are settled now; None if all of them are stored."""
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
    """Return times in seconds, and closes."""
    times = past.index.to_numpy().astype("datetime64[s]").astype("int64")
    return times, past.to_numpy(dtype="float64")
