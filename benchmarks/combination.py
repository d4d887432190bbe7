"""What combining kronos-nano with plain experts gives, walk-forward: `make combination`.

    python -m benchmarks.combination --candles DIR --since 2016-01-01

Candles: the daily CSV files of --candles, one a ticker, else the bundled sample. kronos-nano was
trained on days up to 2015-12-30, so only later ones are unseen: --since is the first day that is
forecast. From every session it forecasts 5 bars as the job does. Its paths are anchored, that is
multiplied by the real last close over the one that its tokenizer makes of it, and combined with
what was known on the session before.

Prints markdown on stdout, and what it is doing on stderr. Intervals are of 95 %, from 2,000
resamples of blocks of 20 sessions.
"""

import argparse
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks._support import say, table
from kronos_space.engine.quantiles import path_quantiles
from kronos_space.forecasting.forecaster import Forecaster
from kronos_space.schemas import ForecastRequest
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import load_checkpoint
from tradingbot.combination_shares import EWMA_WALK, RANDOM_WALK
from tradingbot.data.sources.csv_files import CsvSource
from tradingbot.data.sources.sample import SampleSource
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.postprocessing.combination import Course, Panel, replay, untaught
from tradingbot.postprocessing.experts import EXPERTS, FORECASTERS, expert_quantiles
from tradingbot.settings import Settings as JobSettings
from tradingbot.space.wire import TOP_P
from tradingbot.typing import Floats, Times

STEPS, CONTEXT, BATCH = 5, 500, 32
BLOCK, RESAMPLES = 20, 2000
LEVELS = np.array(QUANTILE_LEVELS)
MEDIAN = 9


def main() -> int:
    """The exit status."""
    options = parser().parse_args()
    model = Model(options.paths)
    tickers = [
        model.forecasts(symbol, bars, options.since)
        for symbol, bars in candles(options.candles).items()
    ]
    tickers = [one for one in tickers if len(one.as_of)]
    if not tickers:
        say(f"no session from {options.since:%Y-%m-%d} on has {CONTEXT // 2} bars before it")
        return 1
    results = [result_of(tickers, step) for step in range(1, STEPS + 1)]
    print(skill_table(results), "", weight_table(results), "", ticker_table(results), sep="\n")
    return 0


def candles(folder: Path | None) -> dict[str, pd.DataFrame]:
    source = SampleSource() if folder is None else CsvSource(folder)
    return {
        symbol: source.fetch(symbol, "1d", datetime.min, datetime.max).dropna()
        for symbol in source.symbols()
    }


# forecasts --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ticker:
    """The forecasts of one ticker; quantiles and outcomes are logs of price ÷ last close."""

    symbol: str
    bars: pd.DataFrame
    as_of: Times  # (n,)
    raw: Floats  # (n, STEPS, 19)
    anchored: Floats  # (n, STEPS, 19)
    actual: Floats  # (n, STEPS)
    target: Times  # (n, STEPS)


class Model:
    """kronos-nano with the job's settings."""

    def __init__(self, paths: int) -> None:
        self._paths = paths
        settings = Settings.from_env({"KRONOS_MODEL": "kronos-nano"})
        self._forecaster = Forecaster(load_checkpoint("kronos-nano"), settings)

    def forecasts(self, symbol: str, bars: pd.DataFrame, since: pd.Timestamp) -> Ticker:
        """From every session that has bars enough before it and STEPS after it."""
        first = max(CONTEXT // 2, int(bars.index.searchsorted(since)))
        origins = np.arange(first, len(bars) - STEPS)
        say(f"{symbol}: {len(origins)} forecasts")
        raw, anchored = [], []
        for begin in range(0, len(origins), BATCH):
            for paths, factor in self._paths_of(symbol, bars, origins[begin : begin + BATCH]):
                raw.append(path_quantiles(paths, QUANTILE_LEVELS).T)
                anchored.append(raw[-1] + factor)
        ahead = origins[:, None] + np.arange(1, STEPS + 1)
        closes = np.log(bars["close"].to_numpy("float64"))
        times = bars.index.to_numpy().astype("datetime64[s]")
        shape = (len(origins), STEPS, len(LEVELS))
        return Ticker(
            symbol=symbol,
            bars=bars,
            as_of=times[origins],
            raw=np.reshape(raw, shape),
            anchored=np.reshape(anchored, shape),
            actual=closes[ahead] - closes[origins][:, None],
            target=times[ahead],
        )

    def _paths_of(
        self, symbol: str, bars: pd.DataFrame, origins: Sequence[int]
    ) -> list[tuple[Floats, float]]:
        """Of each origin log(close ÷ last close), (paths, STEPS), and what anchors it."""
        prepared = [self._forecaster.prepare(self._request(symbol, bars, at)) for at in origins]
        made = self._forecaster.generate([one.prompt for one in prepared])
        found = []
        for one, paths in zip(prepared, made, strict=True):
            closes = np.maximum(one.values(paths)[..., 3], one.last_close * 1e-6)
            factor = one.reconstruction(paths).factor
            found.append((np.log(closes / one.last_close), float(np.log(factor))))
        return found

    def _request(self, symbol: str, bars: pd.DataFrame, origin: int) -> ForecastRequest:
        seen = bars.iloc[max(0, origin + 1 - CONTEXT) : origin + 1]
        rows = seen[["open", "high", "low", "close", "volume"]].to_dict("records")
        days = bars.index[origin + 1 : origin + 1 + STEPS]
        return ForecastRequest(
            symbol=symbol,
            horizon=STEPS,
            ohlcv=[
                {"timestamp": f"{day:%Y-%m-%d}", **row}
                for day, row in zip(seen.index, rows, strict=True)
            ],
            target_timestamps=[f"{day:%Y-%m-%d}" for day in days],
            samples=self._paths,
            top_p=TOP_P,
            seed=zlib.crc32(f"{symbol}{origin}".encode()),
        )


# results ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One step ahead. `quantiles`: of each forecaster (n, 19), the rows in any order."""

    symbol: np.ndarray
    panel: Panel
    quantiles: dict[str, Floats]
    course: Course


def result_of(tickers: Sequence[Ticker], step: int) -> Result:
    """All forecasts so many bars ahead, combined with what was known when each was made."""
    say(f"step {step}")
    found = [
        expert_quantiles(one.bars, one.as_of, np.full(len(one.as_of), step)) for one in tickers
    ]
    experts, scale = zip(*found, strict=True)
    at = step - 1
    panel = Panel(
        as_of=np.concatenate([one.as_of for one in tickers]),
        target=np.concatenate([one.target[:, at] for one in tickers]),
        scale=np.concatenate(scale),
        actual=np.concatenate([one.actual[:, at] for one in tickers]),
        model=np.concatenate([one.anchored[:, at] for one in tickers]),
        experts=np.concatenate(experts),
    )
    course = replay(panel, untaught(len(EXPERTS)))
    return Result(
        symbol=np.concatenate([np.full(len(one.as_of), one.symbol) for one in tickers]),
        panel=panel,
        quantiles={
            "raw": np.concatenate([one.raw[:, at] for one in tickers]),
            "anchored": panel.model,
            **dict(zip(EXPERTS, panel.experts.swapaxes(0, 1), strict=True)),
            "combined": course.combine(panel),
        },
        course=course,
    )


def crps(result: Result, name: str) -> Floats:
    """(n,), in units of log price."""
    off = result.panel.actual[:, None] - result.quantiles[name]
    return 2 * np.maximum(LEVELS * off, (LEVELS - 1) * off).mean(axis=1)


def skill_table(results: Sequence[Result]) -> str:
    rows = []
    for name in results[0].quantiles:
        held = [
            f"{np.mean([covered(one, name, band) for one in results]):.1%}" for band in (50, 80, 90)
        ]
        rows.append(
            [name, skill(results, name, RANDOM_WALK), skill(results, name, EWMA_WALK), *held]
        )
    n = sum(len(one.symbol) for one in results)
    head = [
        f"{n:,} forecasts",
        "skill over the random walk",
        "over the EWMA walk",
        "50 %",
        "80 %",
        "90 %",
    ]
    return table(head, rows)


def covered(result: Result, name: str, band: int) -> float:
    quantiles, actual = result.quantiles[name], result.panel.actual
    below = round((100 - band) / 10)  # steps of 5 % on each side
    low, high = quantiles[:, below - 1], quantiles[:, -below]
    return float(((low <= actual) & (actual <= high)).mean())


def skill(results: Sequence[Result], name: str, yardstick: str) -> str:
    """1 - CRPS ÷ the yardstick's, with its interval."""
    ours, theirs = sessions_of(results, name), sessions_of(results, yardstick)
    blocks = -(-len(ours) // BLOCK)
    random = np.random.default_rng(0)
    starts = random.integers(0, max(len(ours) - BLOCK, 1), (RESAMPLES, blocks))
    picked = (starts[..., None] + np.arange(BLOCK)).reshape(RESAMPLES, -1) % len(ours)
    drawn = 1 - ours[picked].sum(axis=1) / theirs[picked].sum(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{1 - ours.sum() / theirs.sum():+.2%} [{low:+.2%}, {high:+.2%}]"


def sessions_of(results: Sequence[Result], name: str) -> Floats:
    """(sessions,): the sum of CRPS over all that was forecast from each."""
    as_of = np.concatenate([one.panel.as_of for one in results])
    _, which = np.unique(as_of, return_inverse=True)
    return np.bincount(which, np.concatenate([crps(one, name) for one in results]))


def weight_table(results: Sequence[Result]) -> str:
    rows = []
    for step, one in enumerate(results, start=1):
        newest = one.course.newest
        rows.append([step, *(f"{w:.0%}" for w in newest.weights), f"{newest.kept:.2f}"])
    return table(["step", *FORECASTERS, "kept of kronos' median"], rows)


def ticker_table(results: Sequence[Result]) -> str:
    """Each ticker against the walk, and against its best expert chosen with hindsight."""
    rows = []
    for symbol in np.unique(results[0].symbol).tolist():
        mean = {
            name: np.mean([crps(one, name)[one.symbol == symbol].mean() for one in results])
            for name in results[0].quantiles
        }
        best = min(("anchored", *EXPERTS), key=mean.__getitem__)
        against = [f"{1 - mean['combined'] / mean[name]:+.2%}" for name in (RANDOM_WALK, best)]
        rows.append([symbol, *against, best])
    return table(["ticker", "over the random walk", "over its best expert", "which is"], rows)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.combination",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--candles", type=Path, metavar="DIR", help="CSV files; default: the sample")
    made.add_argument("--since", type=pd.Timestamp, default=pd.Timestamp("1900-01-01"))
    made.add_argument("--paths", type=int, default=JobSettings().samples)
    return made


if __name__ == "__main__":
    sys.exit(main())
