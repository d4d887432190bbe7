"""The yardstick: a random walk that goes on as the ticker's own past bars went."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tradingbot.evaluation.outcomes import LEVELS
from tradingbot.typing import Floats

WINDOW = 250  # one-bar returns that are drawn from, the newest ones
MIN_RETURNS = 32  # fewer are no distribution
_MOST = 2000  # forecasts' origins at a time: 4 MB an array


def random_walk_quantiles(
    past: pd.Series, as_of: NDArray[np.datetime64], step: NDArray[np.int64]
) -> Floats:
    """(n, 19): quantiles at LEVELS of close(target) ÷ close(as_of), without looking past `as_of`.

    The newest WINDOW log returns up to `as_of` (all of them, if there are fewer) are put together
    in WINDOW paths by a table that never changes, so the same past gives the same quantiles. Every
    return stands once in each step's column of the table: one step ahead the quantiles are those
    of the returns themselves. NaN where there are fewer than MIN_RETURNS.
    """
    times = past.index.to_numpy().astype("datetime64[s]")
    returns = np.diff(np.log(past.to_numpy(dtype="float64")))
    origins, which = np.unique(as_of, return_inverse=True)
    ends = np.searchsorted(times, origins, side="right") - 1  # returns up to that origin
    lengths = np.minimum(ends, WINDOW)  # ascending, as the origins are
    quantiles = np.full((len(as_of), len(LEVELS)), np.nan)
    for length in np.unique(lengths[lengths >= MIN_RETURNS]):
        first, last = np.searchsorted(lengths, [length, length + 1])
        for start in range(first, last, _MOST):
            stop = min(start + _MOST, last)
            windows = returns[ends[start:stop, None] + np.arange(-length, 0)]
            rows = np.flatnonzero((which >= start) & (which < stop))
            quantiles[rows] = _walk(windows, which[rows] - start, step[rows])
    return quantiles


def _walk(windows: Floats, origin: NDArray[np.int64], step: NDArray[np.int64]) -> Floats:
    """(n, 19), the i-th from windows[origin[i]], step[i] ahead; windows: (origins, length)."""
    quantiles = np.empty((len(step), len(LEVELS)))
    paths = np.zeros((len(windows), WINDOW))
    table = np.random.default_rng(0)
    for ahead in range(1, int(step.max()) + 1):
        paths += windows[:, table.permutation(WINDOW) * windows.shape[1] // WINDOW]
        rows = step == ahead
        quantiles[rows] = np.exp(_quantiles(paths[origin[rows]]))
    return quantiles


def _quantiles(values: Floats) -> Floats:
    """(n, 19) from (n, WINDOW); as np.quantile, at a fifth of its cost."""
    values.sort(axis=1)
    position = np.array(LEVELS) * (values.shape[1] - 1)
    below = position.astype("int64")
    share = position - below
    found: Floats = values[:, below] * (1 - share) + values[:, below + 1] * share
    return found
