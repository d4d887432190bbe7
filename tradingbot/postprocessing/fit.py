"""Fit calibrations from forecasts with known outcomes, and report their out-of-sample coverage.

    for result in fit(record): store(session, result.calibration)

There is no look-ahead: a forecast is used only after its target session is over. For the reported
coverage, each forecast is calibrated with the factors that were known when it was made.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.close_outcomes import ForecastOutcomes
from tradingbot.markets.symbols import asset_class
from tradingbot.postprocessing.bands import (
    ALL_CLASSES,
    ALL_STEPS,
    Calibration,
    Factors,
    Key,
    PoolName,
    pools_for,
)
from tradingbot.postprocessing.conformal import BANDS, Track, scores, track
from tradingbot.typing import Floats, Times

RECORD = timedelta(days=400)  # older forecasts no longer affect the factors
BAND_80 = BANDS.index(80)  # the band whose coverage is reported


@dataclass(frozen=True)
class Outcome:
    """One asset class at one step ahead. Coverages are those of the 80 % band."""

    asset_class: str
    step: int
    n: int
    raw_coverage: float
    pool: PoolName | None  # pool whose factors are used; None: too few outcomes, bands stay raw
    factor: float | None  # factor of the 80 % band
    n_since: int  # number of forecasts made since the first factor
    coverage: float | None  # coverage of these forecasts after calibration


@dataclass(frozen=True)
class Fit:
    """The calibration fitted for one revision of one model."""

    calibration: Calibration
    outcomes: tuple[Outcome, ...]  # by asset class and step


def fit(record: Iterable[ForecastOutcomes]) -> list[Fit]:
    """Fit one calibration for each model, revision and interval. Iterate over `record` once."""
    parts: dict[Key, list[_Scored]] = {}
    for part in record:
        key = (part.model_name, part.model_revision, part.interval)
        parts.setdefault(key, []).append(_scored(part))
    return [_fit(key, _joined(of_key)) for key, of_key in sorted(parts.items())]


def out_of_sample_factors(record: Sequence[ForecastOutcomes]) -> list[Floats]:
    """Return the factors that were known when each forecast was made.

    Args:
        record: Forecasts with outcomes, one item per ticker. All must be by one model, with one
            revision and interval.

    Returns:
        One array per item of `record`, with the shape (n, 9). NaN where no factors were known yet.
    """
    joined = _joined([_scored(part) for part in record])
    tracks = _tracks(joined)
    factors = np.full(joined.scores.shape, np.nan)
    for kind, step, rows in _groups(joined):
        factors[rows] = _known(joined.as_of[rows], kind, step, tracks)
    return np.split(factors, np.cumsum([len(part) for part in record])[:-1])


@dataclass(frozen=True)
class _Scored:
    """n forecasts with outcomes. `scores` has the shape (n, 9), all other fields (n,).

    `kind` is the asset class, `held` whether the raw 80 % band contained the outcome.
    """

    as_of: Times
    target: Times
    step: NDArray[np.int64]
    kind: NDArray[Any]
    held: NDArray[np.bool_]
    scores: Floats

    def __getitem__(self, rows: Any) -> "_Scored":
        return _Scored(*(getattr(self, field.name)[rows] for field in fields(self)))


def _scored(outcomes: ForecastOutcomes) -> _Scored:
    kind = np.full(len(outcomes), asset_class(outcomes.symbol))
    low, high = outcomes.raw_quantiles[:, 1], outcomes.raw_quantiles[:, 17]
    held = (low <= outcomes.actual) & (outcomes.actual <= high)
    reach = scores(outcomes.raw_quantiles, outcomes.actual)
    return _Scored(outcomes.as_of, outcomes.target, outcomes.step, kind, held, reach)


def _joined(parts: list[_Scored]) -> _Scored:
    return _Scored(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(_Scored)
        )
    )


def _fit(key: Key, record: _Scored) -> Fit:
    tracks = _tracks(record)
    factors = {
        pool: Factors(tuple(of_pool.factors[-1].tolist()), of_pool.n, of_pool.sessions[-1].item())
        for pool, of_pool in tracks.items()
    }
    outcomes = [_outcome(record[rows], kind, step, tracks) for kind, step, rows in _groups(record)]
    return Fit(Calibration(key, factors), tuple(outcomes))


def _groups(record: _Scored) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """Yield each asset class and step, and which rows belong to them."""
    for kind in np.unique(record.kind).tolist():
        of_class = record.kind == kind
        for step in np.unique(record.step[of_class]).tolist():
            yield kind, step, of_class & (record.step == step)


def _tracks(record: _Scored) -> dict[PoolName, Track]:
    """Return the tracks of all pools with enough outcomes."""
    tracks = {}
    for kind in (*np.unique(record.kind).tolist(), ALL_CLASSES):
        of_class = np.full(len(record.kind), True) if kind == ALL_CLASSES else record.kind == kind
        for step in (ALL_STEPS, *np.unique(record.step[of_class]).tolist()):
            rows = of_class if step == ALL_STEPS else of_class & (record.step == step)
            found = track(record.target[rows], record.scores[rows])
            if found is not None:
                tracks[kind, step] = found
    return tracks


def _known(as_of: Times, kind: str, step: int, tracks: dict[PoolName, Track]) -> Floats:
    """Return the factors known at `as_of` for this asset class and step, (n, 9). NaN if none."""
    known = np.full((len(as_of), len(BANDS)), np.nan)
    for pool in pools_for(kind, step):
        if pool in tracks:
            known = np.where(np.isnan(known), tracks[pool].before(as_of), known)
    return known


def _outcome(record: _Scored, kind: str, step: int, tracks: dict[PoolName, Track]) -> Outcome:
    reach = record.scores[:, BAND_80]
    factor = _known(record.as_of, kind, step, tracks)[:, BAND_80]
    since = ~np.isnan(factor)
    pool = next((pool for pool in pools_for(kind, step) if pool in tracks), None)
    return Outcome(
        asset_class=kind,
        step=step,
        n=len(reach),
        raw_coverage=float(record.held.mean()),
        pool=pool,
        factor=None if pool is None else float(tracks[pool].factors[-1, BAND_80]),
        n_since=int(since.sum()),
        coverage=float((reach <= factor)[since].mean()) if since.any() else None,
    )
