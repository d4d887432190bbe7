"""Find tickers forecast better or worse than by a random walk, corrected for multiple tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tradingbot.evaluation.significance import benjamini_hochberg

FALSE_DISCOVERIES = 0.05  # expected share of false results among the tickers called better or worse


class Tested(Protocol):
    """ForecastMetrics, or a row of kronos_scores."""

    @property
    def dm_statistic(self) -> float | None: ...
    @property
    def dm_p_value(self) -> float | None: ...


@dataclass(frozen=True)
class TickerComparison:
    """Tickers with enough sessions for a test against the random walk."""

    p_values: dict[str, float]  # adjusted for the number of tickers
    better: list[str]
    worse: list[str]

    def __str__(self) -> str:
        """Return "Of 60 tickers 3 are better than a random walk and 12 worse, …"."""
        count = len(self.p_values)
        if not count:
            return ""
        tickers = "1 ticker" if count == 1 else f"{count} tickers"
        return (
            f"Of {tickers} {len(self.better) or 'none'} better than a random walk, "
            f"{len(self.worse) or 'none'} worse, beyond chance "
            f"(at most {100 * FALSE_DISCOVERIES:.0f} % of them false, Benjamini-Hochberg)"
        )


def compare_tickers(tested: Mapping[str, Tested]) -> TickerComparison:
    """Compare each ticker's forecasts with its random walk.

    The p-values are adjusted together, for the number of tickers.
    """
    known = {
        symbol: (metrics.dm_p_value, metrics.dm_statistic)
        for symbol, metrics in tested.items()
        if metrics.dm_p_value is not None and metrics.dm_statistic is not None
    }
    adjusted = benjamini_hochberg(np.array([p_value for p_value, _ in known.values()]))
    p_values = dict(zip(known, adjusted.tolist(), strict=True))
    beyond = [symbol for symbol in known if p_values[symbol] < FALSE_DISCOVERIES]
    return TickerComparison(
        p_values,
        better=[symbol for symbol in beyond if known[symbol][1] < 0],
        worse=[symbol for symbol in beyond if known[symbol][1] > 0],
    )
