"""Backtest files of simulated markets with known volatility."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from tests.support.records import VOLATILITY, Z
from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar, Reconstruction
from tradingbot.markets.calendars import next_sessions
from tradingbot.walk_forward.results import ResultsFile

SETTINGS = {
    "model": "some-model", "revision": "r1+anchored", "source": "sample", "until": "2024-05-20",
    "horizon": "2", "stride": "1", "context": "500", "samples": "20", "temperature": "1",
    "top_p": "0.9",
}  # fmt: skip
DAYS = next_sessions("AAPL", datetime(2021, 1, 4), 400)
FIRST = 300  # index of the first bar that is forecast
FACTOR = 1.02  # the tokenizer reconstructs last closes two per cent too low
SYMBOLS = ("AAPL", "IBM", "BTC-USD")


def candles(symbol: str) -> pd.DataFrame:
    random = np.random.default_rng(sum(map(ord, symbol)))
    within = VOLATILITY / 20**0.5 * random.standard_normal((len(DAYS), 20))
    paths = 100 * np.exp(within.ravel().cumsum()).reshape(len(DAYS), 20)
    names = ("open", "high", "low", "close")
    prices = paths[:, 0], paths.max(axis=1), paths.min(axis=1), paths[:, -1]
    return pd.DataFrame(dict(zip(names, prices, strict=True)), pd.DatetimeIndex(DAYS))


def forecast(symbol: str, at: int, bars: pd.DataFrame, width: float) -> Forecast:
    close = float(bars["close"].iloc[at])
    made = []
    for step in (1, 2):
        prices = close * np.exp(width * VOLATILITY * step**0.5 * Z)
        made.append(
            ForecastBar(
                step, DAYS[at + step], close, close, close, close, 0.0,
                dict(zip(QUANTILE_LEVELS, prices.tolist(), strict=True)), 0.5,
            )
        )  # fmt: skip
    return Forecast(
        symbol, "1d", "some-model", "r1+anchored", DAYS[at], DAYS[at], close, 20, None,
        tuple(made), reconstruction=Reconstruction(close / FACTOR, FACTOR),
    )  # fmt: skip


def write(path: Path, *, width: float = 0.4, sessions: int = 90) -> None:
    with ResultsFile(path).open_for(SETTINGS) as file:
        for symbol in SYMBOLS:
            bars = candles(symbol)
            file.add_closes(symbol, bars["close"], bars)
            for at in range(FIRST, FIRST + sessions):
                made = forecast(symbol, at, bars, width)
                closes = {bar.target_date: bars["close"][bar.target_date] for bar in made.bars}
                file.add([(made, closes)])
