"""Walk-forward quality of kronos-nano's event probabilities: python -m benchmarks.events

    python -m benchmarks.events --candles DIR --since 2016-01-01

From every session it draws 50 paths of 5 bars, with the job's settings, and estimates the
probability of each event by the end of the fifth bar from three variants: the model's own paths,
the paths moved onto the combined quantiles (with the weights known on the session before), and, for
comparison, paths with whole bars shifted. The first 60 sessions are for learning the weights and
are not counted. Candles and days are as for benchmarks.combination.

Prints Markdown to stdout and progress to stderr. Intervals are 95 % intervals from resamples of
blocks of sessions.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks._support import say, table
from benchmarks.combination import BATCH, CONTEXT, STEPS, Model, Ticker, candles, result_of
from kronos_space.engine.quantiles import path_quantiles
from tradingbot.evaluation.significance import interval, resampled
from tradingbot.forecast import QUANTILE_LEVELS, Forecast, ForecastBar
from tradingbot.markets.candles import PRICES
from tradingbot.path_events.event_probabilities import CLOSE, happened_by_step
from tradingbot.path_events.grammar import parse_events
from tradingbot.postprocessing.paths import with_served_paths
from tradingbot.typing import Floats, Times

EVENTS = parse_events(
    "touch +2%, touch -2%, touch +4%, reach +3% before -2%, reach +2% before -3%, close above 0%, "
    "return between -1% and +1%, drawdown above 3%, range above 5%"
)
LEARNING = 60  # sessions before the first one that counts
VARIANTS = ("raw", "moved", "shifted")


@dataclass(frozen=True)
class TickerEvents:
    """Event probabilities and outcomes of one ticker, shape (n, events), at the fifth bar."""

    as_of: Times
    probabilities: dict[str, Floats]  # by variant
    outcomes: Floats


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parser().parse_args()
    model = PathModel("kronos-nano", options.paths)
    found = [
        model.drawn(symbol, bars, options.since)
        for symbol, bars in candles(options.candles).items()
    ]
    found = [entry for entry in found if len(entry[1])]
    if not found:
        say(f"no session from {options.since:%Y-%m-%d} on has {CONTEXT // 2} bars before it")
        return 1
    tickers = [ticker for ticker, _ in found]
    served = np.stack(
        [result_of(tickers, step).quantiles["combined"] for step in range(1, STEPS + 1)], axis=1
    )
    bounds = np.cumsum([0, *(len(ticker.as_of) for ticker in tickers)])
    asked = [
        ask(ticker, paths, served[begin:end])
        for (ticker, paths), begin, end in zip(found, bounds[:-1], bounds[1:], strict=True)
    ]
    print(report(asked))
    return 0


class PathModel(Model):
    """kronos-nano with access to its whole sample paths."""

    def drawn(self, symbol: str, bars: pd.DataFrame, since: datetime) -> tuple[Ticker, Floats]:
        """Return forecasts, and paths (n, paths, STEPS, 5) relative to the last close."""
        first = max(CONTEXT // 2, int(bars.index.searchsorted(pd.Timestamp(since))))
        origins = np.arange(first, len(bars) - STEPS)
        say(f"{symbol}: {len(origins)} forecasts")
        paths = []
        for begin in range(0, len(origins), BATCH):
            requests = [self._request(symbol, bars, at) for at in origins[begin : begin + BATCH]]
            prepared = [self._forecaster.prepare(request) for request in requests]
            made = self._forecaster.generate([series.prompt for series in prepared])
            for series, sampled in zip(prepared, made, strict=True):
                answer = replace(series, return_paths=True).answer(sampled)
                paths.append(np.array(answer["paths"]) / [*[series.last_close] * 4, 1])
        closes = np.log(np.reshape(paths, (len(origins), -1, STEPS, 5))[..., CLOSE])
        logs = np.array([path_quantiles(row, QUANTILE_LEVELS).T for row in closes])
        times = bars.index.to_numpy().astype("datetime64[s]")
        market = np.log(bars["close"].to_numpy("float64"))
        ahead = origins[:, None] + np.arange(1, STEPS + 1)
        ticker = Ticker(
            symbol=symbol,
            bars=bars,
            as_of=times[origins],
            raw=logs,
            anchored=logs,
            actual=market[ahead] - market[origins][:, None],
            target=times[ahead],
        )
        return ticker, np.array(paths)


def ask(ticker: Ticker, paths: Floats, served: Floats) -> TickerEvents:
    """Return the event probabilities of raw, moved and shifted paths.

    Args:
        ticker: forecasts of the ticker.
        paths: sample paths, shape (n, paths, STEPS, 5).
        served: combined quantiles, shape (n, STEPS, 19).
    """
    probabilities: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for raw, before, after in zip(paths, ticker.anchored, served, strict=True):
        moved = with_served_paths(forecast(raw, before, after)).paths
        assert moved is not None
        shifted = raw.copy()
        shifted[..., : CLOSE + 1] *= (moved[..., CLOSE] / raw[..., CLOSE])[..., None]
        for name, variant in zip(VARIANTS, (raw, moved, shifted), strict=True):
            probabilities[name].append(
                [float(happened_by_step(event, variant, 1.0)[:, -1].mean()) for event in EVENTS]
            )
    start = ticker.bars.index.get_indexer(pd.DatetimeIndex(ticker.as_of))
    prices = ticker.bars[PRICES].to_numpy("float64")
    windows = prices[start[:, None] + 1 + np.arange(STEPS)] / prices[start, CLOSE][:, None, None]
    happened = np.stack([happened_by_step(event, windows, 1.0)[:, -1] for event in EVENTS], axis=1)
    return TickerEvents(
        ticker.as_of,
        {name: np.array(rows) for name, rows in probabilities.items()},
        happened.astype("float64"),
    )


def forecast(paths: Floats, model: Floats, served: Floats) -> Forecast:
    """Return a forecast with these paths and a last close of 1.

    Quantiles (STEPS, 19) are logarithms.
    """
    bars = []
    for step in range(STEPS):
        levels = [
            dict(zip(QUANTILE_LEVELS, np.exp(logs[step]).tolist(), strict=True))
            for logs in (model, served)
        ]
        raw = ForecastBar(step + 1, datetime(2000, 1, 1), 1, 1, 1, 1, 0, levels[0], 0.5)
        bars.append(replace(raw, close_quantiles=levels[1], raw=raw))
    return Forecast(
        "X", "1d", "nano", None, datetime(2000, 1, 1), datetime(2000, 1, 1), 1.0, len(paths), None,
        tuple(bars), paths=paths,
    )  # fmt: skip


def report(asked: Sequence[TickerEvents]) -> str:
    """Return a table of each event, and a reliability table over all events."""
    as_of = np.concatenate([of_ticker.as_of for of_ticker in asked])
    counted = as_of >= np.unique(as_of)[LEARNING]
    as_of = as_of[counted]
    happened = np.concatenate([of_ticker.outcomes for of_ticker in asked])[counted]
    probabilities = {
        name: np.concatenate([of_ticker.probabilities[name] for of_ticker in asked])[counted]
        for name in VARIANTS
    }
    rows = []
    for at, event in enumerate(EVENTS):
        outcome = happened[:, at]
        cells = [f"{probabilities[name][:, at].mean():.0%}" for name in VARIANTS]
        skills = [skill(as_of, probabilities[name][:, at], outcome) for name in VARIANTS]
        rows.append([f"`{event}`", f"{outcome.mean():.0%}", *cells, *skills])
    head = ["by the end of the fifth bar", "happened", *(f"forecast, {name}" for name in VARIANTS)]
    head += [f"skill, {name}" for name in VARIANTS]
    bins = []
    for number in range(10):
        cells = []
        for name in ("raw", "moved"):
            inside = np.minimum((probabilities[name] * 10 + 1e-9).astype(int), 9) == number
            cells += [f"{inside.sum():,}", f"{probabilities[name][inside].mean():.0%}"]
            cells += [f"{happened[inside].mean():.0%}"]
        bins.append([f"{10 * number} to {10 * number + 10} %", *cells])
    columns = [
        f"{word}, {name}" for name in ("raw", "moved") for word in ("n", "forecast", "happened")
    ]
    counts = f"{len(as_of):,} forecasts on {len(np.unique(as_of))} sessions"
    return "\n\n".join([counts, table(head, rows), table(["probability", *columns], bins)])


def skill(as_of: Times, probability: Floats, outcome: Floats) -> str:
    """Return 1 - Brier ÷ Brier of the base rate, with its interval."""
    values = np.stack([(probability - outcome) ** 2, outcome, np.ones_like(outcome)], axis=1)
    whole, drawn = resampled(as_of, values, block=20)
    measured = [1 - (sums[0] / sums[2]) / (share := sums[1] / sums[2]) / (1 - share)
                for sums in (whole, drawn.T)]  # fmt: skip
    bounds = interval(measured[1])
    span = "" if bounds is None else f" [{bounds[0]:+.2f}, {bounds[1]:+.2f}]"
    return f"{measured[0]:+.2f}{span}"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--candles", type=Path, help="folder of CSV files; default: the sample")
    made.add_argument("--since", type=pd.Timestamp, default=pd.Timestamp("2011-06-01"))
    made.add_argument("--paths", type=int, default=50)
    return made


if __name__ == "__main__":
    sys.exit(main())
