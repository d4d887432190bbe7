"""The history of a ticker: clean, complete bars up to the clock, from any source."""

import logging
import threading
from collections.abc import Generator, Iterable
from datetime import datetime, timedelta
from functools import partial

import pandas as pd

from tradingbot.data.cache import HistoryCache
from tradingbot.data.circuit_breaker import CircuitBreaker
from tradingbot.data.sources.base import SlowToLoad, Source
from tradingbot.data.sources.registry import open_source
from tradingbot.data.splits_and_dividends import Actions
from tradingbot.errors import DataError, DataUnavailable, TooFewBars
from tradingbot.markets.calendars import latest_complete_session, sessions_between
from tradingbot.markets.candles import PRICES, Bars, clean, left_out
from tradingbot.markets.data_quality import bar_closes, bar_length, find_problems
from tradingbot.markets.quality_findings import Caller, Finding, apply_policy
from tradingbot.markets.session_dates import naive_times
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.concurrency import as_they_end
from tradingbot.settings import DEFAULT_SOURCE, Timeouts
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

WORKERS = 4  # tickers fetched concurrently; Yahoo limits callers that fetch more


class DataService:
    """Candles from `source`: yahoo, csv:DIR, sample, or your own Source.

    `now` (naive UTC) sets the clock; by default it is the source's. For yahoo that is the current
    time. For csv it is the close of the newest bar of all files, but at most the current time (for
    intraday bars always the current time). For sample it is the bar with `max(6, horizon)` later
    bars follow. A history contains nothing after the clock. ConfigError if the source is unusable.

    Invalid candles are refused (`tradingbot.markets.data_quality`), and so is a break of scale
    above `max_jump`. `sessions` opens sessions of the database that caches daily bars of a remote
    source. `circuit_breaker` limits requests to a source that refuses them; it and a source opened
    by name use `timeouts`.
    """

    def __init__(
        self,
        source: str | Source = DEFAULT_SOURCE,
        *,
        horizon: int = 5,
        now: datetime | None = None,
        min_bars: int = 32,  # the minimum of a Space
        sessions: SessionFactory | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        timeouts: Timeouts | None = None,
        max_jump: float = 1.0,
    ) -> None:
        self._max_jump = max_jump
        self._source = open_source(source, timeouts) if isinstance(source, str) else source
        self._horizon = horizon
        self._now = now
        self._min_bars = min_bars
        self._cache = HistoryCache(sessions) if sessions and self._source.remote else None
        self._circuit_breaker = circuit_breaker or CircuitBreaker(timeouts)
        self._warned: set[str] = set()
        # the daily prices that were requested last: start, last session, and bars
        self._newest: dict[str, tuple[datetime, datetime, pd.DataFrame]] = {}

    def symbols(self) -> list[str]:
        """Return the source's tickers, or [] for yahoo, which has too many to list."""
        return self._source.symbols()

    def now(self) -> datetime:
        """Return the clock of this data, naive UTC."""
        return self._now or min(self._source.clock(self._horizon), utcnow())

    def _clock(self, interval: str) -> datetime:
        """Return the time up to which bars are complete; for intraday files the current time."""
        uses_clock = interval == "1d" or self._source.remote or self._now is not None
        return self.now() if uses_clock else utcnow()

    def by_the_wall_clock(self) -> "DataService":
        """Return a service of the same source whose clock is the current time.

        Return this service itself, unless the source has bars from after its own clock.
        """
        if not self._source.knows_outcomes:
            return self
        return DataService(
            self._source,
            now=utcnow(),
            circuit_breaker=self._circuit_breaker,
            max_jump=self._max_jump,
        )

    def inspect(
        self, symbol: str, *, interval: str = "1d", bars: int = 500
    ) -> tuple[pd.DataFrame, list[str], list[Finding]]:
        """Return the newest bars, remarks on the cleaning, and the findings about the bars.

        No ticker is refused, and no bar left out. Raise DataError if there are no bars.
        """
        now = self._clock(interval)
        raw = self._fetch(symbol, interval, _first_day(now, interval, bars), threading.Event())
        frame, notes = clean(raw, symbol)
        dropped = pd.DatetimeIndex(raw.index).difference(pd.DatetimeIndex(frame.index))
        frame = frame.tail(bars)
        findings = find_problems(
            frame, symbol, interval, now=now, max_jump=self._max_jump, dropped=dropped
        )
        return frame, notes, findings

    def too_few(self, count: int, interval: str) -> str | None:
        """Return a sentence if `count` complete bars are too few for a forecast, else None."""
        usable = f"{count} usable {interval} bars up to {self._clock(interval):%Y-%m-%d %H:%M} UTC"
        needs = f"a forecast needs at least {self._min_bars}"
        return None if count >= self._min_bars else f"{usable}, {needs}"

    @property
    def caller(self) -> Caller:
        """Return the kind of caller, which selects the policy for findings."""
        return Caller.REMOTE if self._source.remote else Caller.FILES

    def history(self, symbol: str, *, interval: str = "1d", bars: int = 500) -> pd.DataFrame:
        """Return the newest `bars` complete bars, or as many as there are.

        Index `timestamp`: naive, strictly increasing; midnight of the session for daily bars, UTC
        for others. Columns open, high, low, close, volume, float64; no volume column if the source
        has no volumes. `attrs["warnings"]`: sentences about corrections and findings.

        Raises UnknownSymbol, TooFewBars (fewer than `min_bars`), DataUnavailable, DataError.
        """
        return self._history(symbol, interval, bars, threading.Event())

    def histories(
        self, symbols: Iterable[str], *, interval: str = "1d", bars: int = 500
    ) -> Generator[tuple[str, pd.DataFrame | DataError], None, None]:
        """Yield each ticker with its `history`, or with the error of `history`, as they complete.

        Tickers of a remote source are fetched concurrently. Close the generator
        (contextlib.closing) to stop.
        """

        def frame_or_error(symbol: str, stopped: threading.Event) -> pd.DataFrame | DataError:
            try:
                return self._history(symbol, interval, bars, stopped)
            except DataError as error:
                return error

        once = list(dict.fromkeys(symbols))
        if self._source.remote:
            return as_they_end(frame_or_error, once, workers=WORKERS)
        return ((symbol, frame_or_error(symbol, threading.Event())) for symbol in once)

    def _history(
        self, symbol: str, interval: str, bars: int, stopped: threading.Event
    ) -> pd.DataFrame:
        start = _first_day(self._clock(interval), interval, bars)
        frame, warnings, last = self._bars(symbol, interval, start, stopped, enough=self._min_bars)
        if few := self.too_few(len(frame), interval):
            raise TooFewBars("; ".join([few, *warnings]), symbol=symbol)
        if interval == "1d" and (late := sessions_between(symbol, frame.index[-1], last)):
            warning = f"the newest bar is of {frame.index[-1]:%Y-%m-%d}; sessions since: {late}"
            if self._now is None and self._source.clock_file:
                warning += f"; the clock is the newest bar, in {self._source.clock_file}"
            warnings.append(warning)
        self._report(symbol, warnings)
        frame = frame.tail(bars)
        frame.attrs["warnings"] = warnings
        return frame

    def bars(self, symbol: str, *, interval: str = "1d", since: datetime) -> pd.DataFrame:
        """Return all complete bars from `since` on, in the form of `history`. May be empty.

        Raise the errors of `history`, except for too few bars.
        """
        enough, never = self._min_bars, threading.Event()
        frame, warnings, _ = self._bars(symbol, interval, since, never, enough=enough)
        frame = frame.loc[frame.index >= since]
        frame.attrs["warnings"] = warnings
        return frame

    def closes(self, symbol: str, *, interval: str = "1d", since: datetime) -> pd.Series:
        """Return the closes of `known_bars`."""
        return self.known_bars(symbol, interval=interval, since=since)["close"]

    def known_bars(self, symbol: str, *, interval: str = "1d", since: datetime) -> pd.DataFrame:
        """Return the prices of all complete bars from `since` on. May be empty.

        For a ticker that the source no longer knows, return the prices stored in the database.
        Raise the errors of `history`, except for too few bars. Daily bars that this object has
        already fetched are not fetched again before the next session is complete.
        """
        if interval == "1d" and symbol in self._newest:
            start, last, bars = self._newest[symbol]
            if start <= since and last == latest_complete_session(symbol, self.now()):
                return bars[bars.index >= since]
        frame, _, _ = self._bars(symbol, interval, since, threading.Event(), enough=1, gone=True)
        return frame.loc[frame.index >= since, PRICES]

    def fetched(self, symbol: str) -> pd.DataFrame:
        """Return the daily bars fetched last, which may begin earlier than those of `history`."""
        return self._newest[symbol][2]

    def actions(self, symbol: str, since: datetime) -> Actions:
        """Return the source's splits and dividends from `since` on. May raise DataError."""
        return Actions.actions_in(self._fetch(symbol, "1d", since, threading.Event()), since)

    def _bars(
        self,
        symbol: str,
        interval: str,
        start: datetime,
        stopped: threading.Event,
        *,
        enough: int,
        gone: bool = False,
    ) -> tuple[pd.DataFrame, list[str], datetime]:
        """Return clean bars from `start` on, remarks on them, and the last possible session.

        If the source is out of reach, at least `enough` cached bars are returned instead; with
        `gone` also if the source no longer has the ticker.
        """
        now = self._clock(interval)
        daily = interval == "1d"
        last = latest_complete_session(symbol, now) if daily else now - bar_length(interval)
        running: list[str] = []
        asked: list[pd.DatetimeIndex] = []
        actions: list[Actions] = []

        def fetch(since: datetime) -> Bars:
            try:
                raw = self._fetch(symbol, interval, since, stopped)
            except DataError as error:
                if gone and self._cache is not None:
                    raise DataUnavailable(error.reason, symbol=error.symbol) from error
                raise
            times = pd.DatetimeIndex(raw.index)
            complete = bar_closes(symbol, times, interval) <= pd.Timestamp(now)
            asked.append(times)
            if not complete.all() and self._now is None and not self._source.remote:
                running.extend(left_out(raw, raw[~complete & (raw.index <= now)], now))
            bars, notes = clean(raw if complete.all() else raw[complete], symbol)
            bars.attrs["splits"] = raw.attrs.get("splits", {})
            actions[:] = [Actions.actions_in(raw, since)]
            return bars, notes

        if daily and self._cache is not None:
            frame, warnings = self._cache.bars(symbol, start, last, fetch, enough=enough)
        else:
            frame, warnings = fetch(start)
        findings = find_problems(
            frame,
            symbol,
            interval,
            max_jump=self._max_jump,
            dropped=asked[-1].difference(pd.DatetimeIndex(frame.index)) if asked else None,
        )
        frame, remarks = apply_policy(frame, findings, self.caller)
        frame.attrs["actions"] = actions[0] if actions else None
        if daily:
            self._newest[symbol] = start, last, frame[PRICES]
        return frame, [*warnings, *running, *remarks], last

    def _fetch(
        self, symbol: str, interval: str, since: datetime, stopped: threading.Event
    ) -> pd.DataFrame:
        """Return all bars of the source with naive times; for daily bars, midnights of sessions."""
        request = partial(self._source.fetch, symbol, interval, since, self._clock(interval))
        if isinstance(self._source, SlowToLoad):
            self._source.load()  # before the circuit breaker measures the request
        raw = self._circuit_breaker.ask(symbol, request, stopped)
        return _in_sessions(symbol, raw, interval)

    def outcome(self, symbol: str, dates: Iterable[datetime]) -> dict[datetime, float]:
        """Return the realised closes of these sessions, as far as the source knows them."""
        wanted = list(dates)
        if not wanted or not self._source.knows_outcomes:
            return {}
        raw = _in_sessions(symbol, self._source.fetch(symbol, "1d", min(wanted), max(wanted)), "1d")
        closes = clean(raw[raw.index >= min(wanted)])[0]["close"]
        return {date: float(closes[date]) for date in wanted if date in closes.index}

    def _report(self, symbol: str, warnings: list[str]) -> None:
        """Log the warnings of a ticker, once."""
        if warnings and symbol not in self._warned:
            self._warned.add(symbol)
            logger.warning("%s: %s", symbol, "; ".join(warnings), extra={"symbol": symbol})


def _first_day(now: datetime, interval: str, bars: int) -> datetime:
    """Return the day from which to fetch `bars` bars: five sessions in seven days, from 1950."""
    span = min(bar_length(interval) * 1.5 * bars, now - datetime(1950, 1, 31))
    return now - timedelta(days=30) - span


def _in_sessions(symbol: str, raw: pd.DataFrame, interval: str) -> pd.DataFrame:
    """Return the bars with naive times; for daily bars midnight of the session."""
    times = naive_times(symbol, pd.DatetimeIndex(raw.index), interval)
    return raw.set_axis(times.rename("timestamp"), axis=0)
