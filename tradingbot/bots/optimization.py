"""Grid search over a strategy's parameters, with a correction for selection by luck.

Each combination is backtested once. Decisions have no look-ahead, so a backtest's result up to a
day is what would have been known on that day. For the walk-forward result, each test window uses
the parameters with the best Sharpe ratio over all bars before it.

The deflated Sharpe ratio (D. Bailey and M. López de Prado, The Deflated Sharpe Ratio, 2014) is the
probability that the best combination's true ratio is above 0, given that it is the best of N tried:

    SR0 = sqrt(V) x ((1 - g) x Z⁻¹(1 - 1/N) + g x Z⁻¹(1 - 1/(N e)))
    DSR = Z((SR - SR0) x sqrt(T - 1) / sqrt(1 - skew x SR + (kurtosis - 1) / 4 x SR²))

with ratios per bar, their variance V over the trials, Euler's constant g, and T returns.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from tradingbot.bots.backtest import run_backtest
from tradingbot.bots.backtest_result import Backtest
from tradingbot.bots.performance import PerformanceStats, performance_stats
from tradingbot.bots.strategy import FillAt, Strategy, keywords_of, refuse_misspelt
from tradingbot.bots.variants import variant
from tradingbot.errors import ConfigError

EULER = 0.5772156649015329
FIXED = {"name", "symbol", "tickers", "interval", "period", "fill", "settings", "params"}


@dataclass(frozen=True)
class Optimization:
    """Result of a grid search. `str()` gives a short summary."""

    best: dict[str, Any]  # parameters with the highest Sharpe ratio over the whole history
    result: Backtest  # of the best parameters
    trials: pd.DataFrame  # one row per combination: parameters, statistics, number of trades
    deflated_sharpe: float  # probability that the best's true Sharpe ratio is above 0
    folds: pd.DataFrame  # one row per test window: parameters chosen before it, and statistics
    out_of_sample: PerformanceStats  # of the test windows in sequence

    def __str__(self) -> str:
        chosen = ", ".join(f"{name}={value!r}" for name, value in self.best.items())
        return "\n".join(
            [
                f"best of {len(self.trials)} trials: {chosen}; Sharpe "
                f"{self.result.measures.sharpe:.2f}, deflated: {self.deflated_sharpe:.0%} likely "
                "to be above 0",
                f"walking forward over {len(self.folds)} windows, parameters chosen before each: "
                f"return {self.out_of_sample.total_return:.1%}, "
                f"Sharpe {self.out_of_sample.sharpe:.2f}",
            ]
        )

    def to_frame(self) -> pd.DataFrame:
        """Return `trials`, best first."""
        return self.trials.sort_values("sharpe", ascending=False, ignore_index=True)


def optimize(
    strategy: Strategy,
    grid: Mapping[str, Iterable[Any]],
    history: Any,
    *,
    cash: float,
    fill: FillAt | None,
    folds: int,
) -> Optimization:
    """Run the search; see `Bot.optimize`."""
    combinations = _combinations(strategy, grid)
    if not isinstance(folds, int) or folds < 1:
        raise ConfigError(f"folds={folds!r}: expected a whole number from 1 on")
    results = [
        run_backtest(variant(strategy, chosen), history, cash, fill) for chosen in combinations
    ]
    returns = np.array([result.equity.pct_change().iloc[1:] for result in results])
    if returns.shape[1] < 2 * (folds + 1):
        raise ConfigError(f"folds={folds}: the history has {returns.shape[1] + 1} bars only")
    ratios = sharpe_per_bar(returns)
    best = int(np.argmax(ratios))
    index, symbols = results[0].equity.index, (strategy.tickers, strategy.interval)
    windows, chained = _walk_forward(returns, combinations, index, folds)
    return Optimization(
        best=combinations[best],
        result=results[best],
        trials=pd.DataFrame(
            [
                {**chosen, **vars(result.measures), "trades": len(result.trades)}
                for chosen, result in zip(combinations, results, strict=True)
            ]
        ),
        deflated_sharpe=deflated_sharpe(returns[best], ratios),
        folds=windows,
        out_of_sample=performance_stats(chained, *symbols),
    )


def deflated_sharpe(returns: "np.ndarray[Any, Any]", ratios: "np.ndarray[Any, Any]") -> float:
    """Return the probability that the true ratio of `returns`, the best of `ratios`, is above 0.

    Ratios are per bar; see the module. NaN if there were no moves.
    """
    spread = returns.std()
    if not spread:
        return math.nan
    moved = (returns - returns.mean()) / spread
    return deflated(
        float(sharpe_per_bar(returns[None, :])[0]),
        count=len(returns),
        trials=len(ratios),
        variance=float(ratios.var(ddof=1)) if len(ratios) > 1 else 0.0,
        skew=float((moved**3).mean()),
        kurtosis=float((moved**4).mean()),
    )


def deflated(
    ratio: float, *, count: int, trials: int, variance: float, skew: float, kurtosis: float
) -> float:
    """Apply the module's formula."""
    normal = NormalDist()
    by_luck = 0.0
    if trials > 1:
        by_luck = math.sqrt(variance) * (
            (1 - EULER) * normal.inv_cdf(1 - 1 / trials)
            + EULER * normal.inv_cdf(1 - 1 / (trials * math.e))
        )
    spread = 1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2
    return normal.cdf((ratio - by_luck) * math.sqrt(count - 1) / math.sqrt(spread))


def sharpe_per_bar(returns: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Return the ratio of each row of (trials, bars), not annualised; 0 if there were no moves."""
    spread = returns.std(axis=1, ddof=1)
    ratios: np.ndarray[Any, Any] = np.divide(
        returns.mean(axis=1), spread, out=np.zeros(len(returns)), where=spread > 0
    )
    return ratios


def _walk_forward(
    returns: "np.ndarray[Any, Any]",
    combinations: list[dict[str, Any]],
    index: pd.Index,
    folds: int,
) -> tuple[pd.DataFrame, pd.Series]:
    """Return the table of the test windows, and the value of 1 USD invested in all in sequence."""
    edges = np.linspace(0, returns.shape[1], folds + 2).astype(int)
    rows, parts = [], []
    for begin, end in pairwise(edges[1:]):
        before = sharpe_per_bar(returns[:, :begin])
        chosen = int(np.argmax(before))
        part = returns[chosen, begin:end]
        parts.append(part)
        rows.append(
            {
                "first": index[begin + 1],
                "last": index[end],
                **combinations[chosen],
                "total_return": float(np.prod(1 + part) - 1),
                "sharpe_before": float(before[chosen]),  # both per bar
                "sharpe": float(sharpe_per_bar(part[None, :])[0]),
            }
        )
    grown = np.cumprod(1 + np.concatenate([[0.0], *parts]))
    return pd.DataFrame(rows), pd.Series(grown, index=index[edges[1] :])


def _combinations(strategy: Strategy, grid: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    values = {name: _values(tried) for name, tried in grid.items()} if _is_grid(grid) else {}
    if not values or not all(values.values()) or any(_is_fixed(strategy, name) for name in values):
        raise ConfigError(
            f"grid {grid!r}: expected parameters of the strategy with values to try, "
            "as {'window': [10, 20, 50]}"
        )
    attributes = {name for name in dir(strategy) if not _is_fixed(strategy, name)}
    known = {*strategy.params, *attributes, *keywords_of(type(strategy))}
    unknown = [name for name in values if name not in known and not hasattr(strategy, name)]
    refuse_misspelt(strategy.name, type(strategy), unknown, known)
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def _is_grid(grid: Any) -> bool:
    return isinstance(grid, Mapping) and all(isinstance(name, str) for name in grid)


def _values(tried: Any) -> list[Any]:
    """Return a parameter's values. A text is one value; [] if there are none."""
    if isinstance(tried, str):
        return [tried]
    return list(tried) if isinstance(tried, Iterable) else []


def _is_fixed(strategy: Strategy, name: str) -> bool:
    """Return whether a name is not a parameter: common to all bots, environment, or a method."""
    found = getattr(type(strategy), name, None)
    return name in FIXED or name[:1] in ("_", "") or callable(found) or isinstance(found, property)
