"""Candles to arrays: validation, normalisation and its inverse. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kronos_space.exceptions import InvalidHistory
from kronos_space.forecasting.timestamps import Times, parse_times

Floats = NDArray[np.float64]

COLUMNS = ("open", "high", "low", "close", "volume", "amount")
CLIP = 5.0  # normalised values are clipped at this many deviations
EPSILON = 1e-5  # added to every deviation, as in the model's training
# Columns with a smaller deviation are first scaled by a power of ten, because EPSILON would distort
# them.
COMFORTABLE = 1000 * EPSILON
FLAT = 1e-9  # a deviation below this share of the largest value is only rounding error
MAX_POWER = 300  # exponent of ten that a float64 can hold
ROUNDING = 1e-6  # relative rounding errors in vendors' adjusted prices


@dataclass(frozen=True)
class History:
    """Validated candles of one ticker. values: float64 (bars, 6), columns as in COLUMNS."""

    times: Times
    values: Floats

    def newest(self, bars: int) -> "History":
        """Return the last `bars` rows."""
        return History(self.times.newest(bars), self.values[-bars:])


@dataclass(frozen=True)
class Scale:
    """Normalisation of one history: (value * factor - mean) / (std + EPSILON).

    Each field is float64, shape (6,).
    """

    mean: Floats
    std: Floats
    factor: Floats  # powers of ten

    def restore(self, bars: NDArray[np.float32]) -> Floats:
        """Convert normalised bars (..., 6) to prices and volumes (..., 6), without clipping."""
        return (bars.astype(np.float64) * (self.std + EPSILON) + self.mean) / self.factor


def history_from_rows(rows: Sequence[Mapping[str, Any]]) -> History:
    """Validate rows with `timestamp` and numbers. Raises InvalidHistory for the first bad row.

    Volume and amount must each be in every row or in none. Without volume, both columns are 0.
    Without amount, the amount is the volume times the mean of the four prices.
    """
    present = [name for name in COLUMNS if _in_every_row(rows, name)]
    if "amount" in present and "volume" not in present:
        raise InvalidHistory("amount is given without volume: send both, or volume alone")
    values = np.zeros((len(rows), len(COLUMNS)))
    values[:, [COLUMNS.index(name) for name in present]] = list(map(itemgetter(*present), rows))
    _check_candles(values)
    if "volume" in present and "amount" not in present:
        values[:, 5] = values[:, 4] * values[:, :4].mean(axis=1)
    times = parse_times([row["timestamp"] for row in rows])
    return History(times, values)


def normalise(values: Floats) -> tuple[NDArray[np.float32], Scale]:
    """Normalise each column, and clip. Return float32 (bars, 6) and the Scale.

    Compute in float32, with the columns stored one after the other in memory, as the reference
    does. Then a bar whose token bit is within rounding error of zero gets the same token as in the
    reference. Values that are too large for float32, and values scaled by `factor`, are computed in
    float64.
    """
    factor = _factors(values)
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.asfortranarray(values, dtype=np.float32)
        mean, std = narrow.mean(axis=0), narrow.std(axis=0)
        normal = (narrow - mean) / (std + np.float32(EPSILON))
    scale = Scale(mean.astype(np.float64), std.astype(np.float64), factor)
    wide = factor != 1
    if not np.isfinite(scale.std).all():
        wide[:] = True
    if wide.any():
        scaled = values[:, wide] * factor[wide]
        scale.mean[wide], scale.std[wide] = scaled.mean(axis=0), scaled.std(axis=0)
        normal[:, wide] = (scaled - scale.mean[wide]) / (scale.std[wide] + EPSILON)
    return np.ascontiguousarray(normal.clip(-CLIP, CLIP), dtype=np.float32), scale


def repair(bars: Floats, floor: float) -> Floats:
    """Make bars valid candles. bars: (..., 5 or more columns).

    Prices are at least `floor`, volumes at least 0, and high and low enclose open and close.
    """
    bars = bars.copy()
    np.maximum(bars[..., :4], floor, out=bars[..., :4])
    np.maximum(bars[..., 4:], 0.0, out=bars[..., 4:])
    body = bars[..., [0, 3]]
    bars[..., 1] = np.maximum(bars[..., 1], body.max(axis=-1))
    bars[..., 2] = np.minimum(bars[..., 2], body.min(axis=-1))
    return bars


def _factors(values: Floats) -> Floats:
    """Return the power of ten by which to multiply each column. Shape: (6,).

    The factor is 1 unless the deviation is so small that EPSILON would distort the column. A factor
    other than 1 brings the deviation to between 1 and 10. If a column is constant, the factor
    brings the values to that range instead. The four prices share one factor.
    """
    factors = np.ones(len(COLUMNS))
    for columns in (slice(4), slice(4, 5), slice(5, 6)):
        largest = np.abs(values[:, columns]).max()
        if largest == 0:
            continue
        share = (values[:, columns] / largest).std(axis=0).max()
        size = np.log10(largest) + (np.log10(share) if share > FLAT else 0.0)
        if size < (np.log10(COMFORTABLE) if share > FLAT else 0.0):
            factors[columns] = 10.0 ** min(-np.floor(size), MAX_POWER)
    return factors


def _in_every_row(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    has = [name in row for row in rows]
    if all(has) or not any(has):
        return has[0]
    row = has.index(not has[0])
    state = "has no" if has[0] else "has a"
    raise InvalidHistory(f"row {row}: {state} {name}, unlike row 0; send it in all rows or in none")


def _check_candles(values: Floats) -> None:
    open_, high, low, close = values[:, :4].T
    above, below = 1 + ROUNDING, 1 - ROUNDING
    rules = [
        (high < low * below, high, "high", "below low", low),
        (high < open_ * below, high, "high", "below open", open_),
        (high < close * below, high, "high", "below close", close),
        (low > open_ * above, low, "low", "above open", open_),
        (low > close * above, low, "low", "above close", close),
    ]
    wrong = [(int(bad.argmax()), *rule) for bad, *rule in rules if bad.any()]
    if wrong:
        row, column, name, relation, other = min(wrong, key=itemgetter(0))
        raise InvalidHistory(f"row {row}: {name} {column[row]} is {relation} {other[row]}")
