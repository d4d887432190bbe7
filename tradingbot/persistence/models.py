"""The tables, as SQLAlchemy models.

The migrations in this package create the schema. A test compares it with the models. A change here
needs a migration and a new `SCHEMA_VERSION`.

Times are naive UTC. Times of a bar (`as_of`, `target_date`, `timestamp`) are cut to whole seconds,
both when stored and when compared: midnight plus microseconds finds the row of midnight.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, false
from sqlalchemy.orm import Mapped, mapped_column

from tradingbot.persistence.bot_models import BotPosition as BotPosition
from tradingbot.persistence.bot_models import BotRow as BotRow
from tradingbot.persistence.bot_models import BotValue as BotValue
from tradingbot.persistence.bot_models import Trade as Trade
from tradingbot.persistence.columns import BarTime, JsonObject, JsonOrNull, UtcDateTime
from tradingbot.persistence.columns import Base as Base
from tradingbot.persistence.event_models import ALL_EVENTS as ALL_EVENTS
from tradingbot.persistence.event_models import KronosEvent as KronosEvent
from tradingbot.persistence.event_models import KronosEventScore as KronosEventScore
from tradingbot.persistence.forecast_loss_models import KronosMatured as KronosMatured
from tradingbot.persistence.forecast_loss_models import KronosMaturedPart as KronosMaturedPart
from tradingbot.runtime.clock import utcnow

# the newest migration; init_db compares it with the database to see whether to upgrade
SCHEMA_VERSION = "0012"


class KronosPrediction(Base):
    """The latest forecast of one future bar by one model.

    Most nullable columns are null only in rows of the first published schema, which lacked these
    columns. The volume is also null if the model had no volumes as input.
    """

    __tablename__ = "kronos_predictions"
    __table_args__ = (Index(None, "symbol", "target_date"),)

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    target_date: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str | None]
    prediction_made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    as_of: Mapped[datetime | None] = mapped_column(BarTime)  # the newest bar that the model saw
    horizon_days: Mapped[int]  # steps ahead: 1 = the next bar
    last_close: Mapped[float | None]
    predicted_open: Mapped[float]
    predicted_high: Mapped[float]
    predicted_low: Mapped[float]
    predicted_close: Mapped[float]
    predicted_volume: Mapped[float | None]
    close_p10: Mapped[float | None]  # quantiles, post-processed as in `calibration`
    close_p50: Mapped[float | None]
    close_p90: Mapped[float | None]
    # probability of a close above last_close, post-processed as in `calibration`
    prob_up: Mapped[float | None]
    samples: Mapped[int | None]
    calibration: Mapped[str] = mapped_column(server_default="raw")  # "raw", or the post-processing
    # forecaster -> weight in the combination; None if Kronos alone was served
    shares: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    bars_hash: Mapped[str | None]  # hash of the candles that the model saw; None: unknown


class KronosForecast(Base):
    """The ledger of all forecasts as they were made. Rows are added and never changed."""

    __tablename__ = "kronos_forecasts"
    # with this index, a model's newest revision is found without reading ten million rows
    __table_args__ = (Index(None, "model_name", "interval", "prediction_made_at"),)

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    target_date: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    # hash of the candles that the model saw, "" if unknown; it is part of the key, so a forecast
    # from corrected candles has its own rows
    bars_hash: Mapped[str] = mapped_column(primary_key=True, server_default="")
    model_revision: Mapped[str | None]
    prediction_made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    horizon_days: Mapped[int]
    last_close: Mapped[float]
    predicted_open: Mapped[float]
    predicted_high: Mapped[float]
    predicted_low: Mapped[float]
    predicted_close: Mapped[float]
    predicted_volume: Mapped[float]
    # the model's own quantiles: {"0.05": price, …}
    close_quantiles: Mapped[dict[str, float]] = mapped_column(JsonObject)
    prob_up: Mapped[float]  # share of the sample paths that close above last_close
    samples: Mapped[int]
    # post-processing of the served quantiles
    calibration: Mapped[str] = mapped_column(server_default="raw")
    # the same levels, calibrated; None if there was no calibration yet
    calibrated_quantiles: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    # the same levels, combined with other forecasters; None if no combination was served
    combined_quantiles: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    # forecaster -> weight in the combination
    shares: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    # factor that multiplied the paths, so that they start from the last close: last close ÷ the
    # tokenizer's reconstruction of it; None if the paths were not multiplied
    anchor_factor: Mapped[float | None]
    # whether a challenger made the forecast, for comparison only; bots do not get it
    challenger: Mapped[bool] = mapped_column(server_default=false())


ALL_SYMBOLS = "*"  # value of KronosScore.symbol
ALL_STEPS = 0  # value of KronosScore.step
ALL_SESSIONS = 0  # value of KronosScore.last_sessions
SERVED = "served"  # value of KronosScore.forecast, as are the PARTS
PARTS = ("raw", "calibrated", "combined")


class KronosScore(Base):
    """Scores of one model's forecasts, for one ticker or all, one step ahead or all, one window.

    Prices are relative to the last close that the model saw, so that tickers are comparable and
    splits have no effect. Scores of quantiles and bands are those of the kind `forecast`. Columns
    `raw_…` are scores of the model's own bands. A score is None if there are too few forecasts, or
    if it is not defined.
    """

    __tablename__ = "kronos_scores"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" if unknown
    interval: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)  # or ALL_SYMBOLS
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # or ALL_STEPS
    # the window: targets within this many newest sessions (60, 250), or ALL_SESSIONS
    last_sessions: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # which quantiles of the ledger are scored: SERVED, "raw", "calibrated" or "combined". The
    # latter three have no rows of a single ticker by step or window.
    forecast: Mapped[str] = mapped_column(primary_key=True, default=SERVED, server_default=SERVED)
    n: Mapped[int]  # forecasts with an outcome
    sessions: Mapped[int]  # number of distinct target dates
    first_target: Mapped[datetime] = mapped_column(BarTime)
    last_target: Mapped[datetime] = mapped_column(BarTime)
    mae: Mapped[float | None]  # of the mean close
    naive_mae: Mapped[float | None]  # of a no-change forecast
    relative_mae: Mapped[float | None]  # mae ÷ naive_mae
    mase: Mapped[float | None]  # former name of relative_mae, with the same value
    crps: Mapped[float | None]
    raw_crps: Mapped[float | None]
    # of a random walk that resamples past returns
    random_walk_crps: Mapped[float | None]
    crps_skill: Mapped[float | None]  # 1 - crps ÷ random_walk_crps
    # 95 % interval of crps_skill, valid however often it is checked; only for ALL_SESSIONS
    skill_low: Mapped[float | None]
    skill_high: Mapped[float | None]
    ewma_walk_crps: Mapped[float | None]  # of a random walk with the EWMA volatility at as_of
    ewma_skill: Mapped[float | None]  # 1 - crps ÷ ewma_walk_crps
    wql: Mapped[float | None]  # weighted quantile loss
    coverage_50: Mapped[float | None]  # share of closes inside the band
    coverage_80: Mapped[float | None]
    coverage_90: Mapped[float | None]
    coverage_50_low: Mapped[float | None]  # 95 % interval of coverage_50
    coverage_50_high: Mapped[float | None]
    coverage_80_low: Mapped[float | None]
    coverage_80_high: Mapped[float | None]
    coverage_90_low: Mapped[float | None]
    coverage_90_high: Mapped[float | None]
    raw_coverage_50: Mapped[float | None]
    raw_coverage_80: Mapped[float | None]
    raw_coverage_90: Mapped[float | None]
    width_50: Mapped[float | None]  # mean width of the band
    width_80: Mapped[float | None]
    width_90: Mapped[float | None]
    hit_rate: Mapped[float | None]  # share of moves whose direction was right
    hit_low: Mapped[float | None]  # 95 % interval of hit_rate
    hit_high: Mapped[float | None]
    ic: Mapped[float | None]  # correlation across tickers, mean over sessions; ALL_SYMBOLS only
    rank_ic: Mapped[float | None]
    dm_statistic: Mapped[float | None]  # Diebold-Mariano on CRPS; below 0: better than random walk
    dm_p_value: Mapped[float | None]  # two-sided
    scored_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KronosCalibration(Base):
    """The factor by which the half-widths of one of the model's bands are multiplied."""

    __tablename__ = "kronos_calibrations"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" if unknown
    interval: Mapped[str] = mapped_column(primary_key=True)
    asset_class: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    band: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # per cent: 10 … 90
    factor: Mapped[float]
    n: Mapped[int]  # number of outcomes that the factor was fitted to
    until: Mapped[datetime] = mapped_column(BarTime)  # newest target of these outcomes
    fitted_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KronosCombination(Base):
    """The learnt weights of Kronos and the other forecasters, after the session `until`."""

    __tablename__ = "kronos_combinations"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" if unknown
    interval: Mapped[str] = mapped_column(primary_key=True)
    asset_class: Mapped[str] = mapped_column(primary_key=True)  # or "*" for all
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    weights: Mapped[dict[str, float]] = mapped_column(JsonObject)  # forecaster -> weight, sum 1
    # forecaster -> gain; the weights are the softmax of the gains
    gains: Mapped[dict[str, float]] = mapped_column(JsonObject)
    # agreement of Kronos' median with the outcomes, and size of the median. Both determine how much
    # the median is shrunk.
    median_agreement: Mapped[float]
    median_size: Mapped[float]
    band_factors: Mapped[dict[str, float]] = mapped_column(JsonObject)  # band in % -> factor
    sessions: Mapped[int]  # number of sessions learnt from
    n: Mapped[int]  # number of forecasts with an outcome in these sessions
    until: Mapped[datetime] = mapped_column(BarTime)  # the newest of these sessions
    # {"names": […], "rivals": […], "trials": […]}: all challengers; those in the combination; those
    # on trial
    challengers: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    learnt_at: Mapped[datetime] = mapped_column(UtcDateTime)


class HistoricData(Base):
    """One past bar, as fetched. An unknown volume is 0."""

    __tablename__ = "historic_data"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    timestamp: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    open: Mapped[float]
    high: Mapped[float]
    low: Mapped[float]
    close: Mapped[float]
    volume: Mapped[float]


class HistoricRange(Base):
    """The time `since` from which on `historic_data` is complete for a ticker.

    The bars alone do not show whether the source has no older bars, or whether they were never
    requested.
    """

    __tablename__ = "historic_ranges"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(BarTime)
    fetched_at: Mapped[datetime] = mapped_column(UtcDateTime)


class HistoricSplit(Base):
    """One split reported by the source of a ticker's candles: `ratio` new shares per old share."""

    __tablename__ = "historic_splits"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    # the first day at the new price
    day: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    ratio: Mapped[float]


class RunLog(Base):
    """One run of the job or of a bot."""

    __tablename__ = "run_logs"
    __table_args__ = (Index(None, "name", "started_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]  # "kronosbot", or the bot's name
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # None: running, or killed
    status: Mapped[str]  # "running", "ok", "failed", "killed"
    exit_code: Mapped[int | None]
    counts: Mapped[dict[str, int]] = mapped_column(JsonObject, default=dict)
    durations: Mapped[dict[str, float]] = mapped_column(JsonObject, default=dict)  # seconds
    details: Mapped[dict[str, Any]] = mapped_column(JsonObject, default=dict)  # model, failures …
    message: Mapped[str | None]
