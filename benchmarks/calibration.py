"""The effect of calibration on kronos-nano's bands, for candles that it was not trained on.

    pip download --no-deps -d wheels arch backtesting gym-anytrading pmdarima
    for wheel in wheels/*.whl; do unzip -qo "$wheel" -d candles; done
    python -m benchmarks.calibration --candles candles --forecasts build/calibration
    python -m benchmarks.calibration --csv DIR --since 2016-01-01

Candles come from bokeh-sampledata, which the tests also use, and from the packages above, unpacked
below --candles. Missing packages are skipped. kronos-nano forecasts 5 bars from every session of
the unseen part, with the job's settings. Forecasts are stored in --forecasts, so that a second run
is quick. The job's code calibrates each forecast with the outcomes known on the session before.

Prints Markdown to stdout and progress to stderr. Takes about ten minutes on two cores.
"""

# ruff: noqa: RUF001 (the multiplication sign is intended)
import argparse
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._calibration_candles import (
    STORMY,
    Candles,
    csv_candles,
    real_candles,
    simulated_candles,
)
from benchmarks._smoothing import WAYS, smoothed
from benchmarks._support import say, table
from kronos_space.forecasting.forecaster import Forecaster
from kronos_space.schemas import ForecastRequest
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import load_checkpoint
from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.forecast import QUANTILE_LEVELS, prob_above
from tradingbot.postprocessing import conformal
from tradingbot.postprocessing.conformal import widened
from tradingbot.postprocessing.fit import out_of_sample_factors
from tradingbot.settings import TOP_P
from tradingbot.settings import Settings as JobSettings

STEPS, CONTEXT, BATCH = 5, 500, 32
RATES = (0.02, 0.05, 0.1)
MEASURES = ("50 %", "80 %", "90 %", "CRPS ÷ raw")
Floats = np.ndarray[Any, np.dtype[np.float64]]


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parser().parse_args()
    options.forecasts.mkdir(parents=True, exist_ok=True)
    model = Model(options.paths, options.top_p)
    candles = (
        csv_candles(options.csv, options.since) if options.csv else real_candles(options.candles)
    )
    real = [model.forecasts(of_symbol, options.forecasts) for of_symbol in candles]
    storm = [model.forecasts(of_symbol, options.forecasts) for of_symbol in simulated_candles()]
    for interval, name in (("1d", "Daily bars"), ("1h", "Hourly bars")):
        selected = [of_symbol for of_symbol in real if of_symbol.interval == interval]
        if selected:
            tables = [make(selected) for make in (coverage_table, rates_table, smoothing_table)]
            print(f"### {name}", *tables, sep="\n\n", end="\n\n")
    print(f"### A market that doubles its volatility\n\n{storm_table(storm)}")
    return 0


# forecasts --------------------------------------------------------------------------------


class Model:
    """kronos-nano with a fixed number of sample paths and a fixed top_p."""

    def __init__(self, paths: int, top_p: float) -> None:
        self._paths, self._top_p = paths, top_p
        settings = Settings.from_env({"KRONOS_MODEL": "kronos-nano"})
        self._forecaster = Forecaster(load_checkpoint("kronos-nano"), settings)

    def forecasts(self, candles: Candles, folder: Path) -> ForecastOutcomes:
        """Return forecasts from the bar before the unseen part and all its bars but the last."""
        file = folder / f"{candles.symbol}-{self._paths}-{self._top_p:g}.npz"
        if not file.exists():
            say(f"{candles.symbol}: {candles.since:%Y-%m-%d} to {candles.bars.index[-1]:%Y-%m-%d}")
            np.savez(file, **self._made(candles))
        kept = np.load(file)
        close = candles.bars["close"]
        return ForecastOutcomes(
            symbol=candles.symbol,
            model_name="kronos-nano",
            model_revision="",
            interval=candles.interval,
            as_of=kept["as_of"],
            target=kept["target"],
            step=kept["step"],
            mean=kept["mean"],
            quantiles=kept["q"],
            raw_quantiles=kept["q"],
            prob_up=kept["prob_up"],
            actual=kept["actual"],
            past=close,
        )

    def _made(self, candles: Candles) -> dict[str, Any]:
        times, closes = candles.bars.index, candles.bars["close"].to_numpy()
        first = max(int(times.searchsorted(candles.since)) - 1, 32)
        rows = []
        for begin in range(first, len(times) - 1, BATCH):
            batch = range(begin, min(begin + BATCH, len(times) - 1))
            answers = self._forecaster.forecast([self._request(candles, end) for end in batch])
            for end, answer in zip(batch, answers, strict=True):
                for bar in answer["predictions"]:
                    target = end + bar["step"]
                    if target < len(times):
                        quantiles = np.array(list(bar["close_quantiles"].values()))
                        rows.append(
                            (
                                times[end].to_datetime64(),
                                times[target].to_datetime64(),
                                bar["step"],
                                bar["close"] / closes[end],
                                quantiles / closes[end],
                                bar["prob_up"],
                                closes[target] / closes[end],
                            )
                        )
        names = ("as_of", "target", "step", "mean", "q", "prob_up", "actual")
        columns = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
        for name in ("as_of", "target"):
            columns[name] = columns[name].astype("datetime64[s]")
        return columns

    def _request(self, candles: Candles, end: int) -> ForecastRequest:
        history = candles.bars.iloc[max(0, end + 1 - CONTEXT) : end + 1]
        bars = history.to_dict("records")
        for stamp, bar in zip(history.index, bars, strict=True):
            bar["timestamp"] = stamp.isoformat()
        ahead = list(candles.bars.index[end + 1 : end + 1 + STEPS])
        while len(ahead) < STEPS:  # beyond the end of the candles, where no outcome will be known
            ahead.append(ahead[-1] + pd.Timedelta(days=1))
        seed = zlib.crc32(f"{candles.symbol} {history.index[-1].isoformat()}".encode())
        return ForecastRequest.model_validate(
            {
                "symbol": candles.symbol,
                "interval": candles.interval,
                "horizon": STEPS,
                "ohlcv": bars,
                "target_timestamps": [stamp.isoformat() for stamp in ahead],
                "quantiles": list(QUANTILE_LEVELS),
                "samples": self._paths,
                "top_p": self._top_p,
                "seed": seed,
            }
        )


# results ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibrated:
    """The n forecasts of one ticker or all tickers since the first calibration."""

    name: str
    raw: Floats  # (n, 19)
    wide: Floats
    actual: Floats  # (n,)
    prob_up: Floats
    as_of: np.ndarray[Any, np.dtype[np.datetime64]]


def calibrated(record: Sequence[ForecastOutcomes]) -> list[Calibrated]:
    found = []
    for outcomes, factors in zip(record, out_of_sample_factors(record), strict=True):
        known = ~np.isnan(factors[:, 0])
        raw = outcomes.raw_quantiles[known]
        wide = widened(raw, factors[known])
        found.append(
            Calibrated(
                outcomes.symbol,
                raw,
                wide,
                outcomes.actual[known],
                outcomes.prob_up[known],
                outcomes.as_of[known],
            )
        )
    return found


def together(parts: Sequence[Calibrated]) -> Calibrated:
    names = ("raw", "wide", "actual", "prob_up", "as_of")
    return Calibrated("**all**", *(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def coverage_table(record: Sequence[ForecastOutcomes]) -> str:
    parts = [part for part in calibrated(record) if len(part.actual)]
    head = [
        "", "n", "raw 50 %", "80 %", "90 %", "calibrated 50 %", "80 %", "90 %",
        "width × (80 %)", "CRPS ÷ raw", "Brier of P(up), raw", "calibrated",
    ]  # fmt: skip
    rows = [
        [
            part.name,
            len(part.actual),
            *(f"{held(part.raw, part.actual, band).mean():.1%}" for band in (50, 80, 90)),
            *(f"{held(part.wide, part.actual, band).mean():.1%}" for band in (50, 80, 90)),
            f"{width(part.wide) / width(part.raw):.2f}",
            f"{crps(part.wide, part.actual) / crps(part.raw, part.actual):.4f}",
            *(f"{score:.4f}" for score in brier(part)),
        ]
        for part in [*parts, together(parts)]
    ]
    return table(head, rows)


def rates_table(record: Sequence[ForecastOutcomes]) -> str:
    """Return a table of all tickers for different learning rates."""
    rows = []
    chosen = conformal.RATE
    for rate in RATES:
        conformal.RATE = rate
        rows.append([f"{rate}{' (chosen)' if rate == chosen else ''}", *measured(record)])
    conformal.RATE = chosen
    return table(["rate", *MEASURES], rows)


def smoothing_table(record: Sequence[ForecastOutcomes]) -> str:
    """Return a table of all tickers for different ways to smooth half-widths."""
    rows = []
    for name, way in WAYS.items():
        with smoothed(way):
            rows.append([name, *measured(record)])
    return table(["half-widths", *MEASURES], rows)


def measured(record: Sequence[ForecastOutcomes]) -> list[str]:
    """Return the MEASURES of the calibrated forecasts of all tickers."""
    part = together(calibrated(record))
    shares = [held(part.wide, part.actual, band).mean() for band in (50, 80, 90)]
    ratio = crps(part.wide, part.actual) / crps(part.raw, part.actual)
    return [*(f"{share:.1%}" for share in shares), f"{ratio:.4f}"]


def storm_table(record: Sequence[ForecastOutcomes]) -> str:
    """Return the coverage of the 80 % band before and after the simulated volatility doubles.

    Compares kronos-nano, which sees the last 251 candles, with bands that never change.
    """
    first_steps = [first_step(outcomes) for outcomes in record]
    still = [
        replace(outcomes, raw_quantiles=np.tile(outcomes.raw_quantiles[0], (len(outcomes), 1)))
        for outcomes in first_steps
    ]
    sessions = np.unique(first_steps[0].as_of)
    doubled = len(sessions) - STORMY
    spans = [(doubled - 60, doubled), *((doubled + a, doubled + b) for a, b in _SPANS)]
    rows = []
    for name, of_model in (("kronos-nano", first_steps), ("bands that never change", still)):
        part = together(calibrated(of_model))
        for kind, quantiles in (("raw", part.raw), ("calibrated", part.wide)):
            inside = held(quantiles, part.actual, 80)
            cells = []
            for begin, end in spans:
                in_period = (part.as_of >= sessions[begin]) & (part.as_of <= sessions[end - 1])
                cells.append(f"{inside[in_period].mean():.0%}")
            rows.append([f"{name}, {kind}", *cells])
    head = ["sessions", "60 before", *(f"{a + 1} to {b} after" for a, b in _SPANS)]
    return table(head, rows)


_SPANS = ((0, 10), (10, 20), (20, 30), (30, 40), (40, 60), (60, 119))


def first_step(outcomes: ForecastOutcomes) -> ForecastOutcomes:
    first = outcomes.step == 1
    names = ("as_of", "target", "step", "mean", "quantiles", "raw_quantiles", "prob_up", "actual")
    return replace(outcomes, **{name: getattr(outcomes, name)[first] for name in names})


def held(quantiles: Floats, actual: Floats, band: int) -> Any:
    return (quantiles[:, 9 - band // 10] <= actual) & (actual <= quantiles[:, 9 + band // 10])


def width(quantiles: Floats) -> float:
    return float((quantiles[:, 17] - quantiles[:, 1]).mean())


def crps(quantiles: Floats, actual: Floats) -> float:
    """Return twice the mean pinball loss over the 19 levels."""
    levels, off = np.array(QUANTILE_LEVELS), actual[:, None] - quantiles
    return float(2 * np.maximum(levels * off, (levels - 1) * off).mean())


def brier(part: Calibrated) -> tuple[float, float]:
    """Return the Brier scores of P(up), from the share of paths and from calibrated quantiles."""
    read = [prob_above(dict(zip(QUANTILE_LEVELS, row, strict=True)), 1.0) for row in part.wide]
    rose = part.actual > 1
    return float(((part.prob_up - rose) ** 2).mean()), float(((read - rose) ** 2).mean())


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--candles", type=Path, help="folder of the unpacked packages")
    made.add_argument("--csv", type=Path, help="daily CSV files instead, one per ticker")
    made.add_argument("--since", type=pd.Timestamp, help="first unseen day of the CSV files")
    made.add_argument("--forecasts", type=Path, default=Path("build/calibration"))
    made.add_argument("--paths", type=int, default=JobSettings().samples)
    made.add_argument("--top-p", type=float, default=TOP_P)
    return made


if __name__ == "__main__":
    sys.exit(main())
