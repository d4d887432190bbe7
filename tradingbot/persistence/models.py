"""The tables, as SQLAlchemy models.

The schema itself is created by the migrations next to this file; a test compares the two. A change
here needs a migration and a new `SCHEMA_VERSION`.

Times are naive UTC. Those of a bar (`as_of`, `target_date`, `timestamp`) are whole seconds, both
when stored and when compared: midnight plus microseconds finds the row of midnight.
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
from tradingbot.persistence.matured_models import KronosMatured as KronosMatured
from tradingbot.persistence.matured_models import KronosMaturedPart as KronosMaturedPart
from tradingbot.runtime.clock import utcnow

# the newest migration; lets init_db see quickly that there is nothing to do
SCHEMA_VERSION = "0012"


class KronosPrediction(Base):
    """The latest forecast of one future bar by one model.

    Nullable columns are only null in rows of the first published schema, which lacked them. The
    volume is also null if the model had no volumes as input.
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
    # weights of the combination: forecaster -> share; None if it is Kronos alone
    shares: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    bars_hash: Mapped[str | None]  # hash of the candles that the model saw; None: unknown


class KronosForecast(Base):
    """The ledger of all forecasts as they were made. Rows are added and never changed."""

    __tablename__ = "kronos_forecasts"
    # finds a model's newest revision without reading ten million rows
    __table_args__ = (Index(None, "model_name", "interval", "prediction_made_at"),)

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    target_date: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    # hash of the candles that the model saw: corrected candles give another vintage; "": unknown
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
    # {"0.05": price, …} of the model
    close_quantiles: Mapped[dict[str, float]] = mapped_column(JsonObject)
    prob_up: Mapped[float]  # share of the sample paths that close above last_close
    samples: Mapped[int]
    # post-processing of the served quantiles
    calibration: Mapped[str] = mapped_column(server_default="raw")
    # the same levels, calibrated; None if there was no calibration yet
    calibrated_quantiles: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    # the same levels, combined with other forecasters; None if one of the above was served
    combined_quantiles: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    # weights of the combination: forecaster -> share
    shares: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    # last close ÷ the tokenizer's reconstruction of it, by which the paths were multiplied; None if
    # the paths are not anchored
    anchor_factor: Mapped[float | None]
    # made by a challenger, for comparison; the forecasts given to bots are in kronos_predictions
    challenger: Mapped[bool] = mapped_column(server_default=false())


ALL_SYMBOLS = "*"  # value of KronosScore.symbol
ALL_STEPS = 0  # value of KronosScore.step
ALL_SESSIONS = 0  # value of KronosScore.last_sessions
SERVED = "served"  # value of KronosScore.forecast, like the PARTS
PARTS = ("raw", "calibrated", "combined")


class KronosScore(Base):
    """Scores of one model's forecasts: one ticker or all, one step ahead or all, one window.

    Prices are relative to the last close that the model saw, so that tickers are comparable and
    splits have no effect. Scores are of the bands of `forecast`; `raw_…` are those of the model's
    raw bands. A score is None with too few forecasts, or if it is not defined.
    """

    __tablename__ = "kronos_scores"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" if unknown
    interval: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)  # or ALL_SYMBOLS
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # or ALL_STEPS
    # targets within this many newest sessions (60, 250), or ALL_SESSIONS
    last_sessions: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # which quantiles of the ledger: SERVED; or "raw", "calibrated", "combined", for the forecasts
    # that have them. These three have no rows of single tickers by step or window
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
    # its 95 % interval, valid however often it is checked; only for
    skill_low: Mapped[float | None]
    skill_high: Mapped[float | None]  # ALL_SESSIONS
    ewma_walk_crps: Mapped[float | None]  # of a random walk with the EWMA volatility at as_of
    ewma_skill: Mapped[float | None]  # 1 - crps ÷ ewma_walk_crps
    wql: Mapped[float | None]  # weighted quantile loss
    coverage_50: Mapped[float | None]  # share of closes inside the band
    coverage_80: Mapped[float | None]
    coverage_90: Mapped[float | None]
    coverage_50_low: Mapped[float | None]  # its 95 % interval
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
    hit_low: Mapped[float | None]  # its 95 % interval
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
    n: Mapped[int]  # number of forecasts in the fit
    until: Mapped[datetime] = mapped_column(BarTime)  # newest target among them
    fitted_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KronosCombination(Base):
    """The learnt weights of Kronos and the other forecasters, after the session `until`."""

    __tablename__ = "kronos_combinations"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" if unknown
    interval: Mapped[str] = mapped_column(primary_key=True)
    asset_class: Mapped[str] = mapped_column(primary_key=True)  # or "*" for all
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    weights: Mapped[dict[str, float]] = mapped_column(JsonObject)  # forecaster -> share
    # the state from which the weights follow
    gains: Mapped[dict[str, float]] = mapped_column(JsonObject)
    # agreement of Kronos' median with the outcomes, and its size; they determine
    median_agreement: Mapped[float]
    median_size: Mapped[float]  # the part of the median that is kept
    band_factors: Mapped[dict[str, float]] = mapped_column(JsonObject)  # per cent -> factor
    sessions: Mapped[int]  # sessions learnt from
    n: Mapped[int]  # forecasts with an outcome in these sessions
    until: Mapped[datetime] = mapped_column(BarTime)  # the newest of these sessions
    # {"names": […], "rivals": […], "trials": […]}: challengers with and without a share
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

    The bars alone do not show whether a shorter history is due to the source, or was never
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
