"""Calibrate and combine a night's forecasts, using the outcomes of past forecasts."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

import pandas as pd
from sqlalchemy.orm import Session

from tradingbot.data.stored_candles import bars_in_database
from tradingbot.errors import KronosError, RunOvertaken
from tradingbot.evaluation.close_outcomes import ForecastOutcomes, resolve_outcomes
from tradingbot.forecast import Forecast
from tradingbot.jobs.steps import INTERVAL, Histories
from tradingbot.path_events.grammar import Event
from tradingbot.persistence.ledger import newest_of_tickers
from tradingbot.persistence.transactions import retried
from tradingbot.postprocessing.bands import Calibration, key_of
from tradingbot.postprocessing.combination_learning import (
    MAX_LAG,
    first_without_candles,
    learn,
    rivals_of,
)
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

ChallengerForecasts = Mapping[
    str, Mapping[str, Forecast]
]  # challengers' forecasts: by name, then by ticker
# returns the forecasts of these challengers for these tickers
AskChallengers = Callable[[Collection[str], Sequence[str]], ChallengerForecasts]

_STAY_RAW = "the bands could not be calibrated and stay raw"
_ALONE = "the forecasts could not be combined and are Kronos' own"


def answered(forecasts: Sequence[Forecast], events: Sequence[Event]) -> list[Forecast]:
    """Return the served forecasts with the probabilities of these events, and without paths.

    If a forecast's paths cannot be evaluated, a message is logged and it has no events.
    """
    return [_answered(forecast, events) for forecast in forecasts]


def _answered(forecast: Forecast, events: Sequence[Event]) -> Forecast:
    try:
        forecast = with_events(with_served_paths(forecast), events, keep_paths=False)
    except Exception:
        logger.exception(
            "%s has no events, because its paths could not be evaluated", forecast.symbol
        )
    return replace(forecast, paths=None)


class NightlyPostprocessing:
    """Calibrate Kronos' bands and combine them with simple forecasts, using past outcomes.

    A band is a prediction interval: a lower and an upper quantile of the price.

    The state is updated at the first forecast, which names the model. Outcomes come from
    `histories`, the daily candles of this run, and for other tickers from candles in the database;
    nothing is fetched. If anything fails here, a message is logged and the forecasts stay
    unchanged.
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
        """Prepare for a night.

        `fetched` returns a ticker's candles if available. They may include candles that are older
        than the ticker's history.
        """
        self._challenger = challenger  # a challenger has no challengers
        self._histories = histories
        self._sessions = sessions
        self._fetched = fetched or histories.__getitem__
        self._reporter = reporter
        self._timeouts = timeouts
        self._begun = False
        self._calibration: Calibration | None = None
        self._combination: Combination | None = None

    def apply(
        self, forecasts: list[Forecast], ask_challengers: AskChallengers | None = None
    ) -> list[Forecast]:
        """Return the forecasts to be served.

        `ask_challengers` returns forecasts of the challengers that have a share.
        """
        if forecasts and not self._begun:
            self._begun = True
            first = forecasts[0]
            self._calibration = self._or_warn(partial(self._calibrate, first), _STAY_RAW)
            self._combination = self._or_warn(partial(self._combine, first), _ALONE)
        rivals: ChallengerForecasts = {}
        if ask_challengers and self._combination and self._combination.rivals:
            rivals = ask_challengers(self._combination.rivals, [each.symbol for each in forecasts])
        return [self._combined(self._calibrated(forecast), rivals) for forecast in forecasts]

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

    def _combined(self, forecast: Forecast, by_challenger: ChallengerForecasts) -> Forecast:
        if self._combination is None:
            return forecast
        try:
            rivals = {
                name: of_name[forecast.symbol]
                for name, of_name in by_challenger.items()
                if forecast.symbol in of_name
            }
            return self._combination.apply(forecast, self._histories[forecast.symbol], rivals)
        except Exception:
            logger.exception("%s: %s", forecast.symbol, _ALONE)
            return forecast

    def _calibrate(self, of: Forecast) -> Calibration | None:
        """Return a new calibration or the stored one. None: the forecasts stay raw.

        No transaction is open during the fit.
        """

        def closes(symbol: str, interval: str, since: datetime) -> "pd.Series[float]":
            return self._bars(symbol, interval, since)["close"]

        since = of.as_of - RECORD
        record = resolve_outcomes(
            self._sessions, closes, model=of.model_name, since=since, raw_only=True
        )
        fitted = fit(part for part in record if isinstance(part, ForecastOutcomes))
        with self._sessions() as session:
            for fitted_step in fitted:
                store(session, fitted_step.calibration)
            return load(session, key_of(of))

    def _combine(self, of: Forecast) -> Combination | None:
        """Update the combination with new outcomes.

        Return None for forecasts that are not combined.
        """
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
        """Return the first session that does not count yet; candles of earlier ones are complete.

        The session follows from the newest bars of this run. Tickers of other shards and tickers
        without candles tonight have no such bars. For these tickers, the newest bars of their
        newest forecasts are used.
        """
        newest: dict[str, datetime] = {
            symbol: bars.index[-1].to_pydatetime() for symbol, bars in self._histories.items()
        }
        oldest = max(newest.values()) - MAX_LAG
        stored = newest_of_tickers(session, model=of.model_name, interval=of.interval, since=oldest)
        return first_without_candles((stored | newest).values())

    def _bars(self, symbol: str, interval: str, since: datetime) -> pd.DataFrame:
        if symbol in self._histories and interval == INTERVAL:
            return self._fetched(symbol)
        with self._sessions() as session:
            return bars_in_database(session, symbol, interval, since)
