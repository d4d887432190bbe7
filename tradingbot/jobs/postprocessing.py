"""What a night's record makes of the forecasts that it stores."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.data.stored_candles import bars_in_database
from tradingbot.errors import KronosError, RunOvertaken
from tradingbot.evaluation.outcomes import ForecastOutcomes, resolve_outcomes
from tradingbot.forecast import Forecast
from tradingbot.jobs.steps import INTERVAL, Histories
from tradingbot.path_events import Event
from tradingbot.persistence.ledger import newest_of_tickers
from tradingbot.persistence.transactions import retried
from tradingbot.postprocessing.bands import Calibration, key_of
from tradingbot.postprocessing.combination_learning import learn, rivals_of
from tradingbot.postprocessing.combined_forecast import Combination, is_anchored
from tradingbot.postprocessing.fit import RECORD, fit
from tradingbot.postprocessing.paths import with_events, with_served_paths
from tradingbot.postprocessing.repository import (
    load,
    load_combination,
    newest_of_family,
    store,
    store_combination,
)
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Timeouts
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

_Known = TypeVar("_Known")

Said = Mapping[str, Mapping[str, Forecast]]  # by challengers: by name, then by ticker
Beside = Callable[[Collection[str], Sequence[str]], Said]  # of these names, and these tickers

_STAY_RAW = "the bands stay raw, for they could not be calibrated"
_ALONE = "the forecasts are Kronos' own, for they could not be combined"
# Tickers whose candles are late hold nobody up where they are a tenth of all, or lag further behind
_FEW = 10
_LATE = timedelta(days=4)


def first_without_candles(newest: Collection[datetime]) -> datetime:
    """The first session of which some tickers have no candle, but for a few that lag behind.

    The outcomes of these few are lost to the record, if they lag by more than a session.

    Args:
        newest: The time of each ticker's newest bar.
    """
    times = sorted(newest)
    return max(times[-1] - _LATE, times[len(times) // _FEW])


def answered(forecasts: Sequence[Forecast], events: Sequence[Event]) -> list[Forecast]:
    """The forecasts, as they are served, with what their paths say about these events.

    The paths go. Where they cannot be asked, that is told, and the forecast has no events.
    """
    return [_answered(forecast, events) for forecast in forecasts]


def _answered(forecast: Forecast, events: Sequence[Event]) -> Forecast:
    try:
        forecast = with_events(with_served_paths(forecast), events, keep_paths=False)
    except Exception:
        logger.exception("%s has no events, for its paths could not be asked", forecast.symbol)
    return replace(forecast, paths=None)


class NightlyPostprocessing:
    """Calibrates Kronos' bands and combines them with plain forecasts, as the record says.

    What is known is brought up to date once the first forecast has told of which model. Outcomes
    come from `histories`, the daily candles of this run, and for other tickers from those that the
    database keeps: nothing is fetched. Forecasts matter more than what is made of them, so whatever
    goes wrong here is told, and they stay as they were.
    """

    def __init__(
        self,
        histories: Histories,
        sessions: SessionFactory,
        reporter: ProgressReporter,
        timeouts: Timeouts,
        *,
        fetched: Callable[[str], pd.DataFrame] | None = None,
        challenger: bool = False,
    ) -> None:
        """`fetched` are a ticker's candles with older ones than in its history, if at hand."""
        self._challenger = challenger  # it has no challengers itself
        self._histories = histories
        self._sessions = sessions
        self._fetched = fetched or histories.__getitem__
        self._reporter = reporter
        self._timeouts = timeouts
        self._begun = False
        self._calibration: Calibration | None = None
        self._combination: Combination | None = None

    def apply(self, forecasts: list[Forecast], beside: Beside | None = None) -> list[Forecast]:
        """The forecasts as they are served.

        `beside` is asked what challengers say in their place that have earned a share.
        """
        if forecasts and not self._begun:
            self._begun = True
            first = forecasts[0]
            self._calibration = self._or_warn(partial(self._calibrate, first), _STAY_RAW)
            self._combination = self._or_warn(partial(self._combine, first), _ALONE)
        said: Said = {}
        if beside and self._combination and self._combination.rivals:
            said = beside(self._combination.rivals, [one.symbol for one in forecasts])
        return [self._combined(self._calibrated(forecast), said) for forecast in forecasts]

    def _or_warn(self, make: Callable[[], _Known | None], otherwise: str) -> _Known | None:
        try:
            return retried(make, timeouts=self._timeouts)
        except RunOvertaken:
            raise
        except KronosError as error:
            self._reporter.warn(f"{otherwise}: {' '.join(str(error).split())}")
        except Exception:
            logger.exception(otherwise)
        return None

    def _calibrated(self, forecast: Forecast) -> Forecast:
        if self._calibration is None:
            return forecast
        try:
            return self._calibration.apply(forecast)
        except Exception:
            logger.exception("%s: %s", forecast.symbol, _STAY_RAW)
            return forecast

    def _combined(self, forecast: Forecast, said: Said) -> Forecast:
        if self._combination is None:
            return forecast
        try:
            rivals = {
                name: of_name[forecast.symbol]
                for name, of_name in said.items()
                if forecast.symbol in of_name
            }
            return self._combination.apply(forecast, self._histories[forecast.symbol], rivals)
        except Exception:
            logger.exception("%s: %s", forecast.symbol, _ALONE)
            return forecast

    def _calibrate(self, of: Forecast) -> Calibration | None:
        """Fitted now, or as it is stored; None: raw. No transaction is open while it computes."""

        def closes(symbol: str, interval: str, since: datetime) -> "pd.Series[float]":
            return self._bars(symbol, interval, since)["close"]

        since = of.as_of - RECORD
        record = resolve_outcomes(self._sessions, closes, model=of.model_name, since=since)
        fitted = fit(part for part in record if isinstance(part, ForecastOutcomes))
        with self._sessions() as session:
            for one in fitted:
                store(session, one.calibration)
            return load(session, key_of(of))

    def _combine(self, of: Forecast) -> Combination | None:
        """With what has come out since the last night; None: such forecasts are not combined."""
        if not is_anchored(of):
            return None
        key = key_of(of)
        with self._sessions() as session:
            known = load_combination(session, key, whole=True) or newest_of_family(session, key)
            before = self._known_of_all(session, of)
        learnt = learn(
            self._sessions,
            self._bars,
            known or Combination(key, {}),
            before=before,
            horizon=of.horizon,
            challengers=() if self._challenger else rivals_of(self._sessions, key, before),
        )
        with self._sessions() as session:
            store_combination(session, learnt)
        return learnt

    def _known_of_all(self, session: Session, of: Forecast) -> datetime:
        """The first session that does not count yet: candles of earlier ones are there.

        It follows from the newest bars of this run, and for tickers of other shards, or that have
        no candles tonight, from the bars of their newest forecasts.
        """
        newest: dict[str, datetime] = {
            symbol: bars.index[-1].to_pydatetime() for symbol, bars in self._histories.items()
        }
        oldest = max(newest.values()) - _LATE
        stored = newest_of_tickers(session, model=of.model_name, interval=of.interval, since=oldest)
        return first_without_candles((stored | newest).values())

    def _bars(self, symbol: str, interval: str, since: datetime) -> pd.DataFrame:
        if symbol in self._histories and interval == INTERVAL:
            return self._fetched(symbol)
        with self._sessions() as session:
            return bars_in_database(session, symbol, interval, since)
