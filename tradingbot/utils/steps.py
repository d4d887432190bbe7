"""The steps of the nightly job, each a function; `tradingbot.utils.job` puts them in order."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from datetime import datetime
from typing import TYPE_CHECKING

from tradingbot.errors import DataError
from tradingbot.forecast import Forecast
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import signals_held
from tradingbot.settings import Settings
from tradingbot.utils.report import Report

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.orm import Session

    from tradingbot.data.service import DataService


Sessions = Callable[[], "AbstractContextManager[Session]"]
INTERVAL = "1d"


def fetch(
    settings: Settings, report: Report, data: "DataService", narrator: ProgressReporter
) -> "dict[str, pd.DataFrame]":
    """The histories that can be forecast from; the other tickers are failures of the report."""
    from tradingbot.markets.calendars import latest_complete_session, sessions_between

    narrator.step("fetch", "Fetching candles", total=len(report.symbols))
    found: dict[str, pd.DataFrame] = {}
    with closing(data.histories(report.symbols, interval=INTERVAL)) as answers:
        for symbol, history in answers:
            try:
                if isinstance(history, DataError):
                    raise history
                newest = history.index[-1].to_pydatetime()
                age = sessions_between(symbol, newest, latest_complete_session(symbol, data.now()))
                if age > settings.max_staleness:
                    raise DataError(
                        f"{symbol}: its newest bar, of {newest:%Y-%m-%d}, is {age} sessions old; "
                        f"KRONOS_MAX_STALENESS allows {settings.max_staleness}"
                    )
                found[symbol] = history
            except DataError as error:
                report.fail(symbol, error)
            narrator.advance()
    # in the order of the tickers, whichever came first
    return {symbol: found[symbol] for symbol in report.symbols if symbol in found}


def take_stored(
    settings: Settings, report: Report, histories: "dict[str, pd.DataFrame]", sessions: Sessions
) -> "dict[str, pd.DataFrame]":
    """Move what is stored for this model and these newest bars to the report; the rest is left."""
    from tradingbot.persistence.forecasts import already_stored, latest_stored
    from tradingbot.runtime.retry import retried

    model, horizon = report.model, settings.horizon
    as_of = {symbol: history.index[-1].to_pydatetime() for symbol, history in histories.items()}
    assert model is not None

    def read() -> dict[str, Forecast | None]:
        with sessions() as session:
            there = already_stored(
                session,
                list(histories),
                as_of=as_of,
                model_name=model,
                interval=INTERVAL,
                horizon=horizon,
            )
            return {
                symbol: latest_stored(
                    session,
                    symbol,
                    interval=INTERVAL,
                    horizon=horizon,
                    as_of=as_of[symbol],
                    model_name=model,
                )
                for symbol in there
            }

    stored = retried(read)
    report.there = set(stored)
    report.forecasts |= {symbol: forecast for symbol, forecast in stored.items() if forecast}
    return {symbol: bars for symbol, bars in histories.items() if symbol not in stored}


def store(report: Report, forecasts: Sequence[Forecast], sessions: Sessions | None) -> None:
    """Commit one batch, so that a crash keeps it, and count it.

    A database that is away for a while is waited for.
    """
    from tradingbot.persistence.forecasts import store_forecasts
    from tradingbot.runtime.retry import retried

    def write() -> None:
        with signals_held():  # else one between the two would make the report too low
            rows = 0
            if sessions is not None:
                with sessions() as session:
                    rows = store_forecasts(session, forecasts)
            report.rows += rows
            report.made |= {forecast.symbol for forecast in forecasts}
            report.forecasts |= {forecast.symbol: forecast for forecast in forecasts}

    retried(write)


def known_closes(
    data: "DataService", forecasts: Iterable[Forecast]
) -> dict[str, dict[datetime, float]]:
    """What really happened, where the data source already knows: the samples and old files do."""
    known = {}
    for forecast in forecasts:
        try:
            dates = [bar.target_date for bar in forecast.bars]
            known[forecast.symbol] = data.outcome(forecast.symbol, dates)
        except DataError:
            continue  # the report can do without
    return known
