"""Join stored forecasts with realised closes.

Prices are relative to the close that the forecast was made from. A predicted price is divided by
`last_close` in the ledger, the table of stored forecasts. The realised price is
close(target) ÷ close(as_of) in today's history. Splits and restatements therefore
cancel, and tickers can be combined.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.errors import DataError
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.markets.calendars import latest_complete_session
from tradingbot.persistence.ledger import LedgerPart, LedgerRows, Targets, ledger_parts, read_part
from tradingbot.runtime.clock import utcnow
from tradingbot.typing import Floats, SessionFactory, Times

if TYPE_CHECKING:
    from tradingbot.data.service import DataService


LEVELS = QUANTILE_LEVELS

Closes = Callable[[str, str, datetime], pd.Series]  # symbol, interval, since -> closes by time

BEFORE = timedelta(days=400)  # history before the first forecast, which the random walk needs


@dataclass(frozen=True)
class ForecastOutcomes:
    """Forecasts of one ticker by one revision of one model, with the realised closes.

    The n forecasts are sorted by `as_of`, then `step`. Prices are divided by the close of `as_of`.
    """

    symbol: str
    model_name: str
    model_revision: str  # "" if unknown
    interval: str
    as_of: Times  # (n,) whole seconds, naive UTC
    target: Times  # (n,)
    step: NDArray[np.int64]  # (n,) bars ahead
    mean: Floats  # (n,) predicted close
    quantiles: Floats  # (n, 19) at LEVELS, as served: combined, calibrated or raw
    raw_quantiles: Floats  # (n, 19) of the model
    prob_up: Floats  # (n,)
    actual: Floats  # (n,)
    past: pd.Series  # all known closes of the ticker; a baseline may use those up to as_of
    # Shape (n, 19) each. NaN where a forecast lacks these quantiles, None if all forecasts do.
    calibrated_quantiles: Floats | None = None
    combined_quantiles: Floats | None = None

    def __len__(self) -> int:
        return len(self.step)

    def with_quantiles(self, quantiles: Floats) -> "ForecastOutcomes":
        """Return a copy with these served quantiles (n, 19), relative to the close of `as_of`."""
        return replace(self, quantiles=quantiles)

    def __getitem__(self, rows: NDArray[Any]) -> "ForecastOutcomes":
        arrays: dict[str, Any] = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)


class UnresolvedReason(StrEnum):
    """Why forecasts have no outcome, as the end of a sentence. A detail replaces {}."""

    NOT_YET = "the target session is not complete yet"
    NO_CANDLES = "its candles are not available: {}"  # possibly only at the moment
    NO_ORIGIN = "the bar that it was made from is not in the history"
    CANDLES_END = "its candles end on {}, before the target"
    NO_TARGET = "the target session has no bar"
    NO_QUANTILES = "its 19 quantiles are not all stored, or are damaged"
    NO_WAY = "a session between its origin and the target has no bar"  # events only
    NO_EVENT = "unknown event: {}"


@dataclass(frozen=True)
class Unresolved:
    """`n` forecasts of one ticker by one model without an outcome, and the reason."""

    symbol: str
    model_name: str
    reason: UnresolvedReason
    n: int
    detail: str = ""

    @property
    def text(self) -> str:
        """Return the reason in words, with its detail."""
        return self.reason.format(self.detail)


def resolve_outcomes(
    sessions: SessionFactory,
    closes: Closes,
    *,
    model: str | None = None,
    symbols: Collection[str] | None = None,
    since: datetime | None = None,
    targets: Targets | None = None,
    raw_only: bool = False,
) -> Iterator[ForecastOutcomes | Unresolved]:
    """Join the stored forecasts with realised closes, ticker by ticker, in alphabetical order.

    One ticker's forecasts are in memory at a time. Revisions of a model are yielded separately. No
    transaction is open while an outcome is yielded, because a server may end an idle transaction
    (idle_in_transaction_session_timeout).

    Args:
        sessions: Sessions of the database.
        closes: `closes(symbol, interval, since)` returns the known closes of a ticker, indexed by
            naive UTC times. It may raise DataError.
        model: Only this model.
        symbols: Only these tickers.
        since: Only forecasts whose `as_of` is `since` or later.
        targets: Only target sessions after the first time and before the second.
        raw_only: Read only the model's own quantiles and use them as the served quantiles too.
            Faster.
    """
    with sessions() as session:
        parts = ledger_parts(session, model=model, symbols=symbols, since=since, targets=targets)
    for (symbol, interval), group in groupby(parts, lambda part: (part.symbol, part.interval)):
        of_ticker = list(group)
        first = min(part.first_as_of for part in of_ticker)
        past = known_closes(closes, symbol, interval, first - BEFORE)
        for part in of_ticker:
            if isinstance(past, DataError):
                reason = UnresolvedReason.NO_CANDLES
                yield Unresolved(symbol, part.model_name, reason, part.count, past.reason)
                continue
            rows = read_part(sessions, part, since=since, targets=targets, raw_only=raw_only)
            if rows:
                yield from _joined(part, rows, past)


def closes_of(data: "DataService") -> Closes:
    """Return a function that gives the closes known to `data`.

    `data` should use the real time as its clock: `DataService(now=utcnow())`. For a ticker that the
    source no longer has, such as a delisted one, the closes of the database are used.
    """
    return lambda symbol, interval, since: data.closes(symbol, interval=interval, since=since)


def known_closes(
    closes: Closes, symbol: str, interval: str, since: datetime
) -> pd.Series | DataError:
    """Return the closes in order of time, or the error that explains why there are none."""
    try:
        found = closes(symbol, interval, since)
    except DataError as error:
        return error
    if found.empty:
        return DataError(f"none from {since:%Y-%m-%d} on")
    return found.sort_index()


def _joined(
    part: LedgerPart, rows: LedgerRows, past: pd.Series
) -> Iterator[ForecastOutcomes | Unresolved]:
    resolved = resolve(part, rows, past)
    yield from resolved.outcomes
    yield from resolved.unresolved()


@dataclass(frozen=True)
class Resolved:
    """The forecasts of one ticker by one model, joined with the realised closes.

    Attributes:
        part: The part of the ledger.
        outcomes: One item per revision.
        as_of: (m,) the `as_of` of each forecast without an outcome.
        reason: (m,) why each of these has no outcome, as an index in REASONS.
        newest: Time of the newest bar.
    """

    part: LedgerPart
    outcomes: list[ForecastOutcomes]
    as_of: Times
    reason: NDArray[np.int64]
    newest: np.datetime64

    def unresolved(self) -> Iterator[Unresolved]:
        """Yield the forecasts without an outcome, one item per reason."""
        for reason, count in count_reasons(self.reason).items():
            ended = reason == UnresolvedReason.CANDLES_END
            detail = f"{pd.Timestamp(self.newest):%Y-%m-%d}" if ended else ""
            yield Unresolved(self.part.symbol, self.part.model_name, reason, count, detail)


REASONS = (  # the first reason that applies is reported
    UnresolvedReason.NOT_YET,
    UnresolvedReason.NO_ORIGIN,
    UnresolvedReason.CANDLES_END,
    UnresolvedReason.NO_TARGET,
    UnresolvedReason.NO_QUANTILES,
)


def count_reasons(reason: NDArray[np.int64]) -> dict[UnresolvedReason, int]:
    """Count the forecasts by reason. `reason` has indices in REASONS."""
    return {REASONS[index]: n for index, n in sorted(Counter(reason.tolist()).items())}


def resolve(part: LedgerPart, rows: LedgerRows, past: pd.Series) -> Resolved:
    """Join these rows of `part` with all known closes of its ticker."""
    times = past.index.to_numpy().astype("datetime64[s]")
    prices = past.to_numpy(dtype="float64")
    start, has_start = positions(times, rows.as_of)
    end, has_end = positions(times, rows.target)
    newest = times[-1]
    complete = complete_until(part.symbol, part.interval, newest)
    reasons = np.stack(  # in the order of REASONS
        [
            rows.target > complete,
            ~has_start,
            rows.target > newest,
            ~has_end,
            np.isnan(rows.raw_quantiles.sum(axis=1)),
        ]
    )
    scored = ~reasons.any(axis=0)
    outcomes = []
    for revision in dict.fromkeys(rows.revision[scored]):
        of_revision = scored & (rows.revision == revision)
        outcomes.append(
            ForecastOutcomes(
                symbol=part.symbol,
                model_name=part.model_name,
                model_revision=revision,
                interval=part.interval,
                as_of=rows.as_of[of_revision],
                target=rows.target[of_revision],
                step=rows.step[of_revision],
                mean=rows.mean[of_revision],
                quantiles=rows.quantiles[of_revision],
                raw_quantiles=rows.raw_quantiles[of_revision],
                prob_up=rows.prob_up[of_revision],
                actual=prices[end[of_revision]] / prices[start[of_revision]],
                past=past,
                calibrated_quantiles=rows.calibrated_quantiles[of_revision],
                combined_quantiles=rows.combined_quantiles[of_revision],
            )
        )
    which = np.argmax(reasons, axis=0)[~scored]
    return Resolved(part, outcomes, rows.as_of[~scored], which, newest)


def positions(times: Times, wanted: Times) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the index of each wanted time in the ascending `times`, and whether it is present."""
    position = np.minimum(np.searchsorted(times, wanted), len(times) - 1)
    return position, times[position] == wanted


def complete_until(symbol: str, interval: str, newest: np.datetime64) -> np.datetime64:
    """Return the last moment whose targets can have an outcome by now."""
    if interval != "1d":
        return newest
    try:
        latest = np.datetime64(latest_complete_session(symbol, utcnow()), "s")
    except DataError:  # unknown exchange: only the newest candle shows which sessions are over
        return newest
    return max(latest, newest)
