"""Forecast quality for each temperature, top_p, number of paths and context length.

    python -m benchmarks.sampling                                kronos-nano, candles of packages
    python -m benchmarks.sampling --source csv:DIR --windows 20  the daily candles of a folder
    KRONOS_MODEL=NeoQuasar/Kronos-mini python -m benchmarks.sampling --source yahoo

Prints Markdown to stdout and progress to stderr. Takes about ten minutes on two cores for
kronos-nano. Only days on which the model was not trained count. By default the candles are real
daily ones from PyPI packages (bokeh-sampledata, arch, pmdarima, gym-anytrading), which pip
downloads. With yahoo they are the newest two years of --symbols.

Every forecast is requested as by `kronosbot backtest`. Settings with fewer than 100 paths use the
first of 100 paths. Results are stored under build/settings, and a stopped run is resumed.
"""

# ruff: noqa: RUF001 (the multiplication sign is intended)
import argparse
import itertools
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks._support import ROOT, say, table
from kronos_space.engine.quantiles import path_quantiles
from kronos_space.forecasting.forecaster import Forecaster
from kronos_space.schemas import read_request
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import load_checkpoint
from tradingbot.data.service import DataService
from tradingbot.data.sources.csv_files import CsvSource
from tradingbot.evaluation.close_outcomes import LEVELS, ForecastOutcomes
from tradingbot.evaluation.metrics import ForecastMetrics, compute_metrics
from tradingbot.evaluation.training_cutoff import in_training
from tradingbot.markets.calendars import next_sessions
from tradingbot.markets.candles import clean
from tradingbot.runtime.clock import utcnow
from tradingbot.walk_forward.windows import Plan, Window, request

TEMPERATURES = (0.8, 1.0, 1.2)
TOP_PS = (0.9, 0.95, 1.0)
PATHS = (10, 20, 50, 100)
CONTEXTS = (60, 120, 250, 500)  # up to the model's maximum
PLAN = Plan(horizon=5, stride=5, context=250, samples=max(PATHS), temperature=1.0, top_p=1.0)
LEAST = 120  # bars before a window
KEPT = ROOT / "build" / "settings"
SINCE = datetime(2010, 1, 1)
PACKAGES = ("arch==8.0.0", "pmdarima==2.1.1", "gym-anytrading==2.0.0")
BATCH = 16

Closes = NDArray[np.float64]  # (windows, paths, steps), relative to the last close


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parser().parse_args()
    settings = Settings.from_env({"KRONOS_MODEL": "kronos-nano", **os.environ})
    checkpoint = load_checkpoint(settings.model)
    forecaster = Forecaster(checkpoint, settings)
    bars = packaged() if options.source == "packages" else fetched(options.source, options.symbols)
    wanted = {
        symbol: found
        for symbol, frame in bars.items()
        if (found := windows(forecaster.model_name, symbol, frame, options.windows))
    }
    if not wanted:
        raise SystemExit(f"{checkpoint.name}: no day is known to be outside its training data")
    grid = Grid(forecaster, settings, checkpoint.max_context - PLAN.horizon, bars, wanted)
    print(grid.described(), flush=True)
    for part in grid.tables():
        print("\n" + part, flush=True)
    return 0


@dataclass
class Grid:
    """Forecasts for all settings, and their scores."""

    forecaster: Forecaster
    settings: Settings
    most: int  # bars in the model's context
    bars: dict[str, pd.DataFrame]
    wanted: dict[str, list[Window]]

    def described(self) -> str:
        found = [
            f"{symbol} {len(chosen)} ({chosen[0].as_of:%Y-%m} to {chosen[-1].as_of:%Y-%m})"
            for symbol, chosen in self.wanted.items()
        ]
        count = sum(map(len, self.wanted.values()))
        return (
            f"{self.forecaster.model_name}, {count} windows × {PLAN.horizon} days ahead, none of "
            f"them seen in training: {', '.join(found)}."
        )

    def tables(self) -> Iterator[str]:
        """Yield tables for the sampling settings, the number of paths and the context length."""
        contexts = [context for context in CONTEXTS if context <= self.most]
        usual = min(PLAN.context, contexts[-1])
        yield self.table(itertools.product(TEMPERATURES, TOP_PS, [usual], [50]))
        yield self.table(itertools.product([1.0], [0.9, 1.0], [usual], PATHS))
        yield self.table(itertools.product([1.0], [0.9, 1.0], contexts, [50]))

    def table(self, settings: Iterable[tuple[float, float, int, int]]) -> str:
        return table(HEAD, [self.row(*setting) for setting in settings])

    def row(self, temperature: float, top_p: float, context: int, paths: int) -> list[str]:
        closes = self.closes(temperature, top_p, context)
        found = compute_metrics(self.matured(closes[:, :paths]))
        return [f"{temperature:g}", f"{top_p:g}", str(context), str(paths), *shown(found)]

    def matured(self, closes: Closes) -> Iterator[ForecastOutcomes]:
        start = 0
        for symbol, chosen in self.wanted.items():
            past = self.bars[symbol]["close"]
            yield joined(symbol, chosen, closes[start : start + len(chosen)], past)
            start += len(chosen)

    def closes(self, temperature: float, top_p: float, context: int) -> Closes:
        """Compute the closes, or read those that an earlier run stored."""
        plan = replace(PLAN, temperature=temperature, top_p=top_p, context=context)
        all_windows = [window for chosen in self.wanted.values() for window in chosen]
        key = zlib.crc32(repr((self.forecaster.model_revision, all_windows)).encode())
        name = f"{self.forecaster.model_name.replace('/', '-')}-{key:08x}"
        file = KEPT / name / f"{temperature:g}-{top_p:g}-{context}.npy"
        if not file.exists():
            began = time.monotonic()
            made = np.concatenate(list(self.made(plan, all_windows)))
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part.npy")
            np.save(part, made)
            part.rename(file)
            say(f"{file.stem}: {len(all_windows)} windows in {time.monotonic() - began:.0f} s")
        closes: Closes = np.load(file)
        return closes

    def made(self, plan: Plan, all_windows: Sequence[Window]) -> Iterator[Closes]:
        for start in range(0, len(all_windows), BATCH):
            batch = all_windows[start : start + BATCH]
            bodies = [request(window, self.bars[window.symbol], plan).body for window in batch]
            asked = [json.loads(body) | {"return_paths": True} for body in bodies]
            for answer in self.forecaster.forecast([read_request(a, self.settings) for a in asked]):
                paths = np.array(answer["paths"])  # (paths, steps, 5)
                yield paths[None, :, :, 3] / answer["last_close"]


def joined(
    symbol: str, chosen: Sequence[Window], closes: Closes, past: pd.Series
) -> ForecastOutcomes:
    """Turn paths into forecasts and join them with the realised closes."""
    count, _, steps = closes.shape
    quantiles = (
        path_quantiles(closes.swapaxes(0, 1), LEVELS).transpose(1, 2, 0).reshape(-1, len(LEVELS))
    )
    as_of = np.repeat(np.array([window.as_of for window in chosen], "datetime64[s]"), steps)
    target = np.array([window.targets for window in chosen], "datetime64[s]").ravel()
    return ForecastOutcomes(
        symbol=symbol,
        model_name="",
        model_revision="",
        interval="1d",
        as_of=as_of,
        target=target,
        step=np.tile(np.arange(1, steps + 1), count),
        mean=closes.mean(axis=1).ravel(),
        quantiles=quantiles,
        raw_quantiles=quantiles,
        prob_up=(closes > 1).mean(axis=1).ravel(),
        actual=past[target].to_numpy() / past[as_of].to_numpy(),
        past=past,
    )


HEAD = [
    "temperature", "top_p", "context", "paths", "50 % band holds", "80 %", "90 %",
    "CRPS skill", "MAE ÷ that of no change", "direction right",
]  # fmt: skip


def shown(found: ForecastMetrics) -> list[str]:
    def share(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f} %"

    direction = share(found.hit_rate)
    if found.hit_low is not None and found.hit_high is not None:
        direction += f" ({100 * found.hit_low:.0f}–{100 * found.hit_high:.0f})"
    coverage = [share(found.coverage_50), share(found.coverage_80), share(found.coverage_90)]
    error = found.relative_mae  # None with too few forecasts
    return [*coverage, share(found.crps_skill), "" if error is None else f"{error:.3f}", direction]


# candles ----------------------------------------------------------------------------------


def windows(model: str, symbol: str, bars: pd.DataFrame, limit: int) -> list[Window]:
    """Choose windows spread evenly over the unseen days, at least a week apart."""
    days = pd.DatetimeIndex(bars.index)
    possible = []
    for position in range(LEAST - 1, len(days) - PLAN.horizon, PLAN.stride):
        as_of = days[position].to_pydatetime()
        targets = tuple(next_sessions(symbol, as_of, PLAN.horizon))
        unseen = in_training(model, symbol, targets[0]) == "no"
        if unseen and all(target in days for target in targets):
            possible.append(Window(symbol, as_of, targets))
    chosen = np.linspace(0, len(possible) - 1, min(limit, len(possible))).round().astype(int)
    return [possible[position] for position in chosen]


def fetched(source: str, symbols: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Fetch all candles of a folder, or those of the last two years and their context."""
    if source.startswith("csv:"):
        files = CsvSource(Path(source.removeprefix("csv:")))
        return {
            symbol: candles(files.fetch(symbol, "1d", SINCE, utcnow()), SINCE)
            for symbol in files.symbols()
        }
    data = DataService(source, now=utcnow())
    since = utcnow() - timedelta(days=730 + 2 * max(CONTEXTS))
    return {symbol: data.bars(symbol, since=since) for symbol in symbols}


def packaged(since: datetime = SINCE) -> dict[str, pd.DataFrame]:
    """Return daily candles from packages.

    Of a share that has two files, only the later years are used.
    """
    from bokeh_sampledata import stocks

    folder = KEPT / "packages"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    if len(list(folder.glob("*.whl"))) < len(PACKAGES):
        say(f"downloading {', '.join(PACKAGES)}")
        subprocess.run([*command, str(folder), *PACKAGES], check=True)
    arch, gym, pmdarima = (zipfile.ZipFile(wheel) for wheel in sorted(folder.glob("*.whl")))
    sample = DataService("sample", now=utcnow())
    with tarfile.open(fileobj=pmdarima.open("pmdarima/datasets/data/msft.tar.gz")) as tar:
        microsoft = tar.extractfile(tar.getmembers()[0])
        assert microsoft is not None
        found = {
            **{name: sample.bars(name, since=since) for name in ("AAPL", "GOOG", "IBM")},
            "MSFT": pd.read_csv(microsoft),
            "GOOGL": pd.read_csv(gym.open("gym_anytrading/datasets/data/STOCKS_GOOGL.csv")),
            "FB": pd.DataFrame(stocks.FB),
        }
    for symbol, name in (("^GSPC", "sp500"), ("^IXIC", "nasdaq")):
        found[symbol] = pd.read_csv(
            arch.open(f"arch/data/{name}/{name}.csv.gz"), compression="gzip"
        )
    bars = {symbol: candles(frame, since) for symbol, frame in found.items()}
    bars["GOOGL"] = bars["GOOGL"].loc["2012-03-05":]  # earlier rows are GOOG's other share class
    return bars


def candles(frame: pd.DataFrame, since: datetime) -> pd.DataFrame:
    """Return `frame` as a data source would."""
    frame = frame.rename(columns=str.lower)
    if "date" in frame:
        frame.index = pd.to_datetime(frame["date"])
    return clean(frame.loc[frame.index >= since])[0]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--source", default="packages", help="packages, yahoo or csv:DIR (%(default)s)"
    )
    made.add_argument(
        "--symbols",
        type=lambda text: text.split(","),
        default=["SPY", "QQQ", "GLD", "AAPL", "MSFT", "NVDA", "JPM", "XOM"],
        metavar="A,B,...",
        help="tickers to fetch from yahoo (%(default)s)",
    )
    made.add_argument("--windows", type=int, default=50, help="windows per ticker (%(default)s)")
    return made


if __name__ == "__main__":
    sys.exit(main())
