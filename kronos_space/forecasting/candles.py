"""Candles in, arrays out: checks, normalisation and its inverse. No torch here."""

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
CLIP = 5.0  # normalised values beyond this many deviations are cut
EPSILON = 1e-5  # added to every deviation, as the model was trained
# Below this deviation a column is scaled by a power of ten first: beside it EPSILON would be seen.
COMFORTABLE = 1000 * EPSILON
FLAT = 1e-9  # a deviation of this share of the largest number is rounding
MAX_POWER = 300  # of ten, that a float64 takes
ROUNDING = 1e-6  # data vendors' adjusted prices may disagree by this much of their size


@dataclass(frozen=True)
class History:
    """The candles of one ticker, checked. values: float64 (bars, 6), columns as in COLUMNS."""

    times: Times
    values: Floats

    def newest(self, bars: int) -> "History":
        """The last `bars` rows."""
        return History(self.times.newest(bars), self.values[-bars:])


@dataclass(frozen=True)
class Scale:
    """How one history was normalised: times `factor`, less `mean`, by `std`. Each float64 (6,)."""

    mean: Floats
    std: Floats
    factor: Floats  # powers of ten

    def restore(self, bars: NDArray[np.float32]) -> Floats:
        """Normalised bars (..., 6) -> prices and volumes (..., 6); nothing is clipped."""
        return (bars.astype(np.float64) * (self.std + EPSILON) + self.mean) / self.factor


def history_from_rows(rows: Sequence[Mapping[str, Any]]) -> History:
    """Rows with `timestamp` and numbers -> History. Raises InvalidHistory naming the first bad row.

    Volume, and amount, stand in every row or in none. No volume: both columns are 0. No amount:
    volume times the mean of the four prices.
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
    """Each column less its mean, by its deviation, clipped -> float32 (bars, 6) and the Scale.

    In float32, and column by column in memory, as the reference does it: a bar whose bit lies
    within rounding of zero then gets the same token. Numbers that are too large for that, or are
    scaled, are worked out in float64.
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
    """Make every bar (..., >=5) a possible candle: prices >= floor, high and low outermost."""
    bars = bars.copy()
    np.maximum(bars[..., :4], floor, out=bars[..., :4])
    np.maximum(bars[..., 4:], 0.0, out=bars[..., 4:])
    body = bars[..., [0, 3]]
    bars[..., 1] = np.maximum(bars[..., 1], body.max(axis=-1))
    bars[..., 2] = np.minimum(bars[..., 2], body.min(axis=-1))
    return bars


def _factors(values: Floats) -> Floats:
    """The power of ten that each column is multiplied by before the model sees it: (6,).

    1 unless its deviation is so small that EPSILON would be seen beside it; else what brings the
    deviation, or the numbers themselves where they are all the same, to between 1 and 10. The four
    prices have one.
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
