"""Forecasts for bots: send histories to a Space, and return forecasts."""

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
    """Forecasts of tickers from a Space.

    Settings that are neither arguments nor in `settings` are read from the environment:
    KRONOS_SPACE_URL, KRONOS_API_KEY, HF_TOKEN and HF_SPACE_REPO (for a private Space),
    KRONOS_DATA_SOURCE, KRONOS_SAMPLES. No connection is opened before the first call.

    Args:
        http: Your own requests.Session. Other threads use it; the client does not close it.
        sessions: Makes database sessions.
        timeout: Seconds to wait for one answer, 300 by default.

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
        """Return the next `horizon` daily bars, or None after one warning that names the cause.

        Columns: target_date, open, high, low, close, volume, close_p10, close_p50, close_p90,
        prob_up, kronos_share. open to volume are means of Kronos' own paths. The columns close_p…
        and prob_up are the served distribution, which is calibrated and combined with simple
        forecasters according to past outcomes. kronos_share is Kronos' weight in it.

        `attrs["source"]` is "space", or "stored" if the Space could not answer and the database has
        the forecast as of the latest complete session. `attrs["calibration"]` is "combined …",
        "conformal …" (widths calibrated) or "raw". `attrs["track_record"]` is a sentence on how
        good this model's forecasts were. With `forecast="kronos"` nothing is combined.

        Raises:
            ValueError: `symbol` is not text, or `horizon` is not a whole number from 1.
        """
        refuse_in_backtest("KronosClient")
        symbol, horizon, combined = ticker(symbol), bars(horizon), is_combined(forecast)
        try:
            return self.forecast(symbol, horizon, forecast=forecast)
        except KronosError as error:
            stored = self._stored(symbol, horizon, combined=combined)
            if stored is not None:
                logger.info("%s: using the stored forecast: %s", symbol, error)
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
        """Return a forecast from the Space.

        Unlike `predict`, raise an error of errors.py if the request fails.

        Without `seed`, equal candles give equal forecasts; a seed chooses other paths.

        Args:
            history: Your own candles, as `forecast_many` takes them. Default: from the data source.
            levels: Quantile levels from 0.05 to 0.95. Each becomes a column: close_p10 for 0.1.
            samples: Number of sample paths.
            temperature, top_p: How tokens are drawn. With values other than the job's, the
                quantiles are the model's own, because no outcomes are known for these values.
            paths: Return the paths too, as the array `paths`, moved onto the served quantiles rank
                by rank.
            forecast: "kronos" for the model's own quantiles, calibrated and not combined.
            events: Events such as "touch +2%" or "reach +3% before -2%". Their probabilities, from
                the same moved paths, are columns of these names; the frame's `events` has their
                errors (see `tradingbot.path_events`).

        Raises:
            ValueError: An argument is invalid.
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
        """Yield (symbol, Forecast or KronosError) for each ticker, as batches arrive.

        `symbols` are tickers, looked up in the data source, or a mapping of tickers to histories:
        frames of yfinance, frames with a column of dates, or of another library (see
        `tradingbot.markets.frames.normalised`). Other arguments are those of `forecast`. Quantiles
        are calibrated and combined as stored in the database for this model
        (`Forecast.calibration`, `shares`). An error of one ticker does not affect the others.
        Further requests are prepared and sent in the background. Close the generator to stop them.

        Raises:
            ConfigError: No address of a Space is set.
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
        """Return the forecasts of all tickers in a frame of candles, as one long frame.

        The result has a row per ticker and future bar: the ticker, its `target_date`, and the
        columns of `forecast`, named as in the given frame. `attrs["errors"]` maps tickers without a
        forecast to the reason.

        Args:
            frame: A long frame, a wide one as from `yfinance.download`, or a mapping of tickers to
                frames.
            id_column, timestamp_column: The columns or index levels of tickers and times. Default:
                found by their usual names.
            nixtla: Name the columns as Nixtla's libraries do: unique_id, ds, Kronos, Kronos-lo-80 …
            options: As for `forecast_many`.

        Raises:
            KronosError: No ticker has a forecast; the first ticker's error.
            ValueError: An argument is invalid.
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
        """Return the Space's /health: model, boot_id, version … Raises SpaceError."""
        return self.space.health()

    def is_healthy(self) -> bool:
        """Return whether a forecast can be requested now."""
        return self._space is not None and self._space.is_healthy()

    def wait_until_ready(
        self, timeout: float = 900.0, *, other_than: str | None = None
    ) -> dict[str, Any]:
        """Poll /health until it is ok and its boot_id is not `other_than`; return the answer.

        Raises SpaceUnavailable after `timeout` seconds, or at once if the address is not a Space.
        """
        return self.space.wait_until_ready(timeout, other_than=other_than)
