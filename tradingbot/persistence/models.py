"""The tables, as SQLAlchemy models.

The schema itself is made by the migrations beside this file; a test holds the two
together. A change here needs a migration and a new `SCHEMA_VERSION`.

Times are naive UTC. Those of a bar (`as_of`, `target_date`, `timestamp`) are whole seconds, both
when stored and when compared: midnight with stray microseconds finds the row of midnight.
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
from tradingbot.runtime.clock import utcnow

SCHEMA_VERSION = "0011"  # the newest migration: lets init_db see at once that nothing is to do


class KronosPrediction(Base):
    """The latest forecast of one future bar by one model.

    What may be None is so in rows of the first published layout only, which did not keep it;
    the volume also where the model had none to learn from.
    """

    __tablename__ = "kronos_predictions"
    __table_args__ = (Index(None, "symbol", "target_date"),)

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    target_date: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str | None]
    prediction_made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    as_of: Mapped[datetime | None] = mapped_column(BarTime)  # the newest bar the model saw
    horizon_days: Mapped[int]  # steps ahead: 1 = the next bar
    last_close: Mapped[float | None]
    predicted_open: Mapped[float]
    predicted_high: Mapped[float]
    predicted_low: Mapped[float]
    predicted_close: Mapped[float]
    predicted_volume: Mapped[float | None]
    close_p10: Mapped[float | None]  # quantiles as `calibration` says
    close_p50: Mapped[float | None]
    close_p90: Mapped[float | None]
    prob_up: Mapped[float | None]  # chance of a close above last_close, as `calibration` says
    samples: Mapped[int | None]
    calibration: Mapped[str] = mapped_column(server_default="raw")  # "raw", or what made them
    # of combined quantiles: forecaster -> its share; None where they are Kronos' alone
    shares: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    bars_hash: Mapped[str | None]  # of the candles that the model saw; None: not known


class KronosForecast(Base):
    """The ledger: what was believed when. Rows are added and never changed."""

    __tablename__ = "kronos_forecasts"
    # which revision has spoken last, without reading ten million rows
    __table_args__ = (Index(None, "model_name", "interval", "prediction_made_at"),)

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    target_date: Mapped[datetime] = mapped_column(BarTime, primary_key=True)
    # of the candles that the model saw: from corrected ones comes another vintage; "": not known
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
    close_quantiles: Mapped[dict[str, float]] = mapped_column(JsonObject)  # {"0.05": price, …}, raw
    prob_up: Mapped[float]  # share of the sample paths that close above last_close, raw
    samples: Mapped[int]
    calibration: Mapped[str] = mapped_column(server_default="raw")  # of what the bots were given
    # the same levels, as wide as the record asks for; None where it asked for nothing yet
    calibrated_quantiles: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    # the same levels, combined with other forecasters; None where bots were given one of the above
    combined_quantiles: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)
    shares: Mapped[dict[str, float] | None] = mapped_column(JsonOrNull)  # of those: forecaster -> …
    # last close ÷ what the model makes of it: the paths' prices were multiplied by this; None: the
    # paths are not anchored
    anchor_factor: Mapped[float | None]
    # made beside those that the bots were given, which stand in kronos_predictions: by a model that
    # is compared with the other
    challenger: Mapped[bool] = mapped_column(server_default=false())


ALL_SYMBOLS = "*"  # in KronosScore.symbol
ALL_STEPS = 0  # in KronosScore.step
ALL_SESSIONS = 0  # in KronosScore.last_sessions
SERVED = "served"  # in KronosScore.forecast, and its parts beside it
PARTS = ("raw", "calibrated", "combined")


class KronosScore(Base):
    """How good one model's forecasts were: one ticker or all, one step ahead or all, one window.

    Prices are shares of the last close that the model saw, so that tickers can be put together and
    splits change nothing. Measures are of the bands of `forecast`, `raw_…` of the model's own.
    A measure is None where too few forecasts stand behind it, or where it says nothing.
    """

    __tablename__ = "kronos_scores"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" where it is not known
    interval: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)  # or ALL_SYMBOLS
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # or ALL_STEPS
    # targets within that many newest sessions (60, 250), or ALL_SESSIONS
    last_sessions: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # which of the ledger's quantiles: SERVED, as they were given; or "raw", "calibrated",
    # "combined", of the forecasts that have them. These three have no rows of single tickers by
    # step or window
    forecast: Mapped[str] = mapped_column(primary_key=True, default=SERVED, server_default=SERVED)
    n: Mapped[int]  # forecasts with an outcome
    sessions: Mapped[int]  # distinct target dates among them
    first_target: Mapped[datetime] = mapped_column(BarTime)
    last_target: Mapped[datetime] = mapped_column(BarTime)
    mae: Mapped[float | None]  # of the mean close
    naive_mae: Mapped[float | None]  # of "it stays at the last close"
    relative_mae: Mapped[float | None]  # mae ÷ naive_mae
    mase: Mapped[float | None]  # the former name of relative_mae, and the same number
    crps: Mapped[float | None]
    raw_crps: Mapped[float | None]
    random_walk_crps: Mapped[float | None]  # that resamples the history's own returns
    crps_skill: Mapped[float | None]  # 1 - crps ÷ random_walk_crps
    skill_low: Mapped[float | None]  # its 95 % interval, however often it is looked at; of
    skill_high: Mapped[float | None]  # ALL_SESSIONS only
    ewma_walk_crps: Mapped[float | None]  # of a walk as volatile as the market was at as_of
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
    """How much wider one band must be than the model says: `factor` times its half-widths."""

    __tablename__ = "kronos_calibrations"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" where it is not known
    interval: Mapped[str] = mapped_column(primary_key=True)
    asset_class: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    band: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # per cent: 10 … 90
    factor: Mapped[float]
    n: Mapped[int]  # forecasts that it was fitted on
    until: Mapped[datetime] = mapped_column(BarTime)  # the newest target among them
    fitted_at: Mapped[datetime] = mapped_column(UtcDateTime)


class KronosCombination(Base):
    """What the record says of Kronos and the plain experts beside it, after the session `until`."""

    __tablename__ = "kronos_combinations"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    model_revision: Mapped[str] = mapped_column(primary_key=True)  # "" where it is not known
    interval: Mapped[str] = mapped_column(primary_key=True)
    asset_class: Mapped[str] = mapped_column(primary_key=True)  # or "*", all of them
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    weights: Mapped[dict[str, float]] = mapped_column(JsonObject)  # forecaster -> its share
    gains: Mapped[dict[str, float]] = mapped_column(JsonObject)  # what the weights follow from
    median_agreement: Mapped[float]  # of Kronos' median with the outcomes, and its own size:
    median_size: Mapped[float]  # so much of it is kept as these two say
    band_factors: Mapped[dict[str, float]] = mapped_column(JsonObject)  # per cent -> factor
    sessions: Mapped[int]  # that were learnt from
    n: Mapped[int]  # forecasts with an outcome on them
    until: Mapped[datetime] = mapped_column(BarTime)  # the newest of these sessions
    # {"names": […], "rivals": […], "trials": […]}: of further models, with and without a share
    challengers: Mapped[dict[str, Any] | None] = mapped_column(JsonOrNull)
    learnt_at: Mapped[datetime] = mapped_column(UtcDateTime)


class HistoricData(Base):
    """One past bar, as it was fetched; a volume of 0 where none is known."""

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
    """From `since` on, `historic_data` holds all older bars that there are of a ticker.

    Whether a history that begins later is short because of its source, or only because nobody
    asked for more, cannot be told from the bars.
    """

    __tablename__ = "historic_ranges"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(BarTime)
    fetched_at: Mapped[datetime] = mapped_column(UtcDateTime)


class HistoricSplit(Base):
    """One split that the source of a ticker's candles knows: `ratio` new shares for an old one."""

    __tablename__ = "historic_splits"

    symbol: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[datetime] = mapped_column(BarTime, primary_key=True)  # the first at the new price
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
