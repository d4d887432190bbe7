"""Forecasts for bots: histories go to the Space, forecasts come back, or None with one warning."""

import logging
import operator
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

from tradingbot.data.close_now import close_now
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError, KronosError
from tradingbot.evaluation.track_record import describe_track_record
from tradingbot.forecast import Forecast
from tradingbot.markets.own_candles import own_candles
from tradingbot.persistence.forecasts import stored_forecast
from tradingbot.postprocessing.repository import StoredPostprocessing
from tradingbot.runtime.clock import utcnow
from tradingbot.runtime.lookahead import refuse_in_backtest
from tradingbot.settings import Settings, check_secret, check_url
from tradingbot.space.client import Answer, SpaceClient
from tradingbot.space.wire import prepared

if TYPE_CHECKING:
    import pandas as pd
    import requests

    from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)


class KronosClient:
    """A Space's forecasts of tickers.

    What neither the arguments nor `settings` say is read from the environment: KRONOS_SPACE_URL,
    KRONOS_API_KEY, HF_TOKEN and HF_SPACE_REPO (for a private Space), KRONOS_DATA_SOURCE,
    KRONOS_SAMPLES. Nothing is opened before the first call. `http` is a requests.Session of your
    own, which other threads will use and nobody closes; `sessions` makes a database session.
    `timeout` is the limit of one answer in seconds, 300 by default.

    >>> with KronosClient("http://127.0.0.1:7860", data=DataService("sample")) as client:
    ...     forecast = client.predict("AAPL", horizon=5)  # a DataFrame, or None
    """

    def __init__(
        self,
        space_url: str | None = None,
        *,
        http: "requests.Session | None" = None,
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
        self._space: SpaceClient | None = None
        with suppress(ConfigError):  # `space` raises it: stored forecasts need no Space
            self._space = SpaceClient.from_settings(settings, http=http, timeout=timeout)
        self._data = data
        self._sources: dict[int, DataService] = {}
        self._sessions = sessions

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the Space."""
        if self._space:
            self._space.close()

    @property
    def space(self) -> SpaceClient:
        """The client of the Space alone. Raises ConfigError when there is no Space's address."""
        return self._space or SpaceClient.from_settings(self._settings)

    # forecasts ---------------------------------------------------------------------------

    def predict(self, symbol: str, horizon: int = 5) -> "pd.DataFrame | None":
        """The next `horizon` daily bars, or None after one warning that names the cause.

        Columns: target_date, open, high, low, close, volume, close_p10, close_p50, close_p90,
        prob_up. `attrs["source"]` is "space", or "stored" when the Space could not answer and
        the database holds the forecast made from the latest complete session.
        open to volume are Kronos' own means; the close_p… and prob_up are what the record makes of
        its forecast: `attrs["calibration"]` says "combined …", "conformal …" (as wide as they have
        to be) or "raw", and the column kronos_share how much of them is Kronos' own;
        `attrs["track_record"]`, in a sentence, how good this model's forecasts were.
        """
        refuse_in_backtest("KronosClient")
        try:
            symbol, horizon = _ticker(symbol), _bars(horizon)
        except ValueError as error:
            logger.warning("No Kronos forecast: %s", error)
            return None
        try:
            return self.forecast(symbol, horizon)
        except KronosError as error:
            stored = self._stored(symbol, horizon)
            if stored is not None:
                logger.info("%s: the stored forecast stands in: %s", symbol, error)
                return self._frame(stored, "stored")
            logger.warning("No Kronos forecast of %s: %s", symbol, error.reason)
            return None

    def forecast(
        self,
        symbol: str,
        horizon: int = 5,
        *,
        history: Any = None,
        interval: str = "1d",
        seed: int | None = None,
    ) -> "pd.DataFrame":
        """As `predict`, but from the Space only, and a failure is raised (see errors.py).

        `history` are candles of your own, as `forecast_many` takes them; without them they are
        looked up in the data source.
        Without `seed` the same candles give the same forecast; with one, you choose the draw.
        ValueError when `symbol` is no text or `horizon` no whole number from 1 on.
        """
        symbol = _ticker(symbol)
        asked = [symbol] if history is None else {symbol: history}
        [(_, answer)] = self.forecast_many(asked, horizon, interval=interval, seed=seed)
        if isinstance(answer, KronosError):
            raise answer
        return self._frame(answer, "space")

    def forecast_many(
        self,
        symbols: "Iterable[str] | Mapping[str, Any]",
        horizon: int = 5,
        *,
        interval: str = "1d",
        seed: int | None = None,
    ) -> Generator[Answer]:
        """(symbol, Forecast or KronosError) for each ticker, batch by batch as they arrive.

        A mapping brings its own histories: frames as yfinance gives them, with a column of dates,
        or of another library (see `tradingbot.markets.frames.normalised`). Tickers alone are
        looked up in the data source.
        Quantiles are combined with plain forecasts, or calibrated, as the database's record of the
        model allows (`Forecast.calibration`, `shares`). One bad ticker never spoils the others.
        ConfigError when there is no Space's address. The next requests are prepared and sent
        meanwhile; close the generator to stop that.
        """
        refuse_in_backtest("KronosClient")
        horizon = _bars(horizon)
        if isinstance(symbols, str):  # else each letter would be a ticker
            symbols = [symbols]

        histories: dict[str, pd.DataFrame] = {}  # of the tickers whose answer is still to come

        def history_of(symbol: str) -> "pd.DataFrame":
            histories[symbol] = known = candles_of(symbol)
            return known

        def candles_of(symbol: str) -> "pd.DataFrame":
            if isinstance(symbols, Mapping):
                return own_candles(
                    symbol,
                    symbols[symbol],
                    interval,
                    now=utcnow(),
                    max_jump=self._settings.max_jump,
                )
            return self._data_for(horizon).history(symbol, interval=interval)

        requests = prepared(
            symbols, history_of, horizon, interval=interval, samples=self.samples, seed=seed
        )
        return self._served(self.space.forecast_batches(requests), histories)

    def _served(
        self, batches: Generator[list[Answer]], histories: "dict[str, pd.DataFrame]"
    ) -> Generator[Answer]:
        postprocessing = StoredPostprocessing(self._sessions)
        with closing(batches):
            for symbol, answer in chain.from_iterable(batches):
                bars = histories.pop(symbol, None)
                if isinstance(answer, Forecast) and bars is not None:
                    answer = postprocessing.apply(answer, bars)
                yield symbol, answer

    # the Space's state -------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """What the Space says about itself: model, boot_id, version …; SpaceError otherwise."""
        return self.space.health()

    def is_healthy(self) -> bool:
        """True when a forecast could be asked for now."""
        return self._space is not None and self._space.is_healthy()

    def wait_until_ready(
        self, timeout: float = 900.0, *, other_than: str | None = None
    ) -> dict[str, Any]:
        """Ask /health until it is ok and its boot_id is not `other_than`; returns its answer.

        SpaceUnavailable after `timeout` seconds; an address that is no Space is refused at once.
        """
        return self.space.wait_until_ready(timeout, other_than=other_than)

    # parts of a forecast -----------------------------------------------------------------

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

    def _frame(self, forecast: Forecast, source: str) -> "pd.DataFrame":
        frame = forecast.to_frame(source)
        frame.attrs["track_record"] = describe_track_record(forecast, self._sessions)
        return frame

    def _stored(self, symbol: str, horizon: int) -> Forecast | None:
        try:
            data = self._data_for(horizon)
            now = data.now()
        except KronosError:  # no clock, no answer to what is latest
            return None
        return stored_forecast(
            symbol,
            horizon=horizon,
            now=now,
            sessions=self._sessions,
            close_at=close_now(data, symbol),
        )


def _ticker(symbol: str) -> str:
    if not isinstance(symbol, str) or not symbol.strip():
        raise ValueError(f"symbol={symbol!r}: expected a ticker, such as 'SPY'")
    return symbol.strip().upper()


def _bars(horizon: int) -> int:
    """Whole numbers of any type, numpy's too."""
    try:
        number = 0 if isinstance(horizon, bool) else operator.index(horizon)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"horizon={horizon!r}: expected a whole number, at least 1")
    return number
