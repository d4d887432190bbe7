"""Forecasts for bots: histories go to the Space, forecasts come back, or None with one warning."""

import logging
import operator
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

from tradingbot.errors import ConfigError, DataError, KronosError, SpaceError, SpaceUnavailable
from tradingbot.forecast import Forecast
from tradingbot.markets.candles import checked
from tradingbot.runtime.concurrency import in_background
from tradingbot.runtime.lookahead import refuse_in_backtest
from tradingbot.settings import Settings, check_secret, check_url
from tradingbot.space.transport import SpaceHTTP
from tradingbot.space.wire import SeriesRequest, decode, encode, envelope

if TYPE_CHECKING:
    from concurrent.futures import Future

    import pandas as pd
    import requests

    from tradingbot.data.service import DataService
    from tradingbot.typing import SessionFactory


logger = logging.getLogger(__name__)

BATCH_SERIES = 16  # what a crash can lose, and how often a progress bar moves
BATCH_BYTES = 4_000_000
IN_FLIGHT = 2  # requests at a time: while one is computed, the next one waits in the Space's queue

Answer = tuple[str, Forecast | KronosError]


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
        data: "DataService | None" = None,
        samples: int | None = None,
        settings: Settings | None = None,
        sessions: "SessionFactory | None" = None,
        timeout: float | None = None,
    ) -> None:
        settings = settings or Settings.from_env()
        url = check_url("space_url", space_url) if space_url else settings.space_url
        self.space_url = url
        self.samples = settings.samples if samples is None else samples
        self._source = settings.data_source
        self._data = data
        self._sources: dict[int, DataService] = {}
        self._sessions = sessions
        self._space: SpaceHTTP | None = None
        if url:
            self._space = SpaceHTTP(
                url,
                http=http,
                api_key=check_secret("api_key", api_key) if api_key else settings.api_key,
                hf_token=settings.hf_token,
                hf_space_repo=settings.hf_space_repo,
                timeout=timeout,
                timeouts=settings.timeouts,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the Space."""
        if self._space:
            self._space.close()

    # forecasts ---------------------------------------------------------------------------

    def predict(self, symbol: str, horizon: int = 5) -> "pd.DataFrame | None":
        """The next `horizon` daily bars, or None after one warning that names the cause.

        Columns: target_date, open, high, low, close, volume, close_p10, close_p50, close_p90,
        prob_up. `attrs["source"]` is "space", or "stored" when the Space could not answer and
        the database holds the forecast made from the latest complete session.
        `attrs["calibration"]` says what the bands were widened by, or "raw": nothing;
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
            reason = str(error).removeprefix(f"{symbol}: ")
            logger.warning("No Kronos forecast of %s: %s", symbol, reason)
            return None

    def forecast(
        self, symbol: str, horizon: int = 5, *, interval: str = "1d", seed: int | None = None
    ) -> "pd.DataFrame":
        """As `predict`, but from the Space only, and a failure is raised (see errors.py).

        Without `seed` the same candles give the same forecast; with one, you choose the draw.
        ValueError when `symbol` is no text or `horizon` no whole number from 1 on.
        """
        symbol = _ticker(symbol)
        [(_, answer)] = self.forecast_many([symbol], horizon, interval=interval, seed=seed)
        if isinstance(answer, KronosError):
            raise answer
        return self._frame(answer, "space")

    def forecast_many(
        self,
        symbols: "Iterable[str] | Mapping[str, pd.DataFrame]",
        horizon: int = 5,
        *,
        interval: str = "1d",
        seed: int | None = None,
    ) -> Iterator[Answer]:
        """(symbol, Forecast or KronosError) for each ticker, batch by batch as they arrive.

        A mapping brings its own histories; tickers alone are looked up in the data source.
        Bands are calibrated where the database has a calibration of the model. One bad ticker
        never spoils the others. ConfigError when there is no Space's address. The next requests
        are prepared and sent meanwhile; whoever stops listening stops that.
        """
        from tradingbot.postprocessing.repository import StoredCalibrations

        batches = self.forecast_batches(symbols, horizon, interval=interval, seed=seed)
        calibrations = StoredCalibrations(self._sessions)

        def calibrated(answer: Answer) -> Answer:
            symbol, forecast = answer
            if isinstance(forecast, KronosError):
                return answer
            return symbol, calibrations.apply(forecast)

        return map(calibrated, chain.from_iterable(batches))

    def forecast_batches(
        self,
        symbols: "Iterable[str] | Mapping[str, pd.DataFrame]",
        horizon: int = 5,
        *,
        interval: str = "1d",
        seed: int | None = None,
    ) -> Generator[list[Answer]]:
        """As `forecast_many`, for whoever has something to do once a batch, as a transaction.

        The bands are the model's own, raw.
        """
        refuse_in_backtest("KronosClient")
        horizon = _bars(horizon)
        if isinstance(symbols, str):  # else each letter would be a ticker
            symbols = [symbols]
        space = self._require_space()
        histories = symbols if isinstance(symbols, Mapping) else None
        return self._answers(space, self._requests(symbols, histories, horizon, interval, seed))

    def answers_to(self, requests: Iterable[SeriesRequest]) -> Generator[list[Answer]]:
        """As `forecast_batches`, for requests that are written already; one answer to each."""
        return self._answers(self._require_space(), requests)

    # the Space's state -------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """What the Space says about itself: model, boot_id, version …; SpaceError otherwise."""
        return self._require_space().health()

    def check_key(self) -> None:
        """ConfigError if the Space wants another API key than ours; SpaceError if it is gone."""
        self._require_space().check_key()

    def is_healthy(self) -> bool:
        """True when a forecast could be asked for now."""
        try:
            return self.health().get("status") == "ok"
        except KronosError:
            return False

    def wait_until_ready(
        self, timeout: float = 900.0, *, other_than: str | None = None
    ) -> dict[str, Any]:
        """Ask /health until it is ok and its boot_id is not `other_than`; returns its answer.

        SpaceUnavailable after `timeout` seconds; an address that is no Space is refused at once.
        """
        deadline = time.monotonic() + timeout
        pause, state = 0.1, "nothing yet"
        while True:
            try:
                health = self.health()
                if health.get("status") == "ok" and health.get("boot_id") != other_than:
                    return health
                state = f"status {health.get('status')!r}, boot {health.get('boot_id')!r}"
            except SpaceUnavailable as error:
                state = str(error)
            left = deadline - time.monotonic()
            if left <= 0:
                raise SpaceUnavailable(
                    f"{self.space_url} was not ready within {timeout:g} s: {state}"
                )
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, 5.0)

    # below: batches on their way -----------------------------------------------------------

    def _answers(
        self,
        space: SpaceHTTP,
        requests: Iterable[SeriesRequest | tuple[str, KronosError]],
    ) -> Generator[list[Answer]]:
        """The answers to each batch, in order. IN_FLIGHT requests are on their way at a time."""
        flight: deque[tuple[list[SeriesRequest], Future[list[Answer]]]] = deque()
        stopped = threading.Event()
        gone: SpaceUnavailable | None = None

        def land() -> list[Answer]:
            nonlocal gone
            batch, future = flight.popleft()
            try:
                return future.result()
            except SpaceError as error:
                if not gone and isinstance(error, SpaceUnavailable) and not self.is_healthy():
                    gone = error  # the other batches would only wait for the same end
                    stopped.set()
                return [(request.symbol, error) for request in batch]

        try:
            for item in _batches(requests):
                if isinstance(item, tuple):
                    yield [item]
                    continue
                landed = [land()] if len(flight) == IN_FLIGHT else []
                if gone:
                    landed += [land() for _ in range(len(flight))]
                    landed += [[(request.symbol, gone) for request in item]]
                else:
                    flight.append((item, in_background(partial(self._ask, space, item, stopped))))
                yield from landed
            while flight:
                yield land()
        finally:
            stopped.set()

    def _ask(
        self, space: SpaceHTTP, batch: list[SeriesRequest], stopped: threading.Event
    ) -> list[Answer]:
        results = space.predict_batch(envelope(batch), stopped)
        if len(results) != len(batch):
            raise SpaceUnavailable(
                f"{space.url} answered {len(results)} results to {len(batch)} requests"
            )
        made_at = datetime.now(UTC).replace(tzinfo=None)
        return [
            (request.symbol, decode(request, result, made_at=made_at))
            for request, result in zip(batch, results, strict=True)
        ]

    def _requests(
        self,
        symbols: Iterable[str],
        histories: "Mapping[str, pd.DataFrame] | None",
        horizon: int,
        interval: str,
        seed: int | None,
    ) -> Iterator[SeriesRequest | tuple[str, KronosError]]:
        """One a ticker; without candles it is an error."""
        for symbol in symbols:
            try:
                yield self._request(symbol, histories, horizon, interval, seed)
            except KronosError as error:
                yield symbol, error

    def _request(
        self,
        symbol: str,
        histories: "Mapping[str, pd.DataFrame] | None",
        horizon: int,
        interval: str,
        seed: int | None,
    ) -> SeriesRequest:
        from tradingbot.markets.calendars import next_sessions

        if not isinstance(symbol, str):
            raise DataError(f"{symbol!r}: expected a ticker, as text")
        if histories is not None:
            history = checked(symbol, histories[symbol], interval)
        else:
            history = self._data_for(horizon).history(symbol, interval=interval)
        # Daily targets are the exchange's sessions; within a day the Space goes on as the bars do.
        last = history.index[-1].to_pydatetime()
        targets = next_sessions(symbol, last, horizon) if interval == "1d" else []
        return encode(
            symbol,
            history,
            horizon=horizon,
            interval=interval,
            targets=targets,
            samples=self.samples,
            seed=seed,
        )

    def _data_for(self, horizon: int) -> "DataService":
        if self._data is not None:
            return self._data
        if horizon not in self._sources:  # the sample's clock depends on the horizon
            from tradingbot.data.service import DataService

            self._sources[horizon] = DataService(self._source, horizon=horizon)
        return self._sources[horizon]

    def _frame(self, forecast: Forecast, source: str) -> "pd.DataFrame":
        from tradingbot.evaluation.track_record import describe_track_record

        frame = forecast.to_frame(source)
        frame.attrs["track_record"] = describe_track_record(forecast, self._sessions)
        return frame

    def _stored(self, symbol: str, horizon: int) -> Forecast | None:
        from tradingbot.persistence.forecasts import stored_forecast

        try:
            now = self._data_for(horizon).now()
        except KronosError:  # no clock, no answer to what is latest
            return None
        return stored_forecast(symbol, horizon=horizon, now=now, sessions=self._sessions)

    def _require_space(self) -> SpaceHTTP:
        if not self._space:
            raise ConfigError(
                "KRONOS_SPACE_URL is not set: give the Space's address "
                "(https://owner-space.hf.space), or start one here with 'make serve'"
            )
        return self._space


def __getattr__(name: str) -> Any:
    """`kronos_forecast` is found here too, and costs LangChain only whom uses it."""
    if name == "kronos_forecast":
        from tradingbot.ai.forecast_tool import kronos_forecast

        return kronos_forecast
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _batches(
    requests: Iterable[SeriesRequest | tuple[str, KronosError]],
) -> Iterator[list[SeriesRequest] | tuple[str, KronosError]]:
    """Requests in batches of a bearable size; what could not be asked is an error between."""
    batch: list[SeriesRequest] = []
    for request in requests:
        if isinstance(request, tuple):
            yield request
            continue
        size = sum(len(other.body) for other in batch) + len(request.body)
        if batch and (len(batch) == BATCH_SERIES or size > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch


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
