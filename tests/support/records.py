"""A ledger with history, made without a model: known candles, forecasts of a given width."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
from sqlalchemy import insert

from tradingbot.evaluation.close_outcomes import LEVELS
from tradingbot.markets.calendars import next_sessions
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import HistoricData, KronosForecast, RunLog

VOLATILITY = 0.012  # standard deviation of the closes' log returns per session
Z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
LAST = datetime(2024, 5, 15)  # the newest session, a Wednesday
NOW = datetime(2024, 5, 15, 22)  # after the close in New York


@dataclass(frozen=True)
class Past:
    """Nights of forecasts for `sessions` sessions up to LAST, after enough bars for a random walk.

    The model's medians are right. Its bands are `width` times as wide as they should be; where
    `calibrated` is given, the published bands are that many times as wide.
    """

    symbols: Sequence[str]
    sessions: int = 40
    horizon: int = 5
    width: float = 1.0
    calibrated: float | None = None
    bars: int = 300
    model: str = "mini"
    revision: str | None = "r1"

    def days(self) -> list[datetime]:
        span = 2 * (self.bars + self.sessions)
        days = next_sessions("AAPL", LAST - timedelta(days=span), span)
        return [day for day in days if day <= LAST][-self.bars - self.sessions :]

    def candles(self, symbol: str) -> list[dict[str, Any]]:
        random = np.random.default_rng(sum(map(ord, symbol)))
        days = self.days()
        closes = 100 * np.exp(np.cumsum(VOLATILITY * random.standard_normal(len(days))))
        opens = np.concatenate([closes[:1], closes[:-1]])
        reach = 1 + 0.005 * random.random(len(days))
        high, low = np.maximum(opens, closes) * reach, np.minimum(opens, closes) / reach
        columns = np.stack([opens, high, low, closes, np.full(len(days), 1000.0)], axis=1)
        names = ["open", "high", "low", "close", "volume"]
        return [
            {"symbol": symbol, "interval": "1d", "timestamp": day}
            | dict(zip(names, prices, strict=True))
            for day, prices in zip(days, columns.tolist(), strict=True)
        ]

    def forecasts(self, symbol: str) -> list[dict[str, Any]]:
        candles = self.candles(symbol)
        ahead = next_sessions("AAPL", LAST, self.horizon)
        days = [*self.days(), *ahead]
        rows = []
        for number in range(self.bars, len(candles)):
            bar = candles[number]
            for step in range(1, self.horizon + 1):
                spread = VOLATILITY * step**0.5 * Z
                raw = bar["close"] * np.exp(self.width * spread)
                given = None if self.calibrated is None else bar["close"] * np.exp(
                    self.calibrated * spread
                )  # fmt: skip
                rows.append(self._row(bar, days[number + step], step, raw, given))
        return rows

    def _row(
        self, bar: dict[str, Any], target: datetime, step: int, raw: Any, given: Any
    ) -> dict[str, Any]:
        close = bar["close"]
        return {
            "symbol": bar["symbol"],
            "interval": "1d",
            "model_name": self.model,
            "model_revision": self.revision,
            "as_of": bar["timestamp"],
            "target_date": target,
            "prediction_made_at": bar["timestamp"] + timedelta(hours=22),
            "horizon_days": step,
            "last_close": close,
            "predicted_open": close,
            "predicted_high": close * 1.01,
            "predicted_low": close * 0.99,
            "predicted_close": close * (1.002 if bar["timestamp"].day % 2 else 0.998),
            "predicted_volume": 1000.0,
            "close_quantiles": _by_level(raw),
            "prob_up": 0.5,
            "samples": 20,
            "calibration": "raw" if given is None else "conformal",
            "calibrated_quantiles": None if given is None else _by_level(given),
        }

    def store(self, url: str, *, candles: bool = True, source: str = "yahoo") -> "Past":
        """Store the forecasts, a run of the job and the candles, as a night with `yahoo` leaves
        them.
        """
        with get_db_session(url) as session:
            for symbol in self.symbols:
                session.execute(insert(KronosForecast), self.forecasts(symbol))
                if candles:
                    session.execute(insert(HistoricData), self.candles(symbol))
            session.add(
                RunLog(
                    name="kronosbot", started_at=NOW, finished_at=NOW + timedelta(seconds=41),
                    status="ok", exit_code=0, details={"model": self.model, "source": source},
                    counts={"active": 4, "stored": 4, "already_there": 0, "failed": 0, "rows": 20},
                )
            )  # fmt: skip
        return self


def _by_level(prices: Any) -> dict[str, float]:
    return {f"{level:g}": price for level, price in zip(LEVELS, prices.tolist(), strict=True)}
