"""Walk-forward quality of kronos-nano combined with simple expert forecasts: `make combination`.

    python -m benchmarks.combination --candles DIR --since 2016-01-01

Candles are the daily CSV files of --candles, one per ticker, or else the bundled sample.
kronos-nano was trained on days up to 2015-12-30, so only later days are unseen: --since is the
first day that is forecast. From every session kronos-nano forecasts 5 bars with the job's settings.
Its paths are anchored: multiplied by the real last close over the tokenizer's reconstruction of it.
They are then combined with the weights of the session before. Challengers are tried as additions.

Prints Markdown to stdout and progress to stderr. Intervals are 95 % intervals from 2,000 resamples
of blocks of 20 sessions.
"""

import argparse
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks._support import say, table
from benchmarks._trials import trial_table
from kronos_space.engine.quantiles import path_quantiles
from kronos_space.forecasting.forecaster import Forecaster
from kronos_space.schemas import ForecastRequest
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import load_checkpoint
from tradingbot.combination_shares import EWMA_WALK, RANDOM_WALK
from tradingbot.data.sources.csv_files import CsvSource
from tradingbot.data.sources.sample import SampleSource
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.postprocessing.combination import Course, Panel, replay, without_record
from tradingbot.postprocessing.experts import EXPERTS, FORECASTERS, expert_quantiles
from tradingbot.settings import TOP_P
from tradingbot.settings import Settings as JobSettings
from tradingbot.typing import Floats, Times

STEPS, CONTEXT, BATCH = 5, 500, 32
BLOCK, RESAMPLES = 20, 2000
LEVELS = np.array(QUANTILE_LEVELS)
MEDIAN = 9


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parser().parse_args()
    model = Model("kronos-nano", options.paths)
    tickers = [
        model.forecasts(symbol, bars, options.since)
        for symbol, bars in candles(options.candles).items()
    ]
    tickers = [ticker for ticker in tickers if len(ticker.as_of)]
    if not tickers:
        say(f"no session from {options.since:%Y-%m-%d} on has {CONTEXT // 2} bars before it")
        return 1
    results = [result_of(tickers, step) for step in range(1, STEPS + 1)]
    tables = [part(results) for part in (skill_table, weight_table, ticker_table)]
    print(*tables, challenger_table(results, tickers, options), sep="\n\n")
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
    """The forecasts of one ticker. Quantiles and outcomes are logs of price ÷ last close."""

    symbol: str
    bars: pd.DataFrame
    as_of: Times  # (n,)
    raw: Floats  # (n, STEPS, 19)
    anchored: Floats  # (n, STEPS, 19)
    actual: Floats  # (n, STEPS)
    target: Times  # (n, STEPS)


class Model:
    """A checkpoint with the job's settings."""

    def __init__(self, name: str, paths: int) -> None:
        self._paths = paths
        settings = Settings.from_env({"KRONOS_MODEL": name})
        self._forecaster = Forecaster(load_checkpoint(name), settings)

    def forecasts(self, symbol: str, bars: pd.DataFrame, since: pd.Timestamp) -> Ticker:
        """Return forecasts from every session with enough bars before and STEPS bars after it."""
        first = max(CONTEXT // 2, int(bars.index.searchsorted(since)))
        origins = np.arange(first, len(bars) - STEPS)
        say(f"{symbol}: {len(origins)} forecasts")
        raw, anchored = [], []
        for begin in range(0, len(origins), BATCH):
            batch = origins[begin : begin + BATCH].tolist()
            for paths, factor in self._paths_of(symbol, bars, batch):
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
        """Return log(close ÷ last close), shape (paths, STEPS), and the anchor of each origin."""
        prepared = [self._forecaster.prepare(self._request(symbol, bars, at)) for at in origins]
        made = self._forecaster.generate([request.prompt for request in prepared])
        found = []
        for request, paths in zip(prepared, made, strict=True):
            closes = np.maximum(request.values(paths)[..., 3], request.last_close * 1e-6)
            factor = request.reconstruction(paths).factor
            found.append((np.log(closes / request.last_close), float(np.log(factor))))
        return found

    def _request(self, symbol: str, bars: pd.DataFrame, origin: int) -> ForecastRequest:
        seen = bars.iloc[max(0, origin + 1 - CONTEXT) : origin + 1]
        rows = seen[["open", "high", "low", "close", "volume"]].to_dict("records")
        days = bars.index[origin + 1 : origin + 1 + STEPS]
        return ForecastRequest.model_validate(
            {
                "symbol": symbol,
                "horizon": STEPS,
                "ohlcv": [
                    {"timestamp": f"{day:%Y-%m-%d}", **row}
                    for day, row in zip(seen.index, rows, strict=True)
                ],
                "target_timestamps": [f"{day:%Y-%m-%d}" for day in days],
                "samples": self._paths,
                "top_p": TOP_P,
                "seed": zlib.crc32(f"{symbol}{origin}".encode()),
            }
        )


# results ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """Results for one horizon.

    `quantiles`: forecaster -> (n, 19); rows in the same order as `panel`.
    """

    symbol: np.ndarray
    panel: Panel
    quantiles: dict[str, Floats]
    course: Course


def result_of(tickers: Sequence[Ticker], step: int) -> Result:
    """Return all forecasts for `step` bars ahead, combined with the weights known at the time."""
    say(f"step {step}")
    found = [
        expert_quantiles(ticker.bars, ticker.as_of, np.full(len(ticker.as_of), step))
        for ticker in tickers
    ]
    experts, scale = zip(*found, strict=True)
    at = step - 1
    panel = Panel(
        as_of=np.concatenate([ticker.as_of for ticker in tickers]),
        target=np.concatenate([ticker.target[:, at] for ticker in tickers]),
        scale=np.concatenate(scale),
        actual=np.concatenate([ticker.actual[:, at] for ticker in tickers]),
        model=np.concatenate([ticker.anchored[:, at] for ticker in tickers]),
        experts=np.concatenate(experts),
    )
    course = replay(panel, without_record(len(EXPERTS)))
    return Result(
        symbol=np.concatenate([np.full(len(ticker.as_of), ticker.symbol) for ticker in tickers]),
        panel=panel,
        quantiles={
            "raw": np.concatenate([ticker.raw[:, at] for ticker in tickers]),
            "anchored": panel.model,
            **dict(zip(EXPERTS, panel.experts.swapaxes(0, 1), strict=True)),
            "combined": course.combine(panel),
        },
        course=course,
    )


def crps(result: Result, name: str) -> Floats:
    """Return the CRPS of each forecast, shape (n,), in units of log price."""
    off = result.panel.actual[:, None] - result.quantiles[name]
    return 2 * np.maximum(LEVELS * off, (LEVELS - 1) * off).mean(axis=1)


def skill_table(results: Sequence[Result]) -> str:
    rows = []
    for name in results[0].quantiles:
        held = [
            f"{np.mean([covered(result, name, band) for result in results]):.1%}"
            for band in (50, 80, 90)
        ]
        skills = [skill(results, name, walk) for walk in (RANDOM_WALK, EWMA_WALK)]
        rows.append([name, *skills, *held])
    n = sum(len(result.symbol) for result in results)
    skills = ["skill over the random walk", "over the EWMA walk"]
    head = [f"{n:,} forecasts", *skills, "50 %", "80 %", "90 %"]
    return table(head, rows)


def covered(result: Result, name: str, band: int) -> float:
    quantiles, actual = result.quantiles[name], result.panel.actual
    below = round((100 - band) / 10)  # steps of 5 % on each side
    low, high = quantiles[:, below - 1], quantiles[:, -below]
    return float(((low <= actual) & (actual <= high)).mean())


def skill(results: Sequence[Result], name: str, baseline: str) -> str:
    """Return 1 - CRPS ÷ CRPS of the baseline, with its interval."""
    forecaster, reference = sessions_of(results, name), sessions_of(results, baseline)
    blocks = -(-len(forecaster) // BLOCK)
    random = np.random.default_rng(0)
    starts = random.integers(0, max(len(forecaster) - BLOCK, 1), (RESAMPLES, blocks))
    picked = (starts[..., None] + np.arange(BLOCK)).reshape(RESAMPLES, -1) % len(forecaster)
    drawn = 1 - forecaster[picked].sum(axis=1) / reference[picked].sum(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{1 - forecaster.sum() / reference.sum():+.2%} [{low:+.2%}, {high:+.2%}]"


def sessions_of(results: Sequence[Result], name: str) -> Floats:
    """Return the sum of CRPS over all forecasts from each session, shape (sessions,)."""
    as_of = np.concatenate([result.panel.as_of for result in results])
    _, session = np.unique(as_of, return_inverse=True)
    losses = np.concatenate([crps(result, name) for result in results])
    return np.bincount(session, losses).astype("float64")


def weight_table(results: Sequence[Result]) -> str:
    rows = []
    for step, result in enumerate(results, start=1):
        newest = result.course.newest
        rows.append([step, *(f"{w:.0%}" for w in newest.weights), f"{newest.kept:.2f}"])
    return table(["step", *FORECASTERS, "kept of kronos' median"], rows)


def ticker_table(results: Sequence[Result]) -> str:
    """Return each ticker's skill over the random walk and over its best expert in hindsight."""
    rows = []
    for symbol in np.unique(results[0].symbol).tolist():
        mean = {
            name: np.mean(
                [crps(result, name)[result.symbol == symbol].mean() for result in results]
            )
            for name in results[0].quantiles
        }
        best = min(("anchored", *EXPERTS), key=mean.__getitem__)
        against = [f"{1 - mean['combined'] / mean[name]:+.2%}" for name in (RANDOM_WALK, best)]
        rows.append([symbol, *against, best])
    return table(["ticker", "over the random walk", "over its best expert", "which is"], rows)


def challenger_table(
    results: Sequence[Result], tickers: Sequence[Ticker], options: argparse.Namespace
) -> str:
    def skill_of(quantiles: Sequence[Floats], baseline: str) -> str:
        given = zip(results, quantiles, strict=True)
        results_with = [
            replace(result, quantiles=result.quantiles | {"challenger": values})
            for result, values in given
        ]
        return skill(results_with, "challenger", baseline)

    moves = np.concatenate([np.diff(ticker.actual, axis=1, prepend=0.0) for ticker in tickers])
    deviation = np.sqrt((moves**2).mean(axis=1))
    coming = [deviation * step**0.5 for step in range(1, STEPS + 1)]
    challengers = {}
    if options.challenger:
        other = Model(options.challenger, options.paths)
        by_ticker = [
            other.forecasts(ticker.symbol, ticker.bars, options.since).anchored
            for ticker in tickers
        ]
        challengers[options.challenger] = list(np.concatenate(by_ticker).swapaxes(0, 1))
    return trial_table([result.panel for result in results], coming, challengers, skill_of)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.combination",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--candles", type=Path, metavar="DIR", help="CSV files; default: the sample")
    made.add_argument("--since", type=pd.Timestamp, default=pd.Timestamp("1900-01-01"))
    made.add_argument("--challenger", metavar="MODEL", help="a checkpoint to put on trial")
    made.add_argument("--paths", type=int, default=JobSettings().samples)
    return made


if __name__ == "__main__":
    sys.exit(main())
