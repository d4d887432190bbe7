"""The steps of the nightly job; `tradingbot.jobs.nightly` runs them in order."""

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, Protocol

import pandas as pd

from tradingbot.data.service import DataService
from tradingbot.errors import (
    DataError,
    KronosError,
)
from tradingbot.evaluation import scoring
from tradingbot.evaluation.close_outcomes import closes_of
from tradingbot.evaluation.event_outcomes import bars_of
from tradingbot.evaluation.event_scoring import score_events
from tradingbot.forecast import Forecast
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.options import JobOptions
from tradingbot.jobs.summary import PhaseTimer
from tradingbot.markets.calendars import latest_complete_session, sessions_between
from tradingbot.markets.fingerprint import bars_hash
from tradingbot.persistence.events import with_stored_events
from tradingbot.persistence.forecasts import already_stored, latest_stored
from tradingbot.persistence.transactions import retried
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings, Timeouts
from tradingbot.space.wire import SeriesRequest, Unsendable, prepared
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

INTERVAL = "1d"

Histories = dict[str, pd.DataFrame]
Batch = list[tuple[str, Forecast | KronosError]]


class Forecaster(Protocol):
    """The methods of a Space client that the job uses."""

    def health(self) -> dict[str, Any]: ...

    def check_key(self) -> None: ...

    def forecast_batches(
        self, requests: Iterable[SeriesRequest | Unsendable]
    ) -> Generator[Batch]: ...


def fetch(
    symbols: Sequence[str], data: DataService, reporter: ProgressReporter, *, max_staleness: int
) -> tuple[Histories, dict[str, DataError]]:
    """Return the histories to forecast from, and an error for each ticker without such a history.

    A history is too old if its newest bar is more than `max_staleness` sessions old.
    """
    reporter.step("fetch", "Fetching candles", total=len(symbols))
    found: Histories = {}
    failed: dict[str, DataError] = {}
    with closing(data.histories(symbols, interval=INTERVAL)) as answers:
        for symbol, history in answers:
            try:
                if isinstance(history, DataError):
                    raise history
                _check_fresh(symbol, history, data, max_staleness)
                found[symbol] = history
            except DataError as error:
                failed[symbol] = error
            reporter.advance()
    # in the order of `symbols`, not of arrival
    return {symbol: found[symbol] for symbol in symbols if symbol in found}, failed


def _check_fresh(symbol: str, history: pd.DataFrame, data: DataService, allowed: int) -> None:
    newest = history.index[-1].to_pydatetime()
    age = sessions_between(symbol, newest, latest_complete_session(symbol, data.now()))
    if age > allowed:
        raise DataError(
            f"its newest bar, of {newest:%Y-%m-%d}, is {age} sessions old; "
            f"KRONOS_MAX_STALENESS allows {allowed}",
            symbol=symbol,
        )


def read_stored(
    sessions: SessionFactory,
    histories: Histories,
    *,
    model: str,
    horizon: int,
    timeouts: Timeouts,
) -> dict[str, Forecast | None]:
    """Return the stored forecasts of this model from exactly these bars, by ticker."""
    as_of = {symbol: history.index[-1].to_pydatetime() for symbol, history in histories.items()}
    hashes = {symbol: bars_hash(history) for symbol, history in histories.items()}

    def read() -> dict[str, Forecast | None]:
        with sessions() as session:
            stored = already_stored(
                session,
                list(histories),
                as_of=as_of,
                model_name=model,
                interval=INTERVAL,
                horizon=horizon,
                bars=hashes,
            )
            found = {
                symbol: latest_stored(
                    session,
                    symbol,
                    interval=INTERVAL,
                    horizon=horizon,
                    as_of=as_of[symbol],
                    model_name=model,
                    close_at=histories[symbol]["close"].get,
                )
                for symbol in stored
            }
            made = with_stored_events(session, filter(None, found.values()))
            return found | {forecast.symbol: forecast for forecast in made}

    return retried(read, timeouts=timeouts)


def requests_for(
    histories: Histories, settings: Settings, options: JobOptions, *, model: str | None = None
) -> Iterator[SeriesRequest | Unsendable]:
    """Yield the requests to the Space, by ticker. `model` selects one of the Space's models."""
    return prepared(
        histories,
        histories.__getitem__,
        settings.horizon,
        interval=INTERVAL,
        samples=settings.samples,
        temperature=options.temperature,
        top_p=options.top_p,
        paths=bool(settings.events),
        model=model,
    )


def score_forecasts(
    data: DataService,
    database: JobDatabase,
    *,
    reporter: ProgressReporter,
    timer: PhaseTimer,
) -> None:
    """Score all tickers, unless another run is scoring or has scored since this run began.

    With several shards, the first shard that reaches this step scores the tickers of all shards.
    The forecasts are already stored, so an error is only reported. If a signal stops the scoring,
    the next run scores the remaining forecasts. `timer` has the start of the run, and counts the
    time as "score".
    """
    failure = "past forecasts could not be scored"
    try:
        with database.score_lock() as lock:
            if not lock.try_exclusive():
                return
            with database.sessions() as session:
                if scoring.scored_since(session, timer.created_at):
                    return
            known = data.by_the_wall_clock()
            with timer.phase("score"):
                scoring.score(database.sessions, closes_of(known), resume=True, reporter=reporter)
                score_events(database.sessions, bars_of(known))
    except KronosError as error:
        reporter.warn(f"{failure}: {type(error).__name__}: {_one_line(error)}")
    except Exception:  # even a bug must not make the night fail
        logger.exception(failure)
    finally:
        reporter.end()


def known_closes(
    data: DataService, forecasts: Iterable[Forecast]
) -> dict[str, Mapping[datetime, float]]:
    """Return realised closes by ticker, as far as the source has them.

    The source has closes for forecasts of past sessions. Such forecasts are made, for example,
    from the sample source or from old files.
    """
    known: dict[str, Mapping[datetime, float]] = {}
    for forecast in forecasts:
        try:
            dates = [bar.target_date for bar in forecast.bars]
            known[forecast.symbol] = data.outcome(forecast.symbol, dates)
        except DataError:
            continue  # optional in the report
    return known


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
