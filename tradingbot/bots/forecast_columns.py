"""Stored forecasts as columns to add to candles: the forecast known at each bar."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from tradingbot.bots.account import ticker
from tradingbot.bots.orders import next_open
from tradingbot.errors import ConfigError
from tradingbot.markets.data_quality import bar_closes
from tradingbot.markets.session_dates import naive_times
from tradingbot.persistence.candles import read_candles
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.forecast_queries import forecast_rows
from tradingbot.typing import SessionFactory

if TYPE_CHECKING:
    from datetime import datetime

PRICES = ["close", "close_p10", "close_p50", "close_p90"]
COLUMNS = ["as_of", "made_at", "model", "target_date", "expected_return", "prob_up", *PRICES]


def forecasts_as_of(
    symbol: str,
    index: Iterable[Any],
    *,
    horizon: int = 5,
    interval: str = "1d",
    model: str | None = None,
    closes: "pd.Series[float] | None" = None,
    sessions: SessionFactory | None = None,
) -> pd.DataFrame:
    """Return a row for each time of `index`: the forecast known when that bar closed.

    Columns: `as_of` (newest bar known to the forecast), `made_at`, `model`, `target_date`
    (`horizon` bars after as_of), `expected_return` (predicted close ÷ close at as_of - 1),
    `prob_up`, and the predicted `close` with `close_p10`, `close_p50`, `close_p90`. Rows are empty
    if there was no forecast, or its target was over.

    There is no look-ahead: no row contains anything of a later as_of. Of several forecasts of the
    same bar, those made before the next bar opened count. If there are none, a later one counts;
    its model may have been trained on what followed, see `made_at`.

    `index` has bar times as in the frame of candles, with or without a zone. With intraday times a
    daily forecast counts from the close of its session. Prices are in the scale of `closes`, your
    candles' closes by time, or else of the candles that the database keeps.

    >>> frame["expected"] = forecasts_as_of("AAPL", frame.index)["expected_return"]
    """
    symbol = ticker(symbol)
    given = index if isinstance(index, pd.DatetimeIndex) else pd.DatetimeIndex(list(index))
    with (sessions or partial(get_db_session, create=False))() as session:
        rows = forecast_rows(session, symbol, interval=interval, step=horizon, model_name=model)
        kept = read_candles(session, symbol, interval, columns=["close"]) if rows else []
    if isinstance(closes, pd.DataFrame):
        raise ConfigError("closes: expected one column, such as frame['close']")
    known = _counting(symbol, interval, rows)
    scale = (
        {row.timestamp: row.close for row in kept}
        if closes is None
        else _by_time(symbol, interval, closes)
    )
    found = _joined(symbol, interval, given, known)
    factor = found["as_of"].map(scale) / found["last_close"]
    found[PRICES] = found[PRICES].mul(factor.fillna(1.0), axis=0)
    return found[COLUMNS].set_axis(given, axis=0)


def _counting(symbol: str, interval: str, rows: Iterable[Any]) -> pd.DataFrame:
    """Return one forecast per as_of: the newest of those made in time, else the newest."""
    best: dict[datetime, tuple[tuple[bool, datetime], Any]] = {}
    opens: dict[datetime, datetime] = {}
    for row in rows:
        if row.as_of not in opens:
            opens[row.as_of] = next_open(symbol, row.as_of, interval)
        made = row.prediction_made_at
        rank = made <= opens[row.as_of], made
        if row.as_of not in best or rank > best[row.as_of][0]:
            best[row.as_of] = rank, row
    frame = pd.DataFrame(
        [
            {
                "as_of": row.as_of,
                "made_at": row.prediction_made_at,
                "model": row.model_name,
                "target_date": row.target_date,
                "expected_return": row.predicted_close / row.last_close - 1,
                "prob_up": row.prob_up,
                "last_close": row.last_close,
                "close": row.predicted_close,
                **{f"close_p{level}": _quantile(row, level) for level in (10, 50, 90)},
            }
            for _, row in sorted(best.values(), key=lambda entry: entry[1].as_of)
        ],
        columns=[*COLUMNS, "last_close"],
    )
    for name in frame.columns.difference(["model"]):
        time = name in ("as_of", "made_at", "target_date")
        frame[name] = frame[name].astype("datetime64[us]" if time else "float64")
    return frame.astype({"model": object})


def _quantile(row: Any, level: int) -> float | None:
    prices = row.calibrated_quantiles or row.close_quantiles
    price: float | None = prices.get(f"{level / 100:g}")
    return price


def _joined(
    symbol: str, interval: str, given: pd.DatetimeIndex, known: pd.DataFrame
) -> pd.DataFrame:
    wall = given.tz_localize(None)
    daily = wall.equals(wall.normalize())
    times = naive_times(symbol, given, "1d" if daily else interval if interval != "1d" else "1m")
    as_of = pd.DatetimeIndex(known["as_of"])
    known_at = as_of if daily or interval != "1d" else bar_closes(symbol, as_of, interval)
    bars = pd.DataFrame({"time": times.as_unit("us"), "position": range(len(times))})
    joined = pd.merge_asof(
        bars.sort_values("time"),
        known.assign(known_at=known_at.as_unit("us")),
        left_on="time",
        right_on="known_at",
    ).sort_values("position", ignore_index=True)
    over = joined["target_date"] <= joined["time"]
    return joined.mask(over)


def _by_time(symbol: str, interval: str, closes: "pd.Series[float]") -> dict[Any, float]:
    times = naive_times(symbol, pd.DatetimeIndex(closes.index), interval)
    return dict(zip(times, closes.to_list(), strict=True))
