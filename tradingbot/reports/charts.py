"""Data of the charts that `static/report.js` draws.

    {"calendars": [["2024-05-14", …], …],         days shared by several tickers
     "tickers": [{"calendar": 0, "ohlc": [[…], [high], [low], [close]],
                  "fan": {"as_of", "last_close", "days", "quantiles": (5, days)},
                  "past": [{"step": 1, "quantiles": (5, days)}, …]}],
     "reliability": {"nominal": […], "given": series, "raw": series or null},
     "pit": {"given", "raw"}, "skill": {"steps", "given", "raw"},
     "shares": {"days": […], "names": […], "values": (names, days)}}

A series is {"value": […], "low": […] or null, "high": …}; values are shares, not per cent.
"""

from typing import Any

import numpy as np

from tradingbot.reports.combination_shares import NAMES, SharesByDay
from tradingbot.reports.figures import Figures
from tradingbot.reports.record import ForecastFan, Record, TickerRecord


def chart_data(record: Record, figures: Figures) -> dict[str, Any]:
    """Return the charts' data in JSON types; None for NaN."""
    calendars: dict[tuple[str, ...], int] = {}
    tickers = [_ticker(ticker, calendars) for ticker in record.tickers]
    shares = {"shares": _shares(record.shares_by_day)} if record.shares_by_day.days else {}
    return {"calendars": list(calendars), "tickers": tickers, **shares, **figures.charts}


def _shares(by_day: SharesByDay) -> dict[str, Any]:
    return {
        "days": [f"{day:%Y-%m-%d}" for day in by_day.days],
        "names": NAMES,
        "values": [rounded(of_one) for of_one in zip(*by_day.shares, strict=True)],
    }


def _ticker(ticker: TickerRecord, calendars: dict[tuple[str, ...], int]) -> dict[str, Any]:
    days = tuple(f"{day:%Y-%m-%d}" for day in ticker.candles.index)
    return {
        "calendar": calendars.setdefault(days, len(calendars)),
        "ohlc": [rounded(ticker.candles[name]) for name in ("open", "high", "low", "close")],
        "fan": _fan(ticker.fan),
        "past": [
            {"step": past.step, "quantiles": [rounded(row) for row in past.quantiles]}
            for past in ticker.past
        ],
    }


def _fan(fan: ForecastFan) -> dict[str, Any]:
    return {
        "as_of": f"{fan.as_of:%Y-%m-%d}",
        "last_close": rounded([fan.last_close])[0],
        "days": [f"{day:%Y-%m-%d}" for day in fan.days],
        "quantiles": [rounded(row) for row in fan.quantiles],
    }


def rounded(values: Any) -> list[float | None]:
    """Round to six digits, more than a chart can show; None for NaN."""
    numbers = np.asarray(values, dtype="float64").tolist()
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in numbers]
