"""Calibrated bands: the stored factors, and how they are applied to a forecast.

    calibration = load(session, key_of(forecast))
    forecast = calibration.apply(forecast) if calibration else forecast

A pool is a group of forecasts that share factors. A forecast takes its factors from the first pool
with enough outcomes, in this order: the forecast's own asset class and step; its class at all
steps; all classes at its step; all classes at all steps. Revisions of a model never share factors.
fit.py fits the factors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from tradingbot.forecast import QUANTILE_LEVELS, RAW, Forecast, ForecastBar, prob_above
from tradingbot.markets.symbols import asset_class
from tradingbot.postprocessing.conformal import widened

ALL_CLASSES = "*"  # in a pool's name: all asset classes
ALL_STEPS = 0  # in a pool's name: all steps

Key = tuple[str, str, str]  # model_name, model_revision ("" if unknown), interval
PoolName = tuple[str, int]  # asset class or ALL_CLASSES, step or ALL_STEPS


def key_of(forecast: Forecast) -> Key:
    """Return the key of the forecast's calibration."""
    return forecast.model_name, forecast.model_revision or "", forecast.interval


def pools_for(kind: str, step: int) -> tuple[PoolName, ...]:
    """Return the pools for a forecast of this asset class and step, smallest first."""
    return (kind, step), (kind, ALL_STEPS), (ALL_CLASSES, step), (ALL_CLASSES, ALL_STEPS)


@dataclass(frozen=True)
class Factors:
    """Factors of one pool. Each factor multiplies the half-widths of one of BANDS."""

    values: tuple[float, ...]  # (9,)
    n: int  # number of outcomes used for fitting
    until: datetime  # newest target of these outcomes


@dataclass(frozen=True)
class Calibration:
    """The factors of one revision of one model."""

    key: Key
    pools: Mapping[PoolName, Factors]

    def apply(self, forecast: Forecast) -> Forecast:
        """Return the forecast with calibrated quantiles and P(up).

        Each bar's `raw` keeps the model's own values. The forecast is returned unchanged if one of
        its bars has no pool with enough outcomes or lacks some of the 19 quantiles, or if it is
        calibrated already.

        Raises:
            ValueError: The forecast is by another model or revision.
        """
        if key_of(forecast) != self.key:
            raise ValueError(f"the calibration of {self.key} does not apply to {key_of(forecast)}")
        factors = [self.factors(forecast.symbol, bar.step) for bar in forecast.bars]
        used = [factor for factor in factors if factor is not None]
        whole = all(tuple(bar.close_quantiles) == QUANTILE_LEVELS for bar in forecast.bars)
        if forecast.calibration != RAW or not whole or not used or len(used) < len(factors):
            return forecast
        until, n = max(factor.until for factor in used), min(factor.n for factor in used)
        bars = zip(forecast.bars, used, strict=True)
        return replace(
            forecast,
            calibration=f"conformal until {until:%Y-%m-%d}, n={n}",
            bars=tuple(_calibrated(bar, factor, forecast.last_close) for bar, factor in bars),
        )

    def factors(self, symbol: str, step: int) -> Factors | None:
        """Return the factors of the smallest pool that has factors, or None."""
        pools = pools_for(asset_class(symbol), step)
        return next((self.pools[pool] for pool in pools if pool in self.pools), None)


def _calibrated(bar: ForecastBar, factors: Factors, last_close: float) -> ForecastBar:
    raw = np.array([list(bar.close_quantiles.values())])
    [wide] = widened(raw, np.array(factors.values)).tolist()
    quantiles = dict(zip(QUANTILE_LEVELS, wide, strict=True))
    return replace(
        bar, close_quantiles=quantiles, prob_up=prob_above(quantiles, last_close), raw=bar
    )
