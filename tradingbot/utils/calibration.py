"""Calibrated bands: what is stored of them, and how a forecast gets them.

    calibration = load(session, key_of(forecast))
    forecast = calibration.apply(forecast) if calibration else forecast

A forecast takes its factors from the smallest pool that has enough record: its own asset class and
step, its class over all steps, all classes at its step, all of them together. A model's revision
never takes another's. How pools are fitted: calibration_fit.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select

from tradingbot.forecast import QUANTILE_LEVELS, RAW, Forecast, ForecastBar, prob_above
from tradingbot.markets.symbols import asset_class
from tradingbot.persistence.models import ALL_STEPS, ALL_SYMBOLS, KronosCalibration
from tradingbot.persistence.upsert import dialect_insert
from tradingbot.runtime.clock import utcnow
from tradingbot.utils.conformal import BANDS, widened

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


ALL_CLASSES = ALL_SYMBOLS

Key = tuple[str, str, str]  # model_name, model_revision ("" where it is not known), interval
PoolName = tuple[str, int]  # asset class or ALL_CLASSES, step or ALL_STEPS


def key_of(forecast: Forecast) -> Key:
    """Whose calibration it takes."""
    return forecast.model_name, forecast.model_revision or "", forecast.interval


def pools_for(kind: str, step: int) -> tuple[PoolName, ...]:
    """The pools that a forecast of this asset class and step belongs to, the smallest first."""
    return (kind, step), (kind, ALL_STEPS), (ALL_CLASSES, step), (ALL_CLASSES, ALL_STEPS)


@dataclass(frozen=True)
class Factors:
    """What one pool says: the half-widths of each of BANDS are multiplied by its factor."""

    values: tuple[float, ...]  # (9,)
    n: int  # outcomes that they were fitted on
    until: datetime  # the newest target among them


@dataclass(frozen=True)
class Calibration:
    """The factors of one revision of one model."""

    key: Key
    pools: Mapping[PoolName, Factors]

    def apply(self, forecast: Forecast) -> Forecast:
        """The forecast with calibrated quantiles and P(up), the model's own in each bar's `raw`.

        Unchanged where no pool has enough record for each of its bars, where its 19 quantiles are
        not all known, and where it is calibrated already. ValueError for another model's.
        """
        if key_of(forecast) != self.key:
            raise ValueError(f"{key_of(forecast)} cannot take the calibration of {self.key}")
        factors = [self.factors(forecast.symbol, bar.step) for bar in forecast.bars]
        used = [one for one in factors if one is not None]
        whole = all(tuple(bar.close_quantiles) == QUANTILE_LEVELS for bar in forecast.bars)
        if forecast.calibration != RAW or not whole or not used or len(used) < len(factors):
            return forecast
        until, n = max(one.until for one in used), min(one.n for one in used)
        bars = zip(forecast.bars, used, strict=True)
        return replace(
            forecast,
            calibration=f"conformal until {until:%Y-%m-%d}, n={n}",
            bars=tuple(_calibrated(bar, one, forecast.last_close) for bar, one in bars),
        )

    def factors(self, symbol: str, step: int) -> Factors | None:
        """Those of the smallest pool that there is."""
        pools = pools_for(asset_class(symbol), step)
        return next((self.pools[pool] for pool in pools if pool in self.pools), None)


def _calibrated(bar: ForecastBar, factors: Factors, last_close: float) -> ForecastBar:
    raw = np.array([list(bar.close_quantiles.values())])
    [wide] = widened(raw, np.array(factors.values)).tolist()
    quantiles = dict(zip(QUANTILE_LEVELS, wide, strict=True))
    return replace(
        bar, close_quantiles=quantiles, prob_up=prob_above(quantiles, last_close), raw=bar
    )


def load(session: "Session", key: Key) -> Calibration | None:
    """What is stored for this revision of this model; None if nothing is."""
    table = KronosCalibration
    pools: dict[PoolName, dict[int, Any]] = {}
    for row in session.scalars(
        select(table).where(
            table.model_name == key[0], table.model_revision == key[1], table.interval == key[2]
        )
    ):
        pools.setdefault((row.asset_class, row.step), {})[row.band] = row
    if not pools:
        return None
    return Calibration(
        key,
        {
            pool: Factors(
                tuple(bands[band].factor for band in BANDS),
                bands[BANDS[0]].n,
                bands[BANDS[0]].until,
            )
            for pool, bands in pools.items()
            if bands.keys() >= set(BANDS)
        },
    )


def store(session: "Session", calibration: Calibration) -> int:
    """Write its pools over those of before; the number of rows. The caller commits.

    A pool that it lacks stays as it was: too little record unlearns nothing.
    """
    now = utcnow()
    name, revision, interval = calibration.key
    rows = [
        {
            "model_name": name,
            "model_revision": revision,
            "interval": interval,
            "asset_class": kind,
            "step": step,
            "band": band,
            "factor": factor,
            "n": factors.n,
            "until": factors.until,
            "fitted_at": now,
        }
        for (kind, step), factors in sorted(calibration.pools.items())  # one order: no deadlock
        for band, factor in zip(BANDS, factors.values, strict=True)
    ]
    if rows:
        insert = dialect_insert(session, KronosCalibration)
        keys = [column.name for column in KronosCalibration.__table__.primary_key]
        changed = {name: insert.excluded[name] for name in ("factor", "n", "until", "fitted_at")}
        session.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed), rows)
    return len(rows)
