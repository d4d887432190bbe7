"""Information coefficient: cross-sectional correlation of predicted and realised returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.metric_sums import SUMS
from tradingbot.typing import Floats

Moves = tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]  # keys, predicted and actual returns

MIN_TICKERS = 5  # with the same session and step; with fewer tickers there is no correlation
_ROUNDING = 1e-20  # values count as equal if their variance is below this share of their squares
_CHUNK = 100_000  # number of forecasts ranked at a time


_PRINT = [SUMS.index(name) for name in ("n", "error", "naive", "actual")]


@dataclass(frozen=True)
class Correlations:
    """Correlations of an earlier run, each with a fingerprint of its forecasts.

    Attributes:
        rows: Shape (k, 7). Columns: key; four sums over all tickers' forecasts of that session and
            step; correlation; rank correlation. The sums are the fingerprint: equal sums mean
            unchanged forecasts and outcomes.
    """

    rows: Floats

    @classmethod
    def none(cls) -> "Correlations":
        return cls(np.empty((0, 3 + len(_PRINT))))

    @classmethod
    def of(cls, keys: NDArray[np.int64], sums: Floats, known: Floats) -> "Correlations":
        """Return correlations `known` (k, 2) with fingerprints from the sums (k, len(SUMS))."""
        return cls(np.column_stack([keys.view("float64"), sums[:, _PRINT], known]))

    @classmethod
    def unpacked(cls, data: bytes) -> "Correlations":
        """Return the correlations that `packed` stored, or none if `data` is damaged."""
        width = 8 * (3 + len(_PRINT))
        return cls.none() if len(data) % width else cls(np.frombuffer(data).reshape(-1, width // 8))

    def packed(self) -> bytes:
        return self.rows.tobytes()

    def reusable(self, keys: NDArray[np.int64], sums: Floats) -> Floats:
        """Return the stored correlations of these keys. Shape (k, 2). Infinity if sums differ."""
        found = np.full((len(keys), 2), np.inf)
        before = np.ascontiguousarray(self.rows[:, 0]).view("int64")
        if len(before):
            at = np.minimum(np.searchsorted(before, keys), len(before) - 1)
            unchanged = (before[at] == keys) & (self.rows[at, 1:-2] == sums[:, _PRINT]).all(axis=1)
            found[unchanged] = self.rows[at[unchanged], -2:]
        return found


def correlations(keys: NDArray[np.int64], moves: Sequence[Moves]) -> Floats:
    """Return the correlation and the rank correlation of predicted with actual returns.

    Args:
        keys: (k,) ascending, each a session and step.
        moves: One item per ticker. An item may have keys that are not in `keys`.

    Returns:
        Shape (k, 2). NaN for a key with fewer than MIN_TICKERS tickers, or with equal values only.
    """
    moves = [_of_keys(keys, *part) for part in moves]
    key = np.concatenate([part[0] for part in moves])
    order = np.argsort(key, kind="stable")
    cell = np.searchsorted(keys, key[order])
    del key
    predicted = np.concatenate([part[1] for part in moves])[order]
    actual = np.concatenate([part[2] for part in moves])[order]
    found = np.full((len(keys), 2), np.nan)
    starts = np.searchsorted(cell, np.arange(len(keys) + 1))
    first = 0
    while first < len(keys):  # each pass takes whole keys, with about _CHUNK forecasts
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _CHUNK)) - 1)
        part = slice(starts[first], starts[last])
        index = cell[part] - first
        x, y = predicted[part].astype("float64"), actual[part].astype("float64")
        found[first:last, 0] = _correlation(index, x, y, last - first)
        found[first:last, 1] = _correlation(index, _ranks(index, x), _ranks(index, y), last - first)
        first = last
    return found


def _of_keys(
    keys: NDArray[np.int64], key: NDArray[np.int64], predicted: NDArray[Any], actual: NDArray[Any]
) -> Moves:
    """Return the returns whose key is one of `keys`."""
    wanted = keys[np.minimum(np.searchsorted(keys, key), len(keys) - 1)] == key
    return (
        (key, predicted, actual)
        if wanted.all()
        else (key[wanted], predicted[wanted], actual[wanted])
    )


def _correlation(index: NDArray[np.int64], x: Floats, y: Floats, cells: int) -> Floats:
    """Return Pearson's correlation of each cell's pairs. `index` (n,) has the cell of each pair."""
    count = np.bincount(index, minlength=cells)

    def centred(values: Floats) -> Floats:
        return values - (np.bincount(index, values, cells) / np.maximum(count, 1))[index]

    least = [_ROUNDING * np.bincount(index, values * values, cells) for values in (x, y)]
    x, y = centred(x), centred(y)
    both, xx, yy = (np.bincount(index, product, cells) for product in (x * y, x * x, y * y))
    usable = (count >= MIN_TICKERS) & (xx > least[0]) & (yy > least[1])
    return np.where(usable, both / np.sqrt(np.where(usable, xx * yy, 1)), np.nan)


def _ranks(index: NDArray[np.int64], values: Floats) -> Floats:
    """Return each value's rank within its cell. Equal values have the mean of their ranks."""
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
