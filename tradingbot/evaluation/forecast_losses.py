"""Matured forecasts: forecasts with an outcome, reduced to the numbers that scores need.

A forecast has about 60 numbers in the ledger: three sets of 19 quantiles, prices and dates. Scores
need about twenty: the error, the losses of the quantiles, and which bands contained the outcome.
These twenty numbers are computed once.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.evaluation.metric_sums import BANDS, SUMS, band_edges, crps, walk_losses
from tradingbot.persistence.models import PARTS, SERVED
from tradingbot.typing import Floats, Times

KINDS = (SERVED, *PARTS)  # kinds of quantiles

Forecasts = NDArray[Any]  # (n,) of _FORECAST
Losses = NDArray[Any]  # (n,) of _LOSS

_FORECAST = np.dtype(
    [("as_of", "<i8"), ("target", "<i8"), ("step", "<i2")]  # seconds, seconds, bars ahead
    + [(name, "<f8") for name in ("mean", "actual", "walk_crps", "ewma_crps")]  # NaN: no walk
)
# crps is NaN for a forecast without quantiles of this kind. "inside" has one bit per band, which is
# set if the band contained the outcome.
_LOSS = np.dtype([("crps", "<f8"), *((f"width_{band}", "<f8") for band in BANDS), ("inside", "u1")])
# the number of forecasts; then for each kind the index of its losses, or -1 if it has none
_HEAD = struct.Struct("<I4b")


@dataclass(frozen=True)
class MaturedForecasts:
    """n forecasts of one ticker by one revision of one model.

    Attributes:
        forecasts: (n,) the numbers that do not depend on the kind of quantiles. Prices are
            relative to the last close.
        losses: By kind of quantiles, (n,) each. SERVED and "raw" are always present. Other kinds
            are present only if a forecast has quantiles of that kind.
    """

    forecasts: Forecasts
    losses: Mapping[str, Losses]

    @classmethod
    def none(cls) -> "MaturedForecasts":
        empty = np.empty(0, _LOSS)
        return cls(np.empty(0, _FORECAST), {SERVED: empty, "raw": empty})

    @classmethod
    def of(cls, outcomes: ForecastOutcomes, kinds: Sequence[str] = KINDS) -> "MaturedForecasts":
        """Compute the losses of these forecasts.

        SERVED and "raw" are always computed. Other `kinds` are computed if a forecast has them.
        """
        forecasts = np.empty(len(outcomes), _FORECAST)
        forecasts["as_of"] = outcomes.as_of.astype("datetime64[s]").astype("int64")
        forecasts["target"] = outcomes.target.astype("datetime64[s]").astype("int64")
        for name in ("step", "mean", "actual"):
            forecasts[name] = getattr(outcomes, name)
        forecasts["walk_crps"], forecasts["ewma_crps"] = walk_losses(outcomes).T
        quantiles = {SERVED: outcomes.quantiles, "raw": outcomes.raw_quantiles}
        quantiles |= {
            name: values
            for name, values in (
                ("calibrated", outcomes.calibrated_quantiles),
                ("combined", outcomes.combined_quantiles),
            )
            if name in kinds and values is not None and np.isfinite(values).all(axis=1).any()
        }
        losses = {name: _losses(outcomes.actual, values) for name, values in quantiles.items()}
        different = {array.tobytes(): array for array in losses.values()}  # share equal arrays
        shared = {name: different[array.tobytes()] for name, array in losses.items()}
        return cls(forecasts, shared)

    @classmethod
    def joined(cls, parts: Iterable["MaturedForecasts"]) -> "MaturedForecasts":
        """Concatenate forecasts of the same ticker, sorted by target and step."""
        filled = [part for part in parts if len(part)] or [cls.none()]
        kinds = [name for name in KINDS if any(name in part.losses for part in filled)]
        of_kinds = {name: [part.losses.get(name) for part in filled] for name in kinds}
        places = {name: tuple(map(id, losses)) for name, losses in of_kinds.items()}
        different = {
            places[name]: _concatenated(
                _missing(part) if array is None else array
                for part, array in zip(filled, losses, strict=True)
            )
            for name, losses in of_kinds.items()
        }
        joined = cls(
            _concatenated(part.forecasts for part in filled),
            {name: different[place] for name, place in places.items()},
        )
        keys = joined.keys
        return joined if (np.diff(keys) >= 0).all() else joined[np.argsort(keys, kind="stable")]

    def __len__(self) -> int:
        return len(self.forecasts)

    def __getitem__(self, rows: NDArray[Any]) -> "MaturedForecasts":
        different = {id(loss): loss for loss in self.losses.values()}
        chosen = {key: loss[rows] for key, loss in different.items()}
        return MaturedForecasts(
            self.forecasts[rows], {name: chosen[id(loss)] for name, loss in self.losses.items()}
        )

    @property
    def keys(self) -> NDArray[np.int64]:
        """Return one number per forecast that combines target (in seconds) and step."""
        keys: NDArray[np.int64] = self.forecasts["target"] << STEP_BITS | self.forecasts["step"]
        return keys

    @property
    def quarters(self) -> Times:
        """Return the first month of each target's quarter. Shape (n,)."""
        months = self.forecasts["target"].view("datetime64[s]").astype("datetime64[M]")
        number = months.astype("int64")
        quarters: Times = (number - number % 3).view("datetime64[M]")
        return quarters

    @property
    def is_raw(self) -> bool:
        """Whether Kronos alone was served, so that the served and raw forecasts are the same."""
        return self.losses.keys() == {SERVED, "raw"}

    def of_kind(self, kind: str) -> "MaturedForecasts":
        """Return the forecasts with quantiles of this kind, with that kind's losses as SERVED."""
        losses = self.losses[kind]
        matured = MaturedForecasts(self.forecasts, {SERVED: losses, "raw": self.losses["raw"]})
        known = ~np.isnan(losses["crps"])
        return matured if kind == SERVED or known.all() else matured[known]

    def sums(self) -> Floats:
        """Return each forecast's contribution to SUMS, computed from its served quantiles.

        Shape (n, len(SUMS)).
        """
        forecasts = self.forecasts
        ours, raw = self.losses[SERVED], self.losses["raw"]
        mean, actual = forecasts["mean"], forecasts["actual"]
        walk, ewma = forecasts["walk_crps"], forecasts["ewma_crps"]
        compared = ~np.isnan(walk)  # enough earlier returns for both random walks
        moved = (mean != 1) & (actual != 1)
        columns = [
            np.ones(len(self)),
            abs(mean - actual),
            abs(1 - actual),
            ours["crps"],
            raw["crps"],
            abs(actual),
            compared,
            np.where(compared, ours["crps"], 0),
            np.where(compared, walk, 0),
            np.where(compared, ewma, 0),
            moved,
            moved & ((mean > 1) == (actual > 1)),
            *(losses["inside"] >> bit & 1 for losses in (ours, raw) for bit in range(len(BANDS))),
            *(ours[f"width_{band}"] for band in BANDS),
        ]
        sums = np.empty((len(self), len(SUMS)))
        for place, column in enumerate(columns):
            sums[:, place] = column
        return sums

    def packed(self) -> bytes:
        """Return the forecasts as bytes. Losses that two kinds share are stored once."""
        distinct: list[bytes] = []
        places = []
        for kind in KINDS:
            if kind not in self.losses:
                places.append(-1)
                continue
            losses = self.losses[kind].tobytes()
            if losses not in distinct:
                distinct.append(losses)
            places.append(distinct.index(losses))
        return b"".join([_HEAD.pack(len(self), *places), self.forecasts.tobytes(), *distinct])

    @classmethod
    def unpacked(cls, data: bytes) -> "MaturedForecasts":
        """Return the forecasts that `packed` wrote.

        Raises:
            ValueError: The data is damaged.
        """
        if len(data) < _HEAD.size:
            raise ValueError(f"{len(data)} bytes are not forecasts")
        n, *places = _HEAD.unpack_from(data)
        distinct = max(places) + 1
        if len(data) != _HEAD.size + n * (_FORECAST.itemsize + distinct * _LOSS.itemsize):
            raise ValueError(f"{len(data)} bytes are not {n} forecasts")
        forecasts = np.frombuffer(data, _FORECAST, n, _HEAD.size)
        begin = _HEAD.size + n * _FORECAST.itemsize
        losses = [
            np.frombuffer(data, _LOSS, n, begin + place * n * _LOSS.itemsize)
            for place in range(distinct)
        ]
        kinds = {kind: losses[at] for kind, at in zip(KINDS, places, strict=True) if at >= 0}
        if not kinds.keys() >= {SERVED, "raw"}:
            raise ValueError("the losses of served quantiles are missing")
        return cls(forecasts, kinds)


STEP_BITS = 9  # a horizon has at most 256 steps


ByRevision = dict[str, MaturedForecasts]
ByQuarter = dict[tuple[str, datetime], MaturedForecasts]  # revision, first day of the quarter


def by_quarter(forecasts: ByRevision) -> ByQuarter:
    """Return the forecasts of each revision by the quarter of their targets."""
    found = {}
    for revision, some in forecasts.items():
        quarters = some.quarters
        for quarter in np.unique(quarters):
            first_day = quarter.astype("datetime64[s]").item()
            found[revision, first_day] = some[quarters == quarter]
    return found


def added(before: ByQuarter, new: ByQuarter) -> ByQuarter:
    """Return the quarters that have new forecasts, each with its earlier and its new forecasts."""
    return {
        quarter: MaturedForecasts.joined([before[quarter], some] if quarter in before else [some])
        for quarter, some in new.items()
    }


def by_revision(forecasts: ByQuarter) -> ByRevision:
    """Return the forecasts of each revision, concatenated over its quarters."""
    quarters: dict[str, list[MaturedForecasts]] = {}
    for (revision, _), some in sorted(forecasts.items(), key=itemgetter(0)):
        quarters.setdefault(revision, []).append(some)
    return {revision: MaturedForecasts.joined(some) for revision, some in quarters.items()}


def _losses(actual: Floats, quantiles: Floats) -> Losses:
    losses = np.empty(len(actual), _LOSS)
    losses["crps"] = crps(actual, quantiles)
    inside = np.zeros(len(actual), "u1")
    for bit, (band, bounds) in enumerate(BANDS.items()):
        low, high = quantiles.T[band_edges(bounds)]
        losses[f"width_{band}"] = high - low
        inside |= ((low <= actual) & (actual <= high)).astype("u1") << bit
    losses["inside"] = inside
    return losses


def _concatenated(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate arrays of one dtype.

    This is faster than `np.concatenate`, which compares the fields of all arrays first.
    """
    first, *others = arrays
    if not others:
        return first
    return np.frombuffer(
        b"".join([first.tobytes(), *(array.tobytes() for array in others)]), first.dtype
    )


def _missing(part: MaturedForecasts) -> Losses:
    losses = np.zeros(len(part), _LOSS)
    losses["crps"] = np.nan
    return losses
