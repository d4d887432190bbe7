"""The range of valid numbers in each column. `damage` finds rows outside these ranges."""

from datetime import datetime

from tradingbot.persistence.columns import Base
from tradingbot.persistence.models import (
    BotPosition,
    BotValue,
    HistoricData,
    HistoricRange,
    HistoricSplit,
    KronosCalibration,
    KronosCombination,
    KronosEvent,
    KronosEventScore,
    KronosForecast,
    KronosMatured,
    KronosMaturedPart,
    KronosPrediction,
    KronosScore,
    RunLog,
    Trade,
)
from tradingbot.settings import MAX_HORIZON

SIDES = ("buy", "sell", "dividend")  # of a trade
YEARS = datetime(1900, 1, 1), datetime(2200, 1, 1)
NUMBER = -1e300, 1e300
_PRICE = 1e-300, 1e300
_AMOUNT = 0.0, 1e300
_SHARE = 0.0, 1.0
_COUNT = 0.0, 2.0**31 - 1
_STEP = 1.0, float(MAX_HORIZON)
_STEP_OR_ALL = 0.0, float(MAX_HORIZON)

_FORECAST = {
    "horizon_days": _STEP,
    "samples": (1, _COUNT[1]),
    "prob_up": _SHARE,
    "predicted_volume": _AMOUNT,
    **dict.fromkeys(("last_close", "close_p10", "close_p50", "close_p90"), _PRICE),
    **{f"predicted_{price}": _PRICE for price in ("open", "high", "low", "close")},
}
_SCORE = {
    "step": _STEP_OR_ALL,
    "n": _COUNT,
    "sessions": _COUNT,
    **dict.fromkeys(("hit_rate", "mean_probability", "frequency", "dm_p_value"), _SHARE),
    **{f"{of}coverage_{band}": _SHARE for of in ("", "raw_") for band in (50, 80, 90)},
}
_CANDLE = {**dict.fromkeys(("open", "high", "low", "close"), _PRICE), "volume": _AMOUNT}
# Valid ranges of the columns, for each table whose damaged rows are left out. The table `bots` is
# not listed, because an unreadable portfolio is an error.
RANGES: dict[type[Base], dict[str, tuple[float, float]]] = {
    KronosPrediction: _FORECAST,
    KronosForecast: _FORECAST,
    KronosEvent: {
        "horizon_days": _STEP,
        "last_close": _PRICE,
        **dict.fromkeys(("probability", "low", "high"), _SHARE),
    },
    KronosScore: _SCORE | {"last_sessions": _COUNT},
    KronosEventScore: _SCORE,
    KronosCalibration: {"step": _STEP_OR_ALL, "band": (1, 99), "factor": _PRICE, "n": _COUNT},
    KronosCombination: {"step": _STEP, "sessions": _COUNT, "n": _COUNT},
    KronosMatured: {},
    KronosMaturedPart: {"version": _COUNT, "forecasts": _COUNT},
    HistoricData: _CANDLE,
    HistoricRange: {},
    HistoricSplit: {"ratio": (1e-9, 1e9)},
    RunLog: {},
    BotPosition: {"quantity": _AMOUNT},
    BotValue: {},
    Trade: dict.fromkeys(("quantity", "price", "costs"), _AMOUNT),
}
OF_BOTS = (BotPosition, BotValue, Trade)
# Columns that older schemas lack. `kronosbot status` reads an older schema without an upgrade.
NEWER = {
    KronosPrediction: ("bars_hash", "calibration"),
    KronosForecast: ("bars_hash", "calibration", "anchor_factor", "challenger"),
}
