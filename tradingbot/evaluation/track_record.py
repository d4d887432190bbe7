"""Describe a model's past performance in one sentence, and return its skill for trading."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradingbot.errors import DatabaseUnavailable, KronosError
from tradingbot.forecast import Forecast
from tradingbot.formatting import amount_text
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import ALL_SESSIONS, ALL_SYMBOLS, KronosScore
from tradingbot.persistence.scores import scores_over_all_steps
from tradingbot.persistence.url import database_exists, database_url
from tradingbot.settings import default_timeouts
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

WINDOWS = (60, 250, ALL_SESSIONS)  # the first window with enough forecasts is used
MIN_FORECASTS = 30  # same as in metrics.py, whose import would load pandas
NO_DATABASE = "no record: there is no database of past forecasts here"
OUT_OF_REACH = "no record: the database of past forecasts cannot be read"

_again_at: dict[str, float] = {}  # database -> when it may be read again


@dataclass(frozen=True)
class Skill:
    """CRPS skill: 1 - CRPS of the forecasts ÷ CRPS of a random walk. Above 0 is better."""

    value: float
    where: str  # "SPY, last 60 sessions"
    # lower bound of the skill from all outcomes, valid however often it is checked
    at_least: float | None  # None: not known yet
    shown_by: str  # the outcomes behind `at_least`: "SPY, 310 sessions so far"; "" without it


def track_record(
    session: Session,
    symbol: str | None,
    *,
    model: str,
    revision: str | None = None,
    interval: str = "1d",
) -> str:
    """Describe how good the model was for this ticker, in the newest window with enough outcomes.

    If the ticker is None or has too few outcomes, all tickers are used. Other revisions of the
    model do not count. A revision of None or "" stands for forecasts without a known revision.
    """
    rows = _rows(session, symbol, model, revision, interval)
    for row in rows:
        if row.mae is not None:
            return _sentence(row)
    n = max((row.n for row in rows if row.symbol == ALL_SYMBOLS), default=0)
    return f"no record yet: {n} of the {MIN_FORECASTS} forecasts needed have an outcome"


def describe_track_record(forecast: Forecast, sessions: SessionFactory | None = None) -> str:
    """Return `track_record` of this forecast's model, by default from the configured database.

    An unreadable database is not an error. A database out of reach is not tried again for some
    minutes, so that callers do not wait.
    """
    url = ""
    try:
        if sessions is None:
            url = database_url()
            if not database_exists(url):
                return NO_DATABASE
            if time.monotonic() < _again_at.get(url, 0.0):
                return OUT_OF_REACH
            # a reader must not upgrade the schema
            sessions = partial(get_db_session, url, create=False)
        with sessions() as session:
            return track_record(
                session,
                forecast.symbol,
                model=forecast.model_name,
                revision=forecast.model_revision,
                interval=forecast.interval,
            )
    except (KronosError, SQLAlchemyError) as error:
        if isinstance(error, DatabaseUnavailable):
            _again_at[url] = time.monotonic() + default_timeouts().track_record_rest
        logger.debug("%s: no track record: %s", forecast.symbol, error)
        return OUT_OF_REACH


def crps_skill(
    session: Session,
    symbol: str,
    *,
    model: str,
    revision: str | None = None,
    interval: str = "1d",
) -> Skill | None:
    """Return the model's skill in the newest window with enough outcomes, or None."""
    rows = _rows(session, symbol, model, revision, interval)
    newest = next((row for row in rows if row.crps_skill is not None), None)
    if newest is None:
        return None
    whole = [row for row in rows if row.last_sessions == ALL_SESSIONS]
    for row in whole:
        if row.skill_low is not None:
            return Skill(newest.crps_skill or 0.0, _where(newest), row.skill_low, _where(row))
    return Skill(newest.crps_skill or 0.0, _where(newest), None, "")


def relative_mae(score: Any) -> float | None:
    """Return `relative_mae` of metrics or of a row of kronos_scores.

    Older rows lack this column. Their column `mase` has the value.
    """
    error: float | None = score.relative_mae
    return score.mase if error is None else error


def _rows(
    session: Session, symbol: str | None, model: str, revision: str | None, interval: str
) -> list[KronosScore]:
    """Return the rows over all steps: first the ticker's rows, then those over all tickers.

    Within both groups, shorter windows come first.
    """
    found = scores_over_all_steps(
        session,
        [ALL_SYMBOLS] if symbol is None else [symbol, ALL_SYMBOLS],
        model=model,
        revision=revision or "",
        interval=interval,
        windows=WINDOWS,
    )
    order = {window: place for place, window in enumerate(WINDOWS)}
    return sorted(found, key=lambda row: (row.symbol == ALL_SYMBOLS, order[row.last_sessions]))


def _sentence(row: KronosScore) -> str:
    return f"{_where(row)}: {', '.join(_figures(row))}"


def _where(row: KronosScore) -> str:
    tickers = "all tickers" if row.symbol == ALL_SYMBOLS else row.symbol
    window = row.last_sessions
    if window == ALL_SESSIONS or row.sessions < window:
        return f"{tickers}, {row.sessions} session{'' if row.sessions == 1 else 's'} so far"
    return f"{tickers}, last {window} sessions"


def _figures(row: KronosScore) -> Iterator[str]:
    error = relative_mae(row)
    if error is not None:
        yield f"error {amount_text(error)} × tomorrow-equals-today"  # noqa: RUF001
    if row.coverage_80 is not None:
        yield f"80 % band held {100 * row.coverage_80:.0f} %"
    if row.hit_rate is not None:
        interval = ""
        if row.hit_low is not None and row.hit_high is not None:
            interval = f" ({100 * row.hit_low:.0f}–{100 * row.hit_high:.0f})"  # noqa: RUF001
        yield f"direction right {100 * row.hit_rate:.0f} %{interval}"
