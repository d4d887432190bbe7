"""The job's calibration: fitted anew each night, beside the Space's work on the next batch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING

from tradingbot.data.stored import _kept
from tradingbot.errors import DatabaseUnavailable, RunOvertaken
from tradingbot.forecast import Forecast
from tradingbot.runtime.progress import ProgressReporter

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.orm import Session

    from tradingbot.postprocessing.bands import Calibration


Sessions = Callable[[], "AbstractContextManager[Session]"]


def calibration(
    of: Forecast,
    histories: "dict[str, pd.DataFrame]",
    sessions: Sessions,
    narrator: ProgressReporter,
) -> "Calibration | None":
    """What the bands of this model are widened by: fitted anew, or as it is stored; None: raw.

    The outcomes come from `histories`, the daily candles of this run, and for other tickers from
    those that the database keeps: nothing is fetched. Forecasts matter more than their
    calibration, so what goes wrong here is a warning, unless nothing could be stored either.
    """
    from tradingbot.evaluation.outcomes import ForecastOutcomes, resolve_outcomes
    from tradingbot.postprocessing.bands import key_of
    from tradingbot.postprocessing.fit import RECORD, fit
    from tradingbot.postprocessing.repository import load, store
    from tradingbot.runtime.retry import retried

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
