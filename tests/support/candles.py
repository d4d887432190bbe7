"""Forecast requests with simulated candles, in the format of the service."""

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np


def bars(count: int = 64, *, start: date = date(2026, 1, 5), volume: bool = True) -> list[Any]:
    """Return daily weekday candles; every call returns the same ones."""
    random = np.random.default_rng(7)
    days = [start + timedelta(days=7 * (bar // 5) + bar % 5) for bar in range(count)]
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, count)))
    open_ = close * (1 + random.normal(0, 0.003, count))
    rows = [
        {
            "timestamp": day.isoformat(),
            "open": float(o),
            "high": float(max(o, c) * 1.004),
            "low": float(min(o, c) * 0.996),
            "close": float(c),
        }
        for day, o, c in zip(days, open_, close, strict=True)
    ]
    if volume:
        for row, v in zip(rows, random.integers(1e6, 1e7, count), strict=True):
            row["volume"] = float(v)
    return rows


def request(**changes: Any) -> dict[str, Any]:
    """Return a valid request for three days ahead, with `changes` applied."""
    return {"symbol": "SPY", "horizon": 3, "ohlcv": bars(), "samples": 8, "seed": 1} | changes


def at(moments: list[datetime]) -> list[Any]:
    """Return flat candles at these times."""
    price = {"open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0}
    return [{"timestamp": moment.isoformat(), **price} for moment in moments]


def sessions(days: int, times: list[str], *, every_day: bool = False) -> list[datetime]:
    """Return these times on `days` consecutive weekdays from Monday, 2026-03-02."""
    start, found, day = date(2026, 3, 2), [], 0
    while len(found) < days * len(times):
        today = start + timedelta(days=day)
        day += 1
        if every_day or today.weekday() < 5:
            found += [datetime.fromisoformat(f"{today}T{time}") for time in times]
    return found
