"""Common parts of both clients: settings, histories, stored forecasts and frames."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

import pandas as pd

from tradingbot.client.frames import ForecastFrame
from tradingbot.data.adjusted_close import adjusted_close
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError, DataError, KronosError
from tradingbot.evaluation.track_record import describe_track_record
from tradingbot.forecast import Forecast
from tradingbot.markets.supplied_candles import supplied_candles
from tradingbot.path_events.grammar import Event
from tradingbot.persistence.forecasts import stored_forecast
from tradingbot.postprocessing.paths import with_events
from tradingbot.postprocessing.repository import StoredPostprocessing
from tradingbot.runtime.clock import utcnow
from tradingbot.settings import TEMPERATURE, TOP_P, Settings
from tradingbot.settings.variables import check_secret, check_url
from tradingbot.space.address import SpaceAddress
from tradingbot.space.async_client import AsyncSpaceClient
from tradingbot.space.client import SpaceClient
from tradingbot.space.wire import SeriesRequest, Unsendable, prepared

if TYPE_CHECKING:
    from tradingbot.typing import SessionFactory

Http = TypeVar("Http")  # the caller's session
Space = TypeVar("Space", SpaceClient, AsyncSpaceClient)
RECENT = 60  # closes that a chart shows before the forecast


class ForecastOptions(TypedDict, total=False):
    """Keyword arguments of `forecast_many` and of the methods based on it."""

    interval: str
    samples: int | None
    temperature: float
    top_p: float
    seed: int | None
    paths: bool
    events: str | Iterable[str]
    forecast: str


class ClientBase(Generic[Http, Space]):
    """Builds requests and processes answers. Subclasses send the requests."""

    _kind: type[Any]  # the class of `space`

    def __init__(
        self,
        space_url: str | None = None,
        *,
        http: Http | None = None,
        api_key: str | None = None,
        data: DataService | None = None,
        samples: int | None = None,
        settings: Settings | None = None,
        sessions: "SessionFactory | None" = None,
        timeout: float | None = None,
    ) -> None:
        settings = settings or Settings.from_env()
        if space_url:
            settings = replace(settings, space_url=check_url("space_url", space_url))
        if api_key:
            settings = replace(
                settings, api_key=check_secret("api_key", api_key), space_is_named=True
            )
        self.space_url = settings.space_url
        self.samples = settings.samples if samples is None else samples
        self._settings = settings
        self._data = data
        self._sources: dict[int, DataService] = {}
        self._sessions = sessions
        self._space: Space | None = None
        with suppress(ConfigError):  # raised later by `space`: stored forecasts need no Space
            self._space = self._kind(SpaceAddress.of(settings, timeout=timeout), http=http)

    @property
    def space(self) -> Space:
        """Return the client of the Space. Raises ConfigError without a Space's address."""
        return self._space or self._kind(SpaceAddress.of(self._settings))

    def __repr__(self) -> str:
        url = "no Space" if self.space_url is None else repr(self.space_url)
        source = (
            "its own data" if self._data is not None else f"data={self._settings.data_source!r}"
        )
        return f"{type(self).__name__}({url}, samples={self.samples}, {source})"

    def _asked(
        self,
        symbols: "Iterable[str] | Mapping[str, Any]",
        horizon: int,
        *,
        interval: str,
        sampling: Mapping[str, Any],
        combined: bool,
        events: tuple[Event, ...],
    ) -> "Asked":
        if isinstance(symbols, str):  # otherwise each letter would be a ticker
            symbols = [symbols]

        def history_of(symbol: str) -> pd.DataFrame:
            if isinstance(symbols, Mapping):
                return supplied_candles(
                    symbol,
                    symbols[symbol],
                    interval,
                    now=utcnow(),
                    max_jump=self._settings.max_jump,
                )
            return self._data_for(horizon).history(symbol, interval=interval)

        # calibration and weights were learnt from paths drawn with these settings only
        usual = (sampling["temperature"], sampling["top_p"]) == (TEMPERATURE, TOP_P)
        postprocessing = StoredPostprocessing(self._sessions, combined=combined) if usual else None
        return Asked(
            symbols,
            history_of,
            postprocessing,
            horizon,
            events=events,
            interval=interval,
            **sampling,
        )

    def _data_for(self, horizon: int) -> DataService:
        if self._data is not None:
            return self._data
        if horizon not in self._sources:  # the sample's clock depends on the horizon
            self._sources[horizon] = DataService(
                self._settings.data_source,
                horizon=horizon,
                timeouts=self._settings.timeouts,
                max_jump=self._settings.max_jump,
            )
        return self._sources[horizon]

    def _frame(self, forecast: Forecast, source: str, levels: Iterable[float]) -> ForecastFrame:
        frame = ForecastFrame.of(forecast, source, levels)
        frame.attrs["track_record"] = describe_track_record(forecast, self._sessions)
        return frame

    def _stored(self, symbol: str, horizon: int, *, combined: bool) -> Forecast | None:
        """Return the stored forecast as of the latest complete session, in today's prices."""
        try:
            data = self._data_for(horizon)
            now = data.now()
        except KronosError:  # without a clock the latest session is unknown
            return None
        found = stored_forecast(
            symbol,
            horizon=horizon,
            now=now,
            sessions=self._sessions,
            close_at=adjusted_close(data, symbol),
        )
        try:
            return found if found is None or combined else found.uncombined()
        except DataError:  # the stored forecast is combined already
            return None


class Asked:
    """The tickers of one call: builds their `requests` one by one, and processes the answers.

    A ticker's history is kept from its request to its answer.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        history_of: Callable[[str], pd.DataFrame],
        postprocessing: StoredPostprocessing | None,
        horizon: int,
        *,
        events: tuple[Event, ...],
        paths: bool,
        **options: Any,
    ) -> None:
        self._events = events
        self._keep_paths = paths
        self._histories: dict[str, deque[pd.DataFrame]] = defaultdict(deque)
        self._postprocessing = postprocessing

        def kept(symbol: str) -> pd.DataFrame:
            history = history_of(symbol)
            self._histories[symbol].append(history)
            return history

        self.requests: Iterator[SeriesRequest | Unsendable] = prepared(
            symbols, kept, horizon, paths=paths or bool(events), **options
        )

    def served(self, symbol: str, answer: Forecast | KronosError) -> Forecast | KronosError:
        """Return the answer as served: combined, calibrated or raw, as far as outcomes allow."""
        if isinstance(answer, KronosError):
            return answer
        history = self._histories[symbol].popleft()
        answer = replace(answer, recent=_recent(history))
        if self._postprocessing is not None:
            answer = self._postprocessing.apply(answer, history)
        try:
            return with_events(answer, self._events, keep_paths=self._keep_paths)
        except DataError as error:
            return error


def _recent(history: pd.DataFrame) -> tuple[tuple[datetime, float], ...]:
    closes = history["close"].iloc[-RECENT:]
    times = pd.DatetimeIndex(closes.index).to_pydatetime()
    return tuple(zip(times, map(float, closes), strict=True))
