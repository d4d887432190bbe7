"""Sample paths that agree with the served quantiles, and probabilities of events on the paths."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from tradingbot.errors import DataError
from tradingbot.forecast import Forecast
from tradingbot.path_events.event_probabilities import CLOSE, HIGH, LOW, OPEN, chances
from tradingbot.path_events.grammar import Event
from tradingbot.typing import Floats

# A bar's wicks are stretched like its band, up to a limit: a band may be narrow because paths
# coincide, while their candles have normal wicks.
_MOST_STRETCHED = 2.0
_Z = NormalDist().inv_cdf


def with_served_paths(forecast: Forecast) -> Forecast:
    """Return the forecast with its paths moved onto the served quantiles, rank by rank.

    A close on one of the model's quantiles moves to the served quantile of the same level. The
    paths then agree with the bands, and in each bar the paths keep their ranks. Equal closes are
    ordered by their paths' mean closes; in the first bar up to half of the closes can be equal. An
    open keeps its gap to the previous close. A bar's wicks are stretched as much as its band. The
    forecast is returned unchanged if the quantiles are the model's own.

    Source: ensemble copula coupling, Schefzik, Thorarinsdottir and Gneiting (2013).
    """
    if forecast.paths is None or all(bar.raw is None for bar in forecast.bars):
        return forecast
    paths = forecast.paths.copy()
    opens, closes = np.log(paths[..., OPEN]), np.log(paths[..., CLOSE])
    upper = np.log(paths[..., HIGH]) - np.maximum(opens, closes)
    lower = np.minimum(opens, closes) - np.log(paths[..., LOW])
    gaps, means = opens[:, 1:] - closes[:, :-1], closes.mean(axis=1)
    for step, bar in enumerate(forecast.bars):
        if bar.raw is not None:
            raw, served = _logs(bar.raw.close_quantiles), _logs(bar.close_quantiles)
            order = np.lexsort((means, closes[:, step]))
            closes[order, step] = _apart(
                closes[order, step],
                _moved(closes[order, step], raw, served),
                _by_rank(len(order), list(bar.close_quantiles), served),
            )
            stretch = _stretch(raw, served)
            upper[:, step] *= stretch
            lower[:, step] *= stretch
    opens[:, 1:] = closes[:, :-1] + gaps
    logs = [opens, np.maximum(opens, closes) + upper, np.minimum(opens, closes) - lower, closes]
    paths[..., : CLOSE + 1] = np.exp(np.stack(logs, axis=-1))
    return replace(forecast, paths=paths)


def with_events(forecast: Forecast, events: Sequence[Event], *, keep_paths: bool) -> Forecast:
    """Return the forecast with the events' probabilities, and with its paths if `keep_paths`.

    Raises:
        DataError: A price level of an event makes no sense for the ticker's last close.
    """
    if not events or forecast.paths is None:
        return forecast
    try:
        for event in events:
            event.check(forecast.last_close)
    except ValueError as error:
        raise DataError(str(error), symbol=forecast.symbol) from None
    found = chances(events, forecast.paths, forecast.last_close)
    return replace(forecast, events=found, paths=forecast.paths if keep_paths else None)


def _stretch(raw: Floats, served: Floats) -> float:
    """Return the width of the served band ÷ the width of the model's band."""
    width = raw[-1] - raw[0]
    ratio = (served[-1] - served[0]) / width if width > 0 else 1.0
    return float(np.clip(ratio, 1 / _MOST_STRETCHED, _MOST_STRETCHED))


def _moved(closes: Floats, raw: Floats, served: Floats) -> Floats:
    """Return the closes mapped from the model's quantiles to the served quantiles.

    Closes between two quantiles are interpolated. Beyond the outermost quantiles distances are
    stretched as much as that half of the band.
    """
    moved = np.interp(closes, raw, served)
    middle = len(raw) // 2
    for beyond, end in ((closes < raw[0], 0), (closes > raw[-1], -1)):
        width = abs(raw[end] - raw[middle])
        slope = abs(served[end] - served[middle]) / width if width > 0 else 1.0
        moved[beyond] = served[end] + slope * (closes[beyond] - raw[end])
    return moved


def _apart(closes: Floats, moved: Floats, by_rank: Floats) -> Floats:
    """Return `moved`, ascending, with equal closes replaced by the values of their ranks."""
    same = closes[1:] == closes[:-1]
    tied = np.append(same, False) | np.append(False, same)
    return np.asarray(np.maximum.accumulate(np.where(tied, by_rank, moved)))


def _by_rank(count: int, levels: Sequence[float], served: Floats) -> Floats:
    """Return the served quantile for each rank of `count` sorted closes. Shape (count,).

    The level of a rank is the median-unbiased one, as in the Space's quantiles. Beyond the
    outermost levels the quantiles continue as those of a normal distribution.
    """
    ranks = (np.arange(count) + 2 / 3) / (count + 1 / 3)
    found = np.interp(ranks, levels, served)
    middle = len(served) // 2
    for beyond, end in ((ranks < levels[0], 0), (ranks > levels[-1], -1)):
        further = [_Z(rank) / _Z(levels[end]) for rank in ranks[beyond].tolist()]
        found[beyond] = served[middle] + (served[end] - served[middle]) * np.array(further)
    return np.asarray(found)


def _logs(quantiles: Mapping[float, float]) -> Floats:
    return np.log(list(quantiles.values()))
