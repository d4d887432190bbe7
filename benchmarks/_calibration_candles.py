"""Candles for `calibration.py`: unseen real ones, and a simulated market."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from tradingbot.data.sources.csv_files import CsvSource
from tradingbot.data.sources.sample import SampleSource
from tradingbot.markets.calendars import next_sessions

TRAINED = 0.85  # the first part of these candles, on which kronos-nano was trained
# sessions of the simulated market before and after the volatility doubles
TICKERS, CALM, STORMY = 10, 150, 120


@dataclass(frozen=True)
class Candles:
    """Candles of one symbol. Bars up to `since` were, or may have been, part of the training."""

    symbol: str
    bars: pd.DataFrame
    since: pd.Timestamp
    interval: str = "1d"


def real_candles(folder: Path | None) -> Iterator[Candles]:
    """Yield real candles that are partly unseen in kronos-nano's training, by its model card."""
    sample = SampleSource()
    for symbol in sample.symbols():
        bars = sample.fetch(symbol, "1d", pd.Timestamp.min, pd.Timestamp.max).dropna()
        yield Candles(symbol, bars, bars.index[int(TRAINED * len(bars))])
    from bokeh_sampledata import stocks

    facebook = tidy(pd.DataFrame(stocks.FB), "date")
    # never in training; the first 60 bars serve as context
    yield Candles("FB", facebook, facebook.index[60])
    if folder is None:
        return
    later = pd.Timestamp("2013-03-02")  # candles of other packages, from after the training period
    for name, symbol in (("sp500", "^GSPC"), ("nasdaq", "^IXIC")):
        if (file := folder / f"arch/data/{name}/{name}.csv.gz").exists():
            bars = tidy(pd.read_csv(file), "Date")
            yield Candles(symbol, bars, bars.index[int(TRAINED * len(bars))])
    if (file := folder / "pmdarima/datasets/data/msft.tar.gz").exists():
        with tarfile.open(file) as archive:
            content = archive.extractfile(archive.getmembers()[0])
            assert content is not None
            yield Candles("MSFT-2017", tidy(pd.read_csv(content), "Date"), later)
    if (file := folder / "gym_anytrading/datasets/data/STOCKS_GOOGL.csv").exists():
        yield Candles("GOOGL", tidy(pd.read_csv(file), "Date"), later)
    if (file := folder / "backtesting/test/EURUSD.csv").exists():
        rows = pd.read_csv(file)
        bars = tidy(rows, str(rows.columns[0]))
        yield Candles("EURUSD=X", bars, bars.index[int(TRAINED * len(bars))], "1h")


def csv_candles(folder: Path, since: pd.Timestamp) -> Iterator[Candles]:
    """Yield the daily files of a folder, by ticker. Days from `since` on were not in training."""
    source = CsvSource(folder)
    for symbol in source.symbols():
        bars = source.fetch(symbol, "1d", datetime.min, datetime.max).dropna()
        yield Candles(symbol, bars, since)


def tidy(rows: pd.DataFrame, time: str) -> pd.DataFrame:
    prices = ["open", "high", "low", "close"]
    bars = rows.rename(columns=str.lower)
    bars.index = pd.DatetimeIndex(bars[time.lower()])
    bars = bars[[*prices, "volume"]].astype("float64").dropna().sort_index()
    return bars[~bars.index.duplicated() & (bars[prices] > 0).all(axis=1)]


def simulated_candles() -> Iterator[Candles]:
    """Yield a GARCH market of TICKERS tickers with a common factor.

    Its returns double after CALM sessions.
    """
    random = np.random.default_rng(8)
    past = 250
    n = past + CALM + STORMY
    shocks = np.sqrt(0.3) * random.standard_normal((n, 1)) + np.sqrt(0.7) * random.standard_normal(
        (n, TICKERS)
    )
    moves, variance = np.empty((n, TICKERS)), np.full(TICKERS, 1.5e-4)
    for t in range(n):
        moves[t] = np.sqrt(variance) * shocks[t]
        variance = 3e-6 + 0.06 * moves[t] ** 2 + 0.92 * variance
    moves[past + CALM :] *= 2
    days = pd.DatetimeIndex(next_sessions("SPY", pd.Timestamp("2014-01-01").to_pydatetime(), n))
    for number in range(TICKERS):
        close = 100 * np.exp(np.cumsum(moves[:, number]))
        opening = np.concatenate([[100.0], close[:-1]])
        reach = np.exp(np.abs(moves[:, number]) * random.random(n) * 0.5)
        bars = pd.DataFrame(
            {
                "open": opening,
                "high": np.maximum(opening, close) * reach,
                "low": np.minimum(opening, close) / reach,
                "close": close,
                "volume": 1e6 * np.exp(0.2 * random.standard_normal(n)),
            },
            index=days,
        )
        yield Candles(f"SIM{number}", bars, days[past])
