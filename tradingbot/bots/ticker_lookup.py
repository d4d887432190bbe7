"""What a source of candles knows about held tickers, including ones no longer watched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from tradingbot.bots.split_factors import Basis, newest_closes
from tradingbot.data.service import DataService
from tradingbot.data.splits_and_dividends import Actions
from tradingbot.errors import DataError, DataUnavailable
from tradingbot.markets.calendars import latest_complete_session, session_close, sessions_between

DELISTED_AFTER = 20  # sessions without a bar: four weeks, longer than most trading halts
A_WEEK = timedelta(days=7)  # more than the time from a bar's start to its close

Frames = Mapping[str, "pd.DataFrame | DataError"]


@dataclass(frozen=True)
class TickerFacts:
    """The source's facts about a held ticker."""

    frame: pd.DataFrame | None  # the bot's bars, newest last
    closes: "pd.Series[float]"  # by time, in the position's interval, back to its basis
    actions: Actions | None  # since the basis; None: source out of reach, a later round asks again
    last_bar: datetime | None  # None: unknown
    missed: int  # sessions since the last bar

    @property
    def is_delisted(self) -> bool:
        """Return whether it has had no bar for so long that none is expected."""
        return self.missed >= DELISTED_AFTER

    @property
    def prices(self) -> dict[datetime, float]:
        """Return the newest closes by time, or {}."""
        return newest_closes(self.closes if self.frame is None else self.frame["close"])


class TickerLookup:
    """Looks up tickers in `data`. `fetch` returns a ticker's bars as the bot sees them."""

    def __init__(
        self, data: DataService, fetch: Callable[[str], pd.DataFrame], interval: str
    ) -> None:
        self._data, self._fetch, self._interval = data, fetch, interval

    def known(self, symbol: str, basis: Basis, frames: Frames) -> TickerFacts:
        """Return the facts; fetch more bars than `frames` have if a basis is older."""
        frame = frames[symbol] if symbol in frames else self.frame(symbol)
        bars = None if isinstance(frame, DataError) else frame
        since = min([*basis.closes, basis.as_of])
        closes = pd.Series(dtype="float64") if bars is None else bars["close"]
        if not _covers(bars, basis, self._interval):
            closes = self._closes(symbol, basis.interval, since - A_WEEK, closes)
        last_bar = self._last_bar(symbol, frame, basis)
        return TickerFacts(
            frame=bars,
            closes=closes,
            actions=self._actions(symbol, bars, basis.as_of),
            last_bar=last_bar,
            missed=0 if last_bar is None else self._missed(symbol, last_bar),
        )

    def frame(self, symbol: str) -> "pd.DataFrame | DataError":
        """Return the ticker's bars, or the error."""
        try:
            return self._fetch(symbol)
        except DataError as error:
            return error

    def since(self, symbol: str, day: datetime) -> pd.DataFrame:
        """Return all bars from this time on, regardless of the bot's period. Raises DataError."""
        return self._data.bars(symbol, interval=self._interval, since=day)

    def between(self, symbol: str, begin: datetime, end: datetime) -> pd.DataFrame:
        """Return bars from `begin` (inclusive) to `end` (exclusive). DataError if none."""
        bars = self.since(symbol, begin)
        found: pd.DataFrame = bars[bars.index < end]
        if found.empty:
            days = f"{begin:%Y-%m-%d} to {end - timedelta(days=1):%Y-%m-%d}"
            raise DataError(f"no bars from {days}: give other days", symbol=symbol)
        return found

    def with_actions(self, frames: Mapping[str, pd.DataFrame]) -> Mapping[str, pd.DataFrame]:
        """Return the frames with splits and dividends over all of their bars."""
        for symbol, frame in frames.items():
            if len(frame):
                first = frame.index[0].to_pydatetime()
                frame.attrs["actions"] = self._actions(symbol, frame, first)
        return frames

    def _closes(
        self, symbol: str, interval: str, since: datetime, otherwise: "pd.Series[float]"
    ) -> "pd.Series[float]":
        try:
            return self._data.closes(symbol, interval=interval, since=since)
        except DataError:
            return otherwise

    def _actions(self, symbol: str, bars: pd.DataFrame | None, since: datetime) -> Actions | None:
        """Return the actions delivered with the bars, or else ask the source; None: no answer."""
        actions = None if bars is None else bars.attrs.get("actions")
        if isinstance(actions, Actions) and (actions.since <= since or actions.splits is None):
            return actions
        try:
            return self._data.actions(symbol, since)
        except DataUnavailable:
            return None
        except DataError:
            return Actions(since, None, None)

    def _last_bar(
        self, symbol: str, frame: "pd.DataFrame | DataError", basis: Basis
    ) -> datetime | None:
        """Return when it was last traded, even if its bars are unusable or have ended."""
        if isinstance(frame, DataUnavailable):
            return None
        if isinstance(frame, DataError):
            try:
                frame, _, _ = self._data.inspect(symbol, interval=self._interval)
            except DataUnavailable:
                return None
            except DataError:
                return max([*basis.closes, basis.as_of])
        if frame.attrs.get("actions", True) is None:  # cached bars: the source did not answer
            return None
        last: datetime = frame.index[-1].to_pydatetime()
        return last

    def _missed(self, symbol: str, last_bar: datetime) -> int:
        try:
            latest = latest_complete_session(symbol, self._data.now())
            return sessions_between(symbol, last_bar, latest)
        except DataError:  # its exchange is unknown
            return 0


def bar_end(symbol: str, begin: datetime, interval: str) -> datetime:
    """Return when the bar that starts at this time is complete, naive UTC."""
    if interval == "1d":
        return session_close(symbol, begin)
    return begin + pd.Timedelta(interval).to_pytimedelta()


def _covers(bars: pd.DataFrame | None, basis: Basis, interval: str) -> bool:
    """Return whether the bars reach the basis, or contain some of the closes stored with it."""
    if bars is None or basis.interval != interval:
        return False
    if not basis.closes:
        return bool(bars.index[0] <= pd.Timestamp(basis.as_of))
    return sum(time in bars.index for time in basis.closes) >= min(2, len(basis.closes))
