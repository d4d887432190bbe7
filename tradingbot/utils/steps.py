"""The steps of the nightly job, each a function; `tradingbot.utils.job` puts them in order."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from tradingbot.utils.errors import DataError
from tradingbot.utils.forecast import Forecast
from tradingbot.utils.narrator import Narrator
from tradingbot.utils.report import Report
from tradingbot.utils.settings import Settings
from tradingbot.utils.signals import signals_held

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.orm import Session

    from tradingbot.utils.data_service import DataService
    from tradingbot.utils.kronos_client import KronosClient

Sessions = Callable[[], "AbstractContextManager[Session]"]
INTERVAL = "1d"


def fetch(
    settings: Settings, report: Report, data: "DataService", narrator: Narrator
) -> "dict[str, pd.DataFrame]":
    """The histories that can be forecast from; the other tickers are failures of the report."""
    from tradingbot.utils.calendars import latest_complete_session, sessions_between

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
    settings: Settings, report: Report, histories: "dict[str, pd.DataFrame]", session: "Session"
) -> "dict[str, pd.DataFrame]":
    """Move what is stored for this model and these newest bars to the report; the rest is left."""
    from tradingbot.utils.predictions import already_stored, latest_stored

    as_of = {symbol: history.index[-1].to_pydatetime() for symbol, history in histories.items()}
    assert report.model is not None
    report.there = already_stored(
        session,
        list(histories),
        as_of=as_of,
        model_name=report.model,
        interval=INTERVAL,
        horizon=settings.horizon,
    )
    for symbol in report.there:
        stored = latest_stored(
            session,
            symbol,
            interval=INTERVAL,
            horizon=settings.horizon,
            as_of=as_of[symbol],
            model_name=report.model,
        )
        if stored is not None:
            report.forecasts[symbol] = stored
    return {symbol: bars for symbol, bars in histories.items() if symbol not in report.there}


def store(report: Report, forecast: Forecast, sessions: Sessions | None) -> None:
    """Commit one ticker's forecast, so that a crash keeps it, and count it."""
    from tradingbot.utils.predictions import store_forecasts

    with signals_held():  # else one between the two would make the report too low
        if sessions is not None:
            with sessions() as session:
                rows = store_forecasts(session, [forecast])
            report.rows += rows
        report.made.add(forecast.symbol)
        report.forecasts[forecast.symbol] = forecast


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


@contextmanager
def open_space(settings: Settings, *, local: bool, narrator: Narrator) -> "Iterator[KronosClient]":
    """A client of a Space that is up: of this machine, of the Hub, or one that runs anyway."""
    from tradingbot.utils.kronos_client import KronosClient

    if local:
        from tradingbot.utils.local_space import local_space

        narrator.step("wake", "Starting a Space on this machine")
        with (
            local_space(timeout=settings.wake_timeout, say=narrator.say) as url,
            KronosClient(url, settings=settings) as client,
        ):
            yield client
        return
    with KronosClient(settings=settings) as client:
        if settings.hf_token is None:
            narrator.step("wake", f"Waiting for {settings.space_url}")
            client.wait_until_ready(settings.wake_timeout)
            yield client
            return
        from tradingbot.utils.hf_space import HubSpace, running_space

        narrator.step("wake", f"Waking {settings.hf_space_repo}")
        with running_space(
            HubSpace(settings.hf_space_repo, settings.hf_token),
            client,
            timeout=settings.wake_timeout,
            pause=settings.pause,
            say=narrator.say,
        ):
            yield client


def active_tickers(settings: Settings, data: "DataService", sessions: Sessions | None) -> list[str]:
    """What the job forecasts unless it is told: the source's own tickers, or the bots'."""
    if settings.data_source != "yahoo":
        return data.symbols()
    from tradingbot.utils.predictions import active_symbols

    if sessions is None:
        return sorted(settings.extra_symbols)
    with sessions() as session:
        return sorted({*active_symbols(session), *settings.extra_symbols})
