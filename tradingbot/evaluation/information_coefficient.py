"""Information coefficient: cross-sectional correlation of predicted and realised returns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.typing import Floats

MIN_TICKERS = 5  # with a forecast of the same session and step
_ROUNDING = 1e-20  # a share of the squares that equal values may differ by
_CHUNK = 100_000  # forecasts whose ranks are in memory


def correlations(
    keys: NDArray[np.int64], moves: Sequence[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]]
) -> Floats:
    """(k, 2): the correlation of predicted with actual returns, and that of their ranks, by key.

    keys: (k,) ascending, each a session and step; moves: for each ticker its keys, predicted and
    actual returns. NaN where fewer than MIN_TICKERS have the key, or nothing differs.
    """
    key = np.concatenate([part[0] for part in moves])
    order = np.argsort(key, kind="stable")
    cell = np.searchsorted(keys, key[order])
    del key
    predicted = np.concatenate([part[1] for part in moves])[order]
    actual = np.concatenate([part[2] for part in moves])[order]
    found = np.full((len(keys), 2), np.nan)
    starts = np.searchsorted(cell, np.arange(len(keys) + 1))
    first = 0
    while first < len(keys):  # whole keys, about _CHUNK forecasts at a time
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _CHUNK)) - 1)
        part = slice(starts[first], starts[last])
        index = cell[part] - first
        x, y = predicted[part].astype("float64"), actual[part].astype("float64")
        found[first:last, 0] = _correlation(index, x, y, last - first)
        found[first:last, 1] = _correlation(index, _ranks(index, x), _ranks(index, y), last - first)
        first = last
    return found


def _correlation(index: NDArray[np.int64], x: Floats, y: Floats, cells: int) -> Floats:
    """(cells,): Pearson's, within each cell; index: (n,) the cell of each pair."""
    count = np.bincount(index, minlength=cells)

    def centred(values: Floats) -> Floats:
        return values - (np.bincount(index, values, cells) / np.maximum(count, 1))[index]

    least = [_ROUNDING * np.bincount(index, values * values, cells) for values in (x, y)]
    x, y = centred(x), centred(y)
    both, xx, yy = (np.bincount(index, product, cells) for product in (x * y, x * x, y * y))
    usable = (count >= MIN_TICKERS) & (xx > least[0]) & (yy > least[1])
    return np.where(usable, both / np.sqrt(np.where(usable, xx * yy, 1)), np.nan)


def _ranks(index: NDArray[np.int64], values: Floats) -> Floats:
    """(n,): each value's rank within its cell, equal values sharing the mean of theirs."""
    order = np.lexsort((values, index))
    cell, ordered = index[order], values[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (cell[1:] != cell[:-1]) | (ordered[1:] != ordered[:-1])
    run = np.cumsum(new) - 1
    start = np.flatnonzero(new)
    size = np.diff(np.append(start, len(order)))
    ranks = np.empty(len(order))
    ranks[order] = (start + (size - 1) / 2)[run]
    return ranks
