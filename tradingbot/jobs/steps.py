"""The steps of the nightly job, each a function; `tradingbot.jobs.nightly` puts them in order."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

from tradingbot.data.stored import _kept
from tradingbot.errors import DatabaseUnavailable, DataError, RunOvertaken
from tradingbot.forecast import Forecast
from tradingbot.jobs.summary import RunSummary
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import signals_held
from tradingbot.settings import Settings
from tradingbot.typing import SessionFactory

if TYPE_CHECKING:
    import pandas as pd

    from tradingbot.data.service import DataService
if TYPE_CHECKING:
    import pandas as pd

    from tradingbot.postprocessing.bands import Calibration
if TYPE_CHECKING:
    from tradingbot.data.service import DataService


INTERVAL = "1d"


def fetch(
    settings: Settings, report: RunSummary, data: "DataService", narrator: ProgressReporter
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
    settings: Settings,
    report: RunSummary,
    histories: "dict[str, pd.DataFrame]",
    sessions: SessionFactory,
) -> "dict[str, pd.DataFrame]":
    """Move what is stored for this model and these newest bars to the report; the rest is left."""
    from tradingbot.persistence.forecasts import already_stored, latest_stored
    from tradingbot.persistence.transactions import retried

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


def store(
    report: RunSummary, forecasts: Sequence[Forecast], sessions: SessionFactory | None
) -> None:
    """Commit one batch, so that a crash keeps it, and count it.

    A database that is away for a while is waited for.
    """
    from tradingbot.persistence.forecasts import store_forecasts
    from tradingbot.persistence.transactions import retried

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


def calibration(
    of: Forecast,
    histories: "dict[str, pd.DataFrame]",
    sessions: SessionFactory,
    narrator: ProgressReporter,
) -> "Calibration | None":
    """What the bands of this model are widened by: fitted anew, or as it is stored; None: raw.

    The outcomes come from `histories`, the daily candles of this run, and for other tickers from
    those that the database keeps: nothing is fetched. Forecasts matter more than their
    calibration, so what goes wrong here is a warning, unless nothing could be stored either.
    """
    from tradingbot.evaluation.outcomes import ForecastOutcomes, resolve_outcomes
    from tradingbot.persistence.transactions import retried
    from tradingbot.postprocessing.bands import key_of
    from tradingbot.postprocessing.fit import RECORD, fit
    from tradingbot.postprocessing.repository import load, store

    def refit() -> "Calibration | None":
        with sessions() as session:

            def closes(symbol: str, interval: str, since: datetime) -> "pd.Series[float]":
                if symbol in histories and interval == "1d":
                    return histories[symbol]["close"]
                return _kept(session, symbol, interval, since)

            since = of.as_of - RECORD
            record = resolve_outcomes(session, closes, model=of.model_name, since=since)
            for one in fit(part for part in record if isinstance(part, ForecastOutcomes)):
                store(session, one.calibration)
            return load(session, key_of(of))

    try:
        return retried(refit)
    except (DatabaseUnavailable, RunOvertaken):
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        narrator.warn(f"the bands stay raw, for they could not be calibrated: {said}")
        return None


def score_matured(
    settings: Settings,
    report: RunSummary,
    narrator: ProgressReporter,
    *,
    data: "DataService",
    sessions: SessionFactory,
    url: str,
) -> None:
    """Score all tickers, once a night: of several shards, the first that gets here does it.

    The forecasts are stored by now, so whatever goes wrong here is a warning. What a signal to stop
    leaves unscored is scored by the next run.
    """
    from tradingbot.data.service import DataService
    from tradingbot.evaluation.outcomes import closes_of
    from tradingbot.evaluation.scoring import score, scored_since
    from tradingbot.persistence.locks import open_lock
    from tradingbot.runtime.clock import utcnow

    try:
        if settings.data_source != "yahoo":  # all bars that are there are known, and no clock's
            data = DataService(settings.data_source, now=utcnow())
        with open_lock(url, "scores", who="kronosbot score") as lock:
            if not lock.try_exclusive():
                return
            with sessions() as session:
                if scored_since(session, report.started_at):
                    return
            with report.phase("score"):
                score(sessions, closes_of(data), narrator=narrator)
    except Exception as error:  # also a mistake of ours costs no night's success
        said = " ".join(str(error).split())
        narrator.warn(f"past forecasts could not be scored: {type(error).__name__}: {said}")
    finally:
        narrator.end()
