"""At the end of the nightly job, when the Space rests: what has matured is scored."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings
from tradingbot.utils.report import Report

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tradingbot.data.service import DataService

Sessions = Callable[[], "AbstractContextManager[Session]"]


def score_matured(
    settings: Settings,
    report: Report,
    narrator: ProgressReporter,
    *,
    data: "DataService",
    sessions: Sessions,
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
