"""How much of a known pattern fine-tuning learns: mean reversion, whose best forecast is known.

    python -m benchmarks.pattern --reversion 0.2
    python -m benchmarks.pattern --reversion 0        white noise: nothing to learn

Makes daily candles whose log price returns to a level by a share of its distance every day,
fine-tunes kronos-nano on them with the defaults of `kronos-space finetune`, and forecasts days
after all training. The distribution of each close is known, so each forecast's CRPS is its
expectation over all possible closes, without the noise of those that happened. "fair" is the CRPS
of unlimited paths, estimated from the 50 (Ferro 2014); "served" that of the quantiles of 50 paths.

Prints Markdown to stdout and progress to stderr. Takes about five minutes on one core.
"""

import argparse
import copy
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._support import say, table
from kronos_space.engine.engine import Engine, Prompt
from kronos_space.engine.quantiles import path_quantiles
from kronos_space.engine.sampling import SamplingParams
from kronos_space.finetune.data_split import Spans, split, union
from kronos_space.finetune.run import SHORT
from kronos_space.finetune.trainer import SMALL_RATES
from kronos_space.finetune.training import Progress, Recipe, best_mixture, train
from kronos_space.finetune.windows import Series, training_windows, validation_windows
from kronos_space.forecasting.candles import normalise
from kronos_space.forecasting.timestamps import time_features
from kronos_space.weights.checkpoint import Checkpoint, load_checkpoint
from tradingbot.forecast import QUANTILE_LEVELS

MOVE = 0.015  # standard deviation of a day's new information
LEVEL = 100.0
WITHIN = 16  # prices in a day, of which the candle is made
HORIZON, CONTEXT, PATHS, BATCH = 5, 251, 50, 16
P = np.array(QUANTILE_LEVELS)
STEPS = np.arange(1, HORIZON + 1)
NORMAL = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)

Floats = NDArray[np.float64]


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parser().parse_args()
    torch.set_num_threads(1)
    base = load_checkpoint("kronos-nano")
    series = made_up(options.tickers, options.bars, options.reversion, options.seed)
    spans = split(union([ticker.days for ticker in series]), None, HORIZON)
    truth = Truth(options.reversion)
    origins = [
        (ticker, int(at))
        for ticker in series
        for at in np.linspace(
            np.searchsorted(ticker.days, spans.until), options.bars - HORIZON - 1, options.windows
        )
    ]
    rows = [walk_row(truth, origins), *model_rows("kronos-nano", base, origins, truth)]
    tuned = fine_tuned(base, series, spans, options)
    rows += model_rows("fine-tuned", tuned, origins, truth)
    head = [f"{len(origins):,} windows, {HORIZON} days", "fair", "by day ahead", "served"]
    print(table(head, rows))
    return 0


# candles ----------------------------------------------------------------------------------


def made_up(tickers: int, bars: int, reversion: float, seed: int) -> list[Series]:
    """Return candles whose log close returns by `reversion` of its distance a day."""
    rng = np.random.default_rng(seed)
    kept = (1 - reversion) ** (1 / WITHIN)
    scale = math.sqrt((1 - kept**2) / (1 - kept ** (2 * WITHIN))) if reversion else WITHIN**-0.5
    found = []
    for number in range(tickers):
        logs = np.zeros(bars * WITHIN)
        news = rng.normal(0, MOVE * scale, bars * WITHIN)
        for at in range(1, len(logs)):
            logs[at] = kept * logs[at - 1] + news[at]
        prices = LEVEL * np.exp(logs).reshape(bars, WITHIN)
        close = prices[:, -1]
        opening = np.concatenate([[LEVEL], close[:-1]])
        high = np.maximum(prices.max(axis=1), opening)
        low = np.minimum(prices.min(axis=1), opening)
        volume = rng.lognormal(12, 0.3, bars).round()
        amount = volume * (opening + high + low + close) / 4
        values = np.stack([opening, high, low, close, volume, amount], axis=1)
        days = np.datetime64("2015-01-01") + np.arange(bars)
        found.append(Series(f"MADE{number}-USD", days, values))
    return found


@dataclass(frozen=True)
class Truth:
    """The distribution of log(close ÷ LEVEL) given the last close: normal, by day ahead."""

    reversion: float

    def mean(self, last: Floats) -> Floats:
        """Return means, (n, HORIZON), for last closes (n,)."""
        means: Floats = (1 - self.reversion) ** STEPS * last[:, None]
        return means

    @property
    def deviation(self) -> Floats:
        kept = (1 - self.reversion) ** 2
        days = (1 - kept**STEPS) / (1 - kept) if self.reversion else STEPS.astype("float64")
        return MOVE * np.sqrt(days)


# models -----------------------------------------------------------------------------------


def fine_tuned(
    base: Checkpoint, series: Sequence[Series], spans: Spans, options: argparse.Namespace
) -> Checkpoint:
    """Return a copy of `base`, trained as by `kronos-space finetune`."""
    model = copy.deepcopy(base.model)
    untrained = copy.deepcopy(model.state_dict())
    batch, bars = SHORT
    recipe = Recipe(options.steps, batch, bars, options.rate, options.seed)
    rng = np.random.default_rng(options.seed)
    drawn = recipe.steps * recipe.batch
    training = training_windows(series, spans, bars, drawn, rng, base.tokenizer)
    validation = validation_windows(series, spans, bars, base.tokenizer)
    progress = Progress()
    for _ in train(model, training, validation, recipe, progress):
        if progress.step % recipe.validation_interval == 0:
            say(f"step {progress.step}: validation loss {progress.losses[-1][1]:.4f}")
    share, loss = best_mixture(model, untrained, progress.best, validation)
    say(f"best step {progress.best_step}, {share:.0%} of the new weights, loss {loss:.4f}")
    return Checkpoint(base.name, base.revision, base.max_context, model, base.tokenizer)


def model_rows(
    name: str, checkpoint: Checkpoint, origins: Sequence[tuple[Series, int]], truth: Truth
) -> list[list[str]]:
    """Return a row for the anchored paths, as served, and one for the model's own."""
    own, last, decoded = sample_paths(checkpoint, origins)
    moved = own + (last - decoded)[:, None, None]
    rows = []
    for what, logs in (("anchored", moved), ("not anchored", own)):
        rows.append([f"{name}, {what}", *figures(logs, truth.mean(last), truth.deviation, origins)])
    say(f"{name}: the last close is decoded to {100 * np.std(decoded - last):.2f} % of the price")
    return rows


def sample_paths(
    checkpoint: Checkpoint, origins: Sequence[tuple[Series, int]]
) -> tuple[Floats, Floats, Floats]:
    """Return logs ÷ LEVEL of closes, (n, PATHS, HORIZON), of last closes, and of these decoded."""
    engine = Engine(checkpoint, threads=1)
    prompts: list[Prompt] = []
    scales = []
    for ticker, at in origins:
        bars, scale = normalise(ticker.values[at + 1 - CONTEXT : at + 1].copy())
        days = ticker.days[at + 1 - CONTEXT : at + 1 + HORIZON].astype("datetime64[us]")
        sampling = SamplingParams(samples=PATHS, top_p=1.0, temperature=1.0)
        prompts.append(Prompt(bars, time_features(days), HORIZON, sampling, seed=len(prompts)))
        scales.append(scale)
    closes, decoded = [], []
    for first in range(0, len(prompts), BATCH):
        made = engine.generate(prompts[first : first + BATCH])
        for paths, scale in zip(made, scales[first : first + BATCH], strict=True):
            closes.append(np.maximum(scale.restore(paths.bars)[..., 3], LEVEL / 1000))
            decoded.append(scale.restore(paths.reconstruction)[3])
    last = np.array([ticker.values[at, 3] for ticker, at in origins])
    return np.log(np.array(closes) / LEVEL), np.log(last / LEVEL), np.log(np.array(decoded) / LEVEL)


# figures ----------------------------------------------------------------------------------


def figures(
    logs: Floats, mean: Floats, deviation: Floats, origins: Sequence[tuple[Series, int]]
) -> list[str]:
    """Return how much the expected CRPS of paths is above the best possible one."""
    best = deviation / math.sqrt(math.pi)
    fair = fair_crps(logs, mean, deviation)
    tickers = len({ticker.symbol for ticker, _ in origins})
    each = fair.mean(axis=1).reshape(tickers, -1).mean(axis=1) / best.mean() - 1
    half = 1.96 * each.std(ddof=1) / math.sqrt(tickers)
    served, ideal = quantile_crps(
        path_quantiles(logs.swapaxes(0, 1), QUANTILE_LEVELS), mean, deviation
    )
    steps = " ".join(f"{100 * ratio:.1f}" for ratio in fair.mean(axis=0) / best - 1)
    of_all = fair.mean() / best.mean() - 1
    return [
        f"{of_all:+.1%} [{of_all - half:+.1%}, {of_all + half:+.1%}]",
        steps,
        f"{served / ideal - 1:+.1%}",
    ]


def walk_row(truth: Truth, origins: Sequence[tuple[Series, int]]) -> list[str]:
    """Return the row of a random walk with the true deviation of a day."""
    last = np.log(np.array([ticker.values[at, 3] for ticker, at in origins]) / LEVEL)
    wide = MOVE * np.sqrt(STEPS)
    both = np.sqrt(truth.deviation**2 + wide**2)
    found = distance(last[:, None] - truth.mean(last), both) - wide / math.sqrt(math.pi)
    best = truth.deviation / math.sqrt(math.pi)
    steps = " ".join(f"{100 * ratio:.1f}" for ratio in found.mean(axis=0) / best - 1)
    return ["random walk", f"{found.mean() / best.mean() - 1:+.1%}", steps, ""]


def fair_crps(logs: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Return the expected CRPS, (n, HORIZON), that unlimited paths would have (Ferro 2014)."""
    paths = np.sort(logs, axis=1)
    count = paths.shape[1]
    rank = (2 * np.arange(1, count + 1) - count - 1)[:, None]
    apart = 2 * (rank * paths).sum(axis=1) / (count * (count - 1))  # mean distance of two paths
    off: Floats = distance(paths - mean[:, None], deviation).mean(axis=1) - apart / 2
    return off


def quantile_crps(quantiles: Floats, mean: Floats, deviation: Floats) -> tuple[float, float]:
    """Return the mean expected CRPS of quantiles (19, n, HORIZON), and of the true ones."""
    level = P[:, None, None]
    z = (quantiles - mean) / deviation
    loss = level * (mean - quantiles) + deviation * (z * cdf(z) + pdf(z))
    true = NORMAL.icdf(torch.from_numpy(P)).numpy()[:, None, None]
    ideal = deviation * pdf(true) * np.ones_like(mean)
    return float(2 * loss.mean()), float(2 * ideal.mean())


def distance(off: Floats, deviation: Floats) -> Floats:
    """Return E|x - Y| for Y normal, whose mean is `off` below x."""
    z = off / deviation
    found: Floats = deviation * (z * (2 * cdf(z) - 1) + 2 * pdf(z))
    return found


def cdf(z: Floats) -> Floats:
    found: Floats = NORMAL.cdf(torch.from_numpy(z)).numpy()
    return found


def pdf(z: Floats) -> Floats:
    found: Floats = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return found


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--reversion", type=float, default=0.2, help="share a day (%(default)s)")
    made.add_argument("--tickers", type=int, default=12)
    made.add_argument("--bars", type=int, default=2000)
    made.add_argument("--windows", type=int, default=30, help="per ticker (%(default)s)")
    made.add_argument("--steps", type=int, default=300)
    made.add_argument("--rate", type=float, default=SMALL_RATES[0], help="peak learning rate")
    made.add_argument("--seed", type=int, default=3)
    return made


if __name__ == "__main__":
    sys.exit(main())
