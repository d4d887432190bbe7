"""Read a report's data from the database: newest forecasts, and earlier ones with outcomes."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.data.stored_candles import Candles
from tradingbot.errors import DatabaseError, DataError
from tradingbot.evaluation.close_outcomes import (
    ForecastOutcomes,
    Unresolved,
    UnresolvedReason,
    resolve_outcomes,
)
from tradingbot.forecast import QUANTILE_LEVELS, price_scale, prob_above
from tradingbot.jobs.status import Status, read_status
from tradingbot.persistence.damage import warn_of_damaged_rows
from tradingbot.persistence.engine import read_only_session
from tradingbot.persistence.events import event_scores_of
from tradingbot.persistence.forecast_rows import quantiles_of
from tradingbot.persistence.models import SCHEMA_VERSION
from tradingbot.persistence.report_queries import newest_forecast_rows
from tradingbot.persistence.schema import schema_version
from tradingbot.reports.combination_shares import (
    SharesByDay,
    StepShares,
    read_shares,
    read_shares_by_day,
)
from tradingbot.reports.events import Chances, read_chances
from tradingbot.reports.parts import Parts, read_parts
from tradingbot.settings import Settings
from tradingbot.typing import Floats

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from tradingbot.persistence.models import KronosEventScore


INTERVAL = "1d"
RECORD = timedelta(days=365)  # period of the record, some 250 sessions
SHOWN_SESSIONS = 60  # in a ticker's charts
BANDS = (0.1, 0.25, 0.5, 0.75, 0.9)  # levels of a fan: 80 % band, 50 % band, median


@dataclass(frozen=True)
class ForecastFan:
    """A ticker's newest forecast, in today's price scale (after any split since)."""

    as_of: datetime
    made_at: datetime
    last_close: float
    days: list[datetime]
    quantiles: Floats  # (levels of BANDS, days)
    prob_up: list[float]
    mean: list[float]  # Kronos' own mean
    calibration: str  # "raw", or how the quantiles were made
    shares: dict[str, float] | None  # forecaster -> weight; None if not combined


@dataclass(frozen=True)
class PastForecasts:
    """Forecasts made `step` sessions before each of the newest sessions. NaN if there is none."""

    step: int
    quantiles: Floats  # (levels of BANDS, sessions of the candles), prices


@dataclass(frozen=True)
class TickerRecord:
    """One ticker; `missing` says in words what is missing and why."""

    symbol: str
    fan: ForecastFan
    candles: pd.DataFrame  # (bars, open high low close), newest; () if unknown
    outcomes: ForecastOutcomes | None
    past: list[PastForecasts]  # for the days of the candles
    missing: list[str]


@dataclass(frozen=True)
class Record:
    """A report's data. Times are naive UTC."""

    status: Status
    model: str
    revision: str  # "" if unknown
    samples: int
    tickers: list[TickerRecord]
    notes: list[str] = field(default_factory=list)  # what is missing overall, and why
    parts: Parts = field(default_factory=Parts)
    shares: list[StepShares] = field(default_factory=list)  # in the combined forecast
    shares_by_day: SharesByDay = field(default_factory=SharesByDay)
    events: "list[KronosEventScore]" = field(default_factory=list)  # over all tickers and steps
    chances: dict[str, Chances] = field(default_factory=dict)  # by ticker, in its newest forecast
    backtest: str = ""  # name of the backtest file; "": from the database

    @property
    def outcomes(self) -> list[ForecastOutcomes]:
        return [ticker.outcomes for ticker in self.tickers if ticker.outcomes is not None]

    @property
    def summary(self) -> str:
        tickers = "1 ticker" if len(self.tickers) == 1 else f"{len(self.tickers)} tickers"
        n = sum(len(outcomes) for outcomes in self.outcomes)
        return f"{tickers}, {n:,} earlier forecasts against their outcome"


def read_record(
    url: str, settings: Settings, *, source: str | None, symbols: Sequence[str]
) -> Record:
    """Read the newest model's forecasts of `symbols` (all, if empty), and outcomes of earlier ones.

    Reads the database `url` and, for the sources csv and sample, their files.

    Raises:
        DatabaseError: The database is out of reach, or has no forecast yet.
        ConfigError: A setting is wrong.
    """
    status = read_status(url, settings, source=source, max_age=1)
    if status.source is None or status.clock is None:
        raise DatabaseError(status.problems[0])
    with read_only_session(url) as session:
        _refuse_an_old_schema(session, status.database)
        warn_of_damaged_rows(session)
        model, fans = _newest_model(session, status)
        chosen = _chosen(list(fans), symbols, status.database)
        since = min(status.clock, max(rows[0].as_of for rows in fans.values())) - RECORD
        recent = [symbol for symbol in chosen if fans[symbol][0].as_of >= since]
        first = max(fans.values(), key=lambda rows: rows[0].prediction_made_at)[0]
        revision = first.model_revision or ""
        candles = Candles(session, status.source)
        found, unscored = _outcomes(session, candles, model, revision, recent, since)
        tickers = [
            _ticker(symbol, fans[symbol], candles, found.get(symbol), unscored.get(symbol, []))
            for symbol in recent
        ]
        return Record(
            status=status,
            model=model,
            revision=revision,
            samples=first.samples,
            tickers=tickers,
            notes=_notes(status, symbols, chosen, recent),
            parts=read_parts(session, model, revision, INTERVAL),
            shares=read_shares(session, model, revision, INTERVAL),
            shares_by_day=read_shares_by_day(session, model, revision, INTERVAL, since),
            events=list(
                event_scores_of(session, model=model, revision=revision, interval=INTERVAL)
            ),
            chances=read_chances(
                session,
                model,
                INTERVAL,
                [(ticker.symbol, ticker.fan.as_of, ticker.fan.last_close) for ticker in tickers],
            ),
        )


def _newest_model(session: "Session", status: Status) -> "tuple[str, dict[str, list[Row[Any]]]]":
    """Return the model of the newest forecasts, and the rows of each ticker's newest forecast."""
    for newest in (model for model in status.models if model.interval == INTERVAL):
        if fans := newest_forecast_rows(session, model=newest.name, interval=INTERVAL):
            return newest.name, fans
    raise DatabaseError(f"{status.database} has no daily forecast: run `kronosbot run`")


def _refuse_an_old_schema(session: "Session", database: str) -> None:
    if schema_version(session.connection()) != SCHEMA_VERSION:
        raise DatabaseError(f"{database} has an older schema: the next `kronosbot run` upgrades it")


def _chosen(available: list[str], symbols: Sequence[str], database: str) -> list[str]:
    chosen = [symbol for symbol in available if not symbols or symbol.upper() in symbols]
    if not chosen:
        examples = ", ".join(available[:5]) + (", …" if len(available) > 5 else "")
        raise DatabaseError(
            f"{database} has no forecast of {', '.join(symbols)}; it has some of {examples}"
        )
    return chosen


def _outcomes(
    session: "Session",
    candles: Candles,
    model: str,
    revision: str,
    symbols: list[str],
    since: datetime,
) -> tuple[dict[str, ForecastOutcomes], dict[str, list[Unresolved]]]:
    """Return by ticker this revision's forecasts with outcomes, and why others have none."""
    found: dict[str, ForecastOutcomes] = {}
    unscored: dict[str, list[Unresolved]] = {}
    resolved = resolve_outcomes(
        lambda: nullcontext(session), candles.closes, model=model, symbols=symbols, since=since
    )
    for part in resolved:
        if isinstance(part, Unresolved):
            unscored.setdefault(part.symbol, []).append(part)
        elif part.model_revision == revision and part.interval == INTERVAL:
            found[part.symbol] = part
    return found, unscored


def _ticker(
    symbol: str,
    rows: list[Any],
    candles: Candles,
    record: ForecastOutcomes | None,
    unscored: Iterable[Unresolved],
) -> TickerRecord:
    missing = [
        f"{group.n} forecasts without an outcome: {group.text}"
        for group in unscored
        if group.reason != UnresolvedReason.NOT_YET
    ]
    try:
        bars = candles.bars(symbol, INTERVAL)
    except DataError as error:
        bars = pd.DataFrame(columns=["open", "high", "low", "close"], dtype="float64")
        missing = [f"no candles: {error.reason}"]
    fan = _fan(rows, bars["close"])
    shown = bars.tail(SHOWN_SESSIONS)
    return TickerRecord(symbol, fan, shown, record, past_forecasts(record, shown, bars), missing)


def _fan(rows: list[Any], closes: pd.Series) -> ForecastFan:
    first = rows[0]
    scale = price_scale(first.last_close, closes.get(first.as_of))
    given = [
        row.combined_quantiles or row.calibrated_quantiles or row.close_quantiles for row in rows
    ]
    return ForecastFan(
        as_of=first.as_of,
        made_at=first.prediction_made_at,
        last_close=first.last_close * scale,
        days=[row.target_date for row in rows],
        quantiles=scale
        * np.array([[row.get(f"{level:g}", np.nan) for row in given] for level in BANDS]),
        prob_up=[
            row.prob_up
            if served is row.close_quantiles
            else prob_above(quantiles_of(served), row.last_close)
            for row, served in zip(rows, given, strict=True)
        ],
        mean=[scale * row.predicted_close for row in rows],
        calibration=first.calibration,
        shares=first.shares,
    )


def past_forecasts(
    record: ForecastOutcomes | None, shown: pd.DataFrame, bars: pd.DataFrame
) -> list[PastForecasts]:
    """Return past forecasts at the shortest and the longest step, for the sessions of `shown`."""
    days = pd.DatetimeIndex(shown.index)
    if record is None or not len(days):
        return []
    place = days.get_indexer(pd.DatetimeIndex(record.target))
    columns = [QUANTILE_LEVELS.index(level) for level in BANDS]
    prices = record.quantiles[:, columns] * _closes_at(bars, record.as_of)[:, None]
    past = []
    for step in sorted({int(record.step.min()), int(record.step.max())}):
        quantiles = np.full((len(BANDS), len(days)), np.nan)
        of_step = (record.step == step) & (place >= 0)
        quantiles[:, place[of_step]] = prices[of_step].T
        past.append(PastForecasts(step, quantiles))
    # a single session cannot be drawn as a line
    return past if any(np.isfinite(forecast.quantiles[2]).sum() > 1 for forecast in past) else []


def _closes_at(bars: pd.DataFrame, moments: NDArray[Any]) -> Floats:
    return bars["close"].reindex(pd.DatetimeIndex(moments)).to_numpy("float64")


def _notes(
    status: Status, symbols: Sequence[str], chosen: list[str], recent: list[str]
) -> list[str]:
    notes = []
    available = {symbol.upper() for symbol in chosen}
    if unknown := [symbol for symbol in symbols if symbol not in available]:
        notes.append(f"No forecast of {', '.join(unknown)}.")
    if old := sorted(set(chosen) - set(recent)):
        notes.append(f"Not shown, since their newest forecast is a year old: {', '.join(old)}.")
    stale = [ticker for ticker in status.stale if not symbols or ticker.symbol in symbols]
    notes += [f"{ticker.symbol} is not up to date: {ticker.why}." for ticker in stale[:10]]
    if len(stale) > 10:
        notes.append(f"{len(stale) - 10} more tickers are not up to date.")
    return notes
