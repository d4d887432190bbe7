"""Forecasts for bots: histories go to the Space, forecasts come back, or None with one warning."""

import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, Unpack

from tradingbot.client.base import Asked, ClientBase, ForecastOptions
from tradingbot.client.frames import ForecastFrame
from tradingbot.client.long_frames import LongFrame
from tradingbot.client.validation import (
    bars,
    is_combined,
    path_events,
    quantile_levels,
    sampling,
    ticker,
)
from tradingbot.errors import KronosError
from tradingbot.forecast import LEVELS
from tradingbot.runtime.lookahead import refuse_in_backtest
from tradingbot.settings import TEMPERATURE, TOP_P
from tradingbot.space.client import Answer, SpaceClient

if TYPE_CHECKING:
    import pandas as pd
    import requests  # noqa: F401 - it is named in a string

logger = logging.getLogger(__name__)


class KronosClient(ClientBase["requests.Session", SpaceClient]):
    """A Space's forecasts of tickers.

    What neither the arguments nor `settings` say is read from the environment: KRONOS_SPACE_URL,
    KRONOS_API_KEY, HF_TOKEN and HF_SPACE_REPO (for a private Space), KRONOS_DATA_SOURCE,
    KRONOS_SAMPLES. Nothing is opened before the first call. `http` is a requests.Session of your
    own, which other threads will use and nobody closes; `sessions` makes a database session.
    `timeout` is the limit of one answer in seconds, 300 by default.

    >>> with KronosClient("http://127.0.0.1:7860", data=DataService("sample")) as client:
    ...     forecast = client.predict("AAPL", horizon=5)  # a DataFrame, or None
    """

    _kind = SpaceClient

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the Space."""
        if self._space:
            self._space.close()

    # forecasts ---------------------------------------------------------------------------

    def predict(
        self, symbol: str, horizon: int = 5, *, forecast: str = "combined"
    ) -> ForecastFrame | None:
        """The next `horizon` daily bars, or None after one warning that names the cause.

        Columns: target_date, open, high, low, close, volume, close_p10, close_p50, close_p90,
        prob_up. `attrs["source"]` is "space", or "stored" when the Space could not answer and
        the database holds the forecast made from the latest complete session.
        open to volume are Kronos' own means; the close_p… and prob_up are what the record makes of
        its forecast: `attrs["calibration"]` says "combined …", "conformal …" (as wide as they have
        to be) or "raw", and the column kronos_share how much of them is Kronos' own;
        `attrs["track_record"]`, in a sentence, how good this model's forecasts were. With
        `forecast="kronos"` nothing is combined.

        Raises:
            ValueError: `symbol` is no text or `horizon` no whole number from 1 on.
        """
        refuse_in_backtest("KronosClient")
        symbol, horizon, combined = ticker(symbol), bars(horizon), is_combined(forecast)
        try:
            return self.forecast(symbol, horizon, forecast=forecast)
        except KronosError as error:
            stored = self._stored(symbol, horizon, combined=combined)
            if stored is not None:
                logger.info("%s: the stored forecast stands in: %s", symbol, error)
                return self._frame(stored, "stored", LEVELS)
            logger.warning("No Kronos forecast of %s: %s", symbol, error.reason)
            return None

    def forecast(
        self,
        symbol: str,
        horizon: int = 5,
        *,
        history: Any = None,
        interval: str = "1d",
        levels: Iterable[float] = LEVELS,
        samples: int | None = None,
        temperature: float = TEMPERATURE,
        top_p: float = TOP_P,
        seed: int | None = None,
        paths: bool = False,
        events: str | Iterable[str] = (),
        forecast: str = "combined",
    ) -> ForecastFrame:
        """As `predict`, but from the Space only, and a failure is raised (see errors.py).

        `history` are candles of your own, as `forecast_many` takes them; without them they are
        looked up in the data source.
        `levels` from 0.05 to 0.95 become columns: close_p10 for 0.1. `samples` paths are drawn at
        `temperature` from the likeliest tokens that make up `top_p`; with `paths=True` they come
        along, as the array `paths`, moved onto the quantiles rank by rank. With another temperature
        or top_p than the job's the quantiles are the model's own: the record is not of such
        forecasts. With `forecast="kronos"` they are its own, calibrated, and not combined.
        `events` are questions about the paths, such as "touch +2%" or "reach +3% before -2%"; the
        answers, read off the same moved paths, are columns of their names, and with their error in
        `events` of the frame (see `tradingbot.path_events`).
        Without `seed` the same candles give the same forecast; with one, you choose the draw.

        Raises:
            ValueError: An argument is not one of those.
        """
        symbol, levels = ticker(symbol), quantile_levels(levels)
        asked = [symbol] if history is None else {symbol: history}
        [(_, answer)] = self.forecast_many(
            asked,
            horizon,
            interval=interval,
            samples=samples,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            paths=paths,
            events=events,
            forecast=forecast,
        )
        if isinstance(answer, KronosError):
            raise answer
        return self._frame(answer, "space", levels)

    def forecast_many(
        self,
        symbols: "Iterable[str] | Mapping[str, Any]",
        horizon: int = 5,
        *,
        interval: str = "1d",
        samples: int | None = None,
        temperature: float = TEMPERATURE,
        top_p: float = TOP_P,
        seed: int | None = None,
        paths: bool = False,
        events: str | Iterable[str] = (),
        forecast: str = "combined",
    ) -> Generator[Answer]:
        """(symbol, Forecast or KronosError) for each ticker, batch by batch as they arrive.

        A mapping brings its own histories: frames as yfinance gives them, with a column of dates,
        or of another library (see `tradingbot.markets.frames.normalised`). Tickers alone are
        looked up in the data source. The other arguments are those of `forecast`.
        Quantiles are combined with plain forecasts, or calibrated, as the database's record of the
        model allows (`Forecast.calibration`, `shares`). One bad ticker never spoils the others.
        ConfigError when there is no Space's address. The next requests are prepared and sent
        meanwhile; close the generator to stop that.
        """
        refuse_in_backtest("KronosClient")
        drawn = sampling(
            samples=self.samples if samples is None else samples,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            paths=paths,
        )
        asked = self._asked(
            symbols,
            bars(horizon),
            interval=interval,
            sampling=drawn,
            combined=is_combined(forecast),
            events=path_events(events),
        )
        return self._served(self.space.forecast_batches(asked.requests), asked)

    def forecast_frame(
        self,
        frame: Any,
        horizon: int = 5,
        *,
        id_column: str | None = None,
        timestamp_column: str | None = None,
        levels: Iterable[float] = LEVELS,
        nixtla: bool = False,
        **options: Unpack[ForecastOptions],
    ) -> "pd.DataFrame":
        """The forecasts of all tickers of a frame of candles, as one long frame.

        `id_column` holds the tickers and `timestamp_column` the times, both as columns or levels of
        the index; without them those of the usual names are found. A wide frame, as
        `yfinance.download` gives it, and a mapping of tickers to frames do too.
        The answer has a row a ticker and future bar: the ticker, its
        `target_date` and the columns of `forecast`, under the names of the frame's columns that
        were given. With `nixtla`, the columns are those of Nixtla's libraries: unique_id, ds,
        Kronos, Kronos-lo-80 … `options` are those of `forecast_many`.

        `attrs["errors"]` names the tickers without a forecast, and why.

        Raises:
            KronosError: No ticker has a forecast; the first ticker's error.
            ValueError: An argument is not one of those.
        """
        levels = quantile_levels(levels)
        asked = LongFrame.of(frame, id_column, timestamp_column)
        answers = dict(self.forecast_many(asked.histories, horizon, **options))
        return asked.answer(answers, levels=levels, nixtla=nixtla)

    def _served(self, batches: Generator[list[Answer]], asked: Asked) -> Generator[Answer]:
        with closing(batches):
            for symbol, answer in chain.from_iterable(batches):
                yield symbol, asked.served(symbol, answer)

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
