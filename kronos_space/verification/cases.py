"""Histories for comparisons and measurements: seeded random walks, real candles if installed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kronos_space.engine.engine import Prompt
from kronos_space.engine.sampling import SamplingParams
from kronos_space.forecasting.candles import History, Scale, history_from_rows, normalise
from kronos_space.forecasting.timestamps import Stamps, Times, parse_times, time_features

PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Case:
    """One series to forecast, in JSON types: lists of texts and numbers."""

    name: str
    history: dict[str, list[Any]]  # timestamp, open, high, low, close, and optionally volume
    targets: list[str]  # timestamps of the future bars

    def newest(self, bars: int) -> "Case":
        """Return the case with its newest `bars` bars only."""
        history = {column: values[-bars:] for column, values in self.history.items()}
        return Case(self.name, history, self.targets)

    def as_json(self) -> dict[str, Any]:
        return {"history": self.history, "targets": self.targets}

    def parsed(self) -> tuple[History, Times]:
        """Return the parsed history and the future timestamps."""
        rows = [
            dict(zip(self.history, row, strict=True))
            for row in zip(*self.history.values(), strict=True)
        ]
        return history_from_rows(rows), parse_times(self.targets, noun="target")


def prompt_for(
    history: History, targets: Times, sampling: SamplingParams, seed: int
) -> tuple[Prompt, Scale]:
    """Return the engine's input, and the scaling that turns its output back into prices."""
    bars, scale = normalise(history.values)
    stamps = time_features(np.concatenate([history.times.wall, targets.wall]))
    return Prompt(bars, stamps, len(targets.wall), sampling, seed), scale


def made_up(
    name: str, *, bars: int, horizon: int, hourly: bool = False, volume: bool = True, seed: int = 0
) -> Case:
    """Return a random walk with steps of about 1 %; equal arguments give equal walks."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.01, bars)))
    open_ = np.concatenate([[100], close[:-1]]) * np.exp(random.normal(0, 0.002, bars))
    reach = np.exp(np.abs(random.normal(0, 0.004, (2, bars))))
    high, low = np.maximum(open_, close) * reach[0], np.minimum(open_, close) / reach[1]
    history = dict(zip(PRICES, (open_, high, low, close), strict=True))
    if volume:
        history["volume"] = np.round(1e6 * np.exp(random.normal(0, 0.3, bars)))
    times = _hours(bars + horizon) if hourly else _weekdays(bars + horizon)
    columns = {column: values.tolist() for column, values in history.items()}
    return Case(name, {"timestamp": times[:bars], **columns}, times[bars:])


def real(
    symbol: str, *, bars: int, horizon: int, volume: bool = True, ahead: int = 0
) -> list[Case]:
    """Return daily candles of the package bokeh-sampledata.

    At least `ahead` bars and the horizon follow each history. AAPL, GOOG, IBM and MSFT from 2000 or
    2004 to March 2013. Returns [] if the package is not installed.
    """
    try:
        from bokeh_sampledata import stocks
    except ImportError:
        return []
    table = getattr(stocks, symbol)
    end = len(table["date"]) - horizon - ahead
    used = slice(end - bars, end)
    prices = np.array([table[column][used] for column in PRICES])
    prices[1], prices[2] = prices.max(axis=0), prices.min(axis=0)  # some rows are wrong by a cent
    columns = dict(zip(PRICES, prices.tolist(), strict=True))
    if volume:
        columns["volume"] = [float(value) for value in table["volume"][used]]
    dates = [f"{date}T00:00:00" for date in table["date"]]
    return [Case(symbol, {"timestamp": dates[used], **columns}, dates[end : end + horizon])]


def _weekdays(count: int) -> list[str]:
    days = np.busday_offset("2015-01-01", np.arange(count), roll="forward")
    return _texts(days)


def _hours(count: int) -> list[str]:
    return _texts(np.datetime64("2015-01-01T00") + np.arange(count))


def _texts(times: Stamps) -> list[str]:
    return [str(time) for time in times.astype("datetime64[s]")]
