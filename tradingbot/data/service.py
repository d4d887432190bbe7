"""The history of a ticker: clean, complete bars as of a clock, whatever the source."""

import logging
import threading
from collections.abc import Generator, Iterable
from datetime import datetime, timedelta
from functools import partial

import pandas as pd

from tradingbot.data.cache import HistoryCache
from tradingbot.data.circuit_breaker import CircuitBreaker
from tradingbot.data.corporate_actions import Actions
from tradingbot.data.sources.base import SlowToLoad, Source
from tradingbot.data.sources.registry import open_source
from tradingbot.errors import DataError, DataUnavailable, TooFewBars
from tradingbot.markets.calendars import latest_complete_session, sessions_between
from tradingbot.markets.candles import PRICES, Bars, clean, left_out
from tradingbot.markets.data_quality import bar_closes, bar_length, judge
from tradingbot.markets.quality_findings import Caller, Finding, apply_policy
from tradingbot.markets.session_dates import naive_times
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.concurrency import as_they_end
from tradingbot.settings import DEFAULT_SOURCE, Timeouts
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

WORKERS = 4  # tickers that are asked for at a time; Yahoo limits who asks for more


class DataService:
    """Candles from `source`: yahoo, csv:DIR, sample, or a Source of your own.

    `now` (naive UTC) sets the clock; otherwise it is the source's: the wall's for yahoo; for csv
    the close of the newest bar of all files, or the wall's where that is earlier (bars within a
    day go by the wall's alone); for sample that of the bar which `max(6, horizon)` later ones
    follow. Nothing after the clock is ever in a history. ConfigError if the source is not usable
    at all.

    Candles that are not what they claim to be are refused (`tradingbot.markets.data_quality`), a
    break of scale unless its factor is `max_jump` at most.

    `sessions` makes a session of the database that caches daily bars of a remote source; without
    it every history is fetched whole. `circuit_breaker` limits how often a source that refuses
    is asked; by default one with `timeouts`, which also limit a request to a source opened by name.
    """

    def __init__(
        self,
        source: str | Source = DEFAULT_SOURCE,
        *,
        horizon: int = 5,
        now: datetime | None = None,
        min_bars: int = 32,  # what a Space asks for at least
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
        # the newest daily prices that were asked for, from when on, and up to which session
        self._newest: dict[str, tuple[datetime, datetime, pd.DataFrame]] = {}

    def symbols(self) -> list[str]:
        """The source's own tickers; [] for yahoo, which has more than can be listed."""
        return self._source.symbols()

    def now(self) -> datetime:
        """What time it is for this data, naive UTC."""
        return self._now or min(self._source.clock(self._horizon), utcnow())

    def _clock(self, interval: str) -> datetime:
        """The time by which bars are complete: those within a day go by their own newest bar."""
        own = interval == "1d" or self._source.remote or self._now is not None
        return self.now() if own else utcnow()

    def by_the_wall_clock(self) -> "DataService":
        """The service of the same source to which all bars that are there are known.

        Itself, unless the source holds bars from after its own clock.
        """
        if not self._source.knows_outcomes:
            return self
        return DataService(
            self._source,
            now=utcnow(),
            circuit_breaker=self._circuit_breaker,
            max_jump=self._max_jump,
        )

    def judge(
        self, symbol: str, *, interval: str = "1d", bars: int = 500
    ) -> tuple[pd.DataFrame, list[str], list[Finding]]:
        """The ticker's newest bars as they are, what cleaning them did, and what is odd about them.

        Nothing is refused or left out. Raises DataError where there are no bars to judge.
        """
        now = self._clock(interval)
        raw = self._fetch(symbol, interval, _first_day(now, interval, bars), threading.Event())
        frame, notes = clean(raw)
        dropped = pd.DatetimeIndex(raw.index).difference(pd.DatetimeIndex(frame.index))
        frame = frame.tail(bars)
        findings = judge(frame, symbol, interval, now=now, max_jump=self._max_jump, dropped=dropped)
        return frame, notes, findings

    @property
    def caller(self) -> Caller:
        """Whose policy of findings is this source's."""
        return Caller.REMOTE if self._source.remote else Caller.FILES

    def history(self, symbol: str, *, interval: str = "1d", bars: int = 500) -> pd.DataFrame:
        """The newest `bars` complete bars, or as many as there are.

        Index `timestamp`: naive, strictly increasing; a daily bar's is midnight of its session,
        others' are UTC. Columns open, high, low, close, volume, float64; no volume column if the
        source has no volumes. `attrs["warnings"]`: sentences on what was mended or is odd.

        Raises UnknownSymbol, TooFewBars (fewer than `min_bars`), DataUnavailable, DataError.
        """
        return self._history(symbol, interval, bars, threading.Event())

    def histories(
        self, symbols: Iterable[str], *, interval: str = "1d", bars: int = 500
    ) -> Generator[tuple[str, pd.DataFrame | DataError], None, None]:
        """Each ticker with its `history`, or with the error that it would raise, as they come.

        Of a remote source several are fetched at a time. Close the generator (contextlib.closing)
        to fetch no more.
        """

        def one(symbol: str, stopped: threading.Event) -> pd.DataFrame | DataError:
            try:
                return self._history(symbol, interval, bars, stopped)
            except DataError as error:
                return error

        once = list(dict.fromkeys(symbols))
        if self._source.remote:
            return as_they_end(one, once, workers=WORKERS)
        return ((symbol, one(symbol, threading.Event())) for symbol in once)

    def _history(
        self, symbol: str, interval: str, bars: int, stopped: threading.Event
    ) -> pd.DataFrame:
        now = self._clock(interval)
        start = _first_day(now, interval, bars)
        frame, warnings, last = self._bars(symbol, interval, start, stopped, enough=self._min_bars)
        if len(frame) < self._min_bars:
            count = f"{len(frame)} usable {interval} bars up to {now:%Y-%m-%d %H:%M} UTC"
            needs = f"a forecast needs at least {self._min_bars}"
            raise TooFewBars("; ".join([f"{count}, {needs}", *warnings]), symbol=symbol)
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
        """All complete bars from `since` on, or as many as there are, otherwise as `history`.

        Raises DataError as `history` does, but for too few bars.
        """
        enough, never = self._min_bars, threading.Event()
        frame, warnings, _ = self._bars(symbol, interval, since, never, enough=enough)
        frame = frame.loc[frame.index >= since]
        frame.attrs["warnings"] = warnings
        return frame

    def closes(self, symbol: str, *, interval: str = "1d", since: datetime) -> pd.Series:
        """The closes of `known_bars`."""
        return self.known_bars(symbol, interval=interval, since=since)["close"]

    def known_bars(self, symbol: str, *, interval: str = "1d", since: datetime) -> pd.DataFrame:
        """The prices of all complete bars from `since` on, or as many as there are; maybe none.

        Of a ticker that the source no longer knows, those that the database has kept. Raises
        DataError as `history` does, but for too few bars. Daily ones that this object has already
        fetched are not fetched again before the next session is complete.
        """
        if interval == "1d" and symbol in self._newest:
            start, last, bars = self._newest[symbol]
            if start <= since and last == latest_complete_session(symbol, self.now()):
                return bars[bars.index >= since]
        frame, _, _ = self._bars(symbol, interval, since, threading.Event(), enough=1, gone=True)
        return frame.loc[frame.index >= since, PRICES]

    def fetched(self, symbol: str) -> pd.DataFrame:
        """The prices of the daily bars fetched last, with older ones than a `history` has."""
        return self._newest[symbol][2]

    def actions(self, symbol: str, since: datetime) -> Actions:
        """The splits and dividends that the source tells of, from `since` on; or DataError."""
        return Actions.told_by(self._fetch(symbol, "1d", since, threading.Event()), since)

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
        """Clean bars from `start` on, what is odd about them, and when the newest one can be of.

        Cached ones, if there are `enough`, stand in for a source that is out of reach; if `gone`,
        also for one that has nothing of the ticker any more.
        """
        now = self._clock(interval)
        daily = interval == "1d"
        last = latest_complete_session(symbol, now) if daily else now - bar_length(interval)
        running: list[str] = []
        asked: list[pd.DatetimeIndex] = []
        told: list[Actions] = []

        def fetch(since: datetime) -> Bars:
            try:
                raw = self._fetch(symbol, interval, since, stopped)
            except DataError as error:
                if gone and self._cache is not None:
                    raise DataUnavailable(error.reason, symbol=error.symbol) from error
                raise
            times = pd.DatetimeIndex(raw.index)
            complete = bar_closes(symbol, times, interval) <= pd.Timestamp(now)
            begun = raw[~complete & (raw.index <= now)]
            if self._now is None and not self._source.remote:
                running.extend(left_out(raw, begun, now))
            asked.append(times)
            bars, notes = clean(raw[complete])
            bars.attrs["splits"] = raw.attrs.get("splits", {})
            told[:] = [Actions.told_by(raw, since)]
            return bars, notes

        if daily and self._cache is not None:
            frame, warnings = self._cache.bars(symbol, start, last, fetch, enough=enough)
        else:
            frame, warnings = fetch(start)
        findings = judge(
            frame,
            symbol,
            interval,
            max_jump=self._max_jump,
            dropped=asked[-1].difference(pd.DatetimeIndex(frame.index)) if asked else None,
        )
        frame, odd = apply_policy(frame, findings, self.caller)
        frame.attrs["actions"] = told[0] if told else None
        if daily:
            self._newest[symbol] = start, last, frame[PRICES]
        return frame, [*warnings, *running, *odd], last

    def _fetch(
        self, symbol: str, interval: str, since: datetime, stopped: threading.Event
    ) -> pd.DataFrame:
        """The source's bars, all of them; times are naive, those of daily bars their sessions'."""
        request = partial(self._source.fetch, symbol, interval, since, self._clock(interval))
        if isinstance(self._source, SlowToLoad):
            self._source.load()  # before the breaker takes the time of the request
        raw = self._circuit_breaker.ask(symbol, request, stopped)
        return _in_sessions(symbol, raw, interval)

    def outcome(self, symbol: str, dates: Iterable[datetime]) -> dict[datetime, float]:
        """What the closes of these sessions turned out to be, where the source already knows."""
        wanted = list(dates)
        if not wanted or not self._source.knows_outcomes:
            return {}
        raw = self._source.fetch(symbol, "1d", min(wanted), max(wanted))
        closes = clean(_in_sessions(symbol, raw, "1d"))[0]["close"]
        return {date: float(closes[date]) for date in wanted if date in closes.index}

    def _report(self, symbol: str, warnings: list[str]) -> None:
        """Log the warnings of a ticker, once."""
        if warnings and symbol not in self._warned:
            self._warned.add(symbol)
            # the ticker is a field of its own in a log of JSON lines
            logger.warning("%s: %s", symbol, "; ".join(warnings), extra={"symbol": symbol})


def _first_day(now: datetime, interval: str, bars: int) -> datetime:
    """From when on to ask for `bars` bars: five sessions in seven days, and none before 1950."""
    span = min(bar_length(interval) * 1.5 * bars, now - datetime(1950, 1, 31))
    return now - timedelta(days=30) - span


def _in_sessions(symbol: str, raw: pd.DataFrame, interval: str) -> pd.DataFrame:
    """The source's bars with naive times; a daily bar's is the midnight of its session."""
    times = naive_times(symbol, pd.DatetimeIndex(raw.index), interval)
    return raw.set_axis(times.rename("timestamp"), axis=0)
