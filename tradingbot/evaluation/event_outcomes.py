"""Join stored event probabilities with outcomes: whether each event happened.

Bars are scaled to the close that the forecast was made from, so splits do not matter. A
probability has no outcome if a bar before its target is missing, because the event may have
happened in that bar. Events that depend only on the target's close need only the target's bar.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.errors import DataError
from tradingbot.evaluation.close_outcomes import (
    Unresolved,
    UnresolvedReason,
    complete_until,
    positions,
)
from tradingbot.markets.candles import PRICES
from tradingbot.path_events.event_probabilities import happened_by_step
from tradingbot.path_events.grammar import Event, parse_event
from tradingbot.persistence.events import StoredChances, event_parts, read_events
from tradingbot.persistence.ledger import LedgerPart
from tradingbot.typing import Flags, Floats, SessionFactory, Times

if TYPE_CHECKING:
    from tradingbot.data.service import DataService

BarsOf = Callable[[str, str, datetime], pd.DataFrame]  # symbol, interval, since -> PRICES by time


@dataclass(frozen=True)
class EventOutcomes:
    """Probabilities and outcomes of one event, for one ticker and one revision of a model."""

    symbol: str
    model_name: str
    model_revision: str  # "" if unknown
    interval: str
    event: str
    target: Times  # (n,)
    step: NDArray[np.int64]  # (n,) bars ahead
    probability: Floats  # (n,)
    happened: Flags  # (n,)

    def __len__(self) -> int:
        return len(self.step)


def bars_of(data: "DataService") -> BarsOf:
    """Return a function that gives the bars known to `data`. See `closes_of` for data's clock."""
    return lambda symbol, interval, since: data.known_bars(symbol, interval=interval, since=since)


def resolve_events(
    sessions: SessionFactory,
    bars: BarsOf,
    *,
    model: str | None = None,
    symbols: Collection[str] | None = None,
) -> Iterator[EventOutcomes | Unresolved]:
    """Yield outcomes ticker by ticker. The arguments are those of `resolve_outcomes`."""
    with sessions() as session:
        parts = event_parts(session, model=model, symbols=symbols)
    for (symbol, interval), group in groupby(parts, lambda part: (part.symbol, part.interval)):
        of_ticker = list(group)
        history = _bars(bars, symbol, interval, min(part.first_as_of for part in of_ticker))
        for part in of_ticker:
            if isinstance(history, DataError):
                reason = UnresolvedReason.NO_CANDLES
                yield Unresolved(symbol, part.model_name, reason, part.count, history.reason)
            else:
                yield from _joined(part, read_events(sessions, part), history)


def _bars(bars: BarsOf, symbol: str, interval: str, since: datetime) -> pd.DataFrame | DataError:
    try:
        found = bars(symbol, interval, since)
    except DataError as error:
        return error
    return DataError(f"none from {since:%Y-%m-%d} on") if found.empty else found.sort_index()


def _joined(
    part: LedgerPart, stored: list[StoredChances], history: pd.DataFrame
) -> Iterator[EventOutcomes | Unresolved]:
    """Yield the outcomes of each event, then the probabilities without an outcome."""
    left_out: Counter[tuple[UnresolvedReason, str]] = Counter()
    market = _Market(part, history)
    for chances in stored:
        try:
            event = parse_event(chances.event)
        except ValueError:
            left_out[UnresolvedReason.NO_EVENT, chances.event] += len(chances)
            continue
        yield from market.outcomes(event, chances, left_out)
    for (reason, detail), count in left_out.items():
        yield Unresolved(part.symbol, part.model_name, reason, count, detail)


class _Market:
    """The bars of one ticker."""

    def __init__(self, part: LedgerPart, history: pd.DataFrame) -> None:
        self._part = part
        self._times = history.index.to_numpy().astype("datetime64[s]")
        self._prices = history[PRICES].to_numpy(dtype="float64")
        self._complete = complete_until(part.symbol, part.interval, self._times[-1])

    def outcomes(
        self,
        event: Event,
        chances: StoredChances,
        left_out: Counter[tuple[UnresolvedReason, str]],
    ) -> Iterator[EventOutcomes]:
        """Yield the outcomes of one event by revision.

        Count the probabilities without an outcome in `left_out`.
        """
        target, step = chances.target, chances.step
        start, has_start = positions(self._times, chances.as_of)
        end, has_end = positions(self._times, target)
        newest = self._times[-1]
        reasons = {  # the first reason that applies is reported
            UnresolvedReason.NOT_YET: target > self._complete,
            UnresolvedReason.NO_ORIGIN: ~has_start,
            UnresolvedReason.CANDLES_END: target > newest,
            UnresolvedReason.NO_TARGET: ~has_end,
            UnresolvedReason.NO_WAY: (end - start < step) & (not event.is_of_closes),
        }
        scored = ~np.any(list(reasons.values()), axis=0)
        for index in np.argmax(list(reasons.values()), axis=0)[~scored].tolist():
            reason = list(reasons)[index]
            ended = reason == UnresolvedReason.CANDLES_END
            left_out[reason, f"{pd.Timestamp(newest):%Y-%m-%d}" if ended else ""] += 1
        if not scored.any():
            return
        last_close = chances.last_close[scored]
        happened = np.zeros(len(chances), dtype=bool)
        happened[scored] = self._happened(event, start[scored], end[scored], last_close)
        for name in dict.fromkeys(chances.revision[scored]):
            of_revision = scored & (chances.revision == name)
            yield EventOutcomes(
                symbol=self._part.symbol,
                model_name=self._part.model_name,
                model_revision=name,
                interval=self._part.interval,
                event=event.text,
                target=target[of_revision],
                step=step[of_revision],
                probability=chances.probability[of_revision],
                happened=happened[of_revision],
            )

    def _happened(
        self, event: Event, start: NDArray[Any], end: NDArray[Any], last_close: Floats
    ) -> Flags:
        """Return whether the event happened in the bars after `start`, up to `end`. Shape (n,)."""
        span = int((end - start).max())
        origins, number = np.unique(np.stack([start, last_close]), axis=1, return_inverse=True)
        at, close = origins[0].astype("int64"), origins[1]
        padded = np.concatenate([self._prices, np.full((span, len(PRICES)), np.nan)])
        scale = close / self._prices[at, PRICES.index("close")]
        bars = padded[at[:, None] + 1 + np.arange(span)] * scale[:, None, None]
        found = happened_by_step(event, bars, close[:, None])
        return np.asarray(found[number.ravel(), end - start - 1])
