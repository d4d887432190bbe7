"""Sample paths that agree with the quantiles that are served beside them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tradingbot.forecast import Forecast
from tradingbot.typing import Floats

_CLOSE = 3  # of open, high, low, close, volume


def with_served_paths(forecast: Forecast) -> Forecast:
    """The forecast with its paths moved onto the served quantiles, rank by rank.

    A close that lay on one of the model's own quantiles lies on the served one of that level, and
    the whole bar is multiplied by the same number. So bands and paths agree, and a path keeps its
    place among the others from bar to bar. Unchanged where the quantiles are the model's own.

    Source: ensemble copula coupling, Schefzik, Thorarinsdottir and Gneiting (2013).
    """
    if forecast.paths is None or all(bar.raw is None for bar in forecast.bars):
        return forecast
    paths = forecast.paths.copy()
    for step, bar in enumerate(forecast.bars):
        if bar.raw is not None:
            own, served = _logs(bar.raw.close_quantiles), _logs(bar.close_quantiles)
            closes = np.log(paths[:, step, _CLOSE])
            ratio = np.exp(_moved(closes, own, served) - closes)
            paths[:, step, : _CLOSE + 1] *= ratio[:, None]
    return replace(forecast, paths=paths)


def _moved(closes: Floats, own: Floats, served: Floats) -> Floats:
    """Between the levels in proportion; beyond them as much wider as that half is."""
    moved = np.interp(closes, own, served)
    middle = len(own) // 2
    for beyond, end in ((closes < own[0], 0), (closes > own[-1], -1)):
        width = abs(own[end] - own[middle])
        slope = abs(served[end] - served[middle]) / width if width > 0 else 1.0
        moved[beyond] = served[end] + slope * (closes[beyond] - own[end])
    return moved


def _logs(quantiles: Mapping[float, float]) -> Floats:
    return np.log(list(quantiles.values()))
