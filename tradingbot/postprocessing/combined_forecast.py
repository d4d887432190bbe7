"""Combined forecasts: the stored states of one model, and how they are applied to a forecast.

    combination = load_combination(session, key_of(forecast))
    forecast = combination.apply(forecast, bars) if combination else forecast

A forecast uses the state of its own asset class and step. If that state has learnt from too few
outcomes, the forecast uses the state of all classes at its step. combination_learning.py learns the
states.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tradingbot.combination_shares import mean_shares
from tradingbot.forecast import ANCHORED, QUANTILE_LEVELS, Forecast, ForecastBar, prob_above
from tradingbot.markets.symbols import asset_class
from tradingbot.postprocessing.bands import ALL_CLASSES, Key, PoolName, key_of
from tradingbot.postprocessing.combination import State, combine, shares
from tradingbot.postprocessing.conformal import MIN_FORECASTS, MIN_SESSIONS
from tradingbot.postprocessing.experts import FORECASTERS, expert_quantiles
from tradingbot.typing import Floats


def pools_for(kind: str, step: int) -> tuple[PoolName, ...]:
    """Return the pools for a forecast of this asset class and step, smallest first."""
    return (kind, step), (ALL_CLASSES, step)


@dataclass(frozen=True)
class Combination:
    """The states of one revision of one model."""

    key: Key
    pools: Mapping[PoolName, State]

    @property
    def rivals(self) -> set[str]:
        """Return the challengers that have joined the combination in any pool."""
        return {rival.name for state in self.pools.values() for rival in state.rivals}

    def standings(self) -> dict[str, str]:
        """Return each challenger's standing over all asset classes in words, by name."""
        states = [state for (kind, _), state in self.pools.items() if kind == ALL_CLASSES]
        names = dict.fromkeys(name for state in states for name in state.challengers)
        return {name: _standing(name, states) for name in names}

    def apply(
        self, forecast: Forecast, bars: pd.DataFrame, rivals: Mapping[str, Forecast] | None = None
    ) -> Forecast:
        """Return the forecast with combined quantiles and P(up). Mean prices stay Kronos' own.

        Each bar's `raw` and `calibrated` keep the forecast of Kronos alone. The forecast is
        returned unchanged if one of its bars has no state with enough outcomes from before its
        `as_of` or lacks some of the 19 quantiles, if `bars` are too few for all experts, if its
        paths do not start from the last close, or if it is combined already.

        Args:
            forecast: A forecast by the model of `key`.
            bars: The candles that the forecast was made from.
            rivals: Challengers' forecasts of the same bars, by name. The weight of a challenger
                without a forecast is shared by the other forecasters.

        Raises:
            ValueError: The forecast is by another model or revision.
        """
        if key_of(forecast) != self.key:
            raise ValueError(f"the combination of {self.key} does not apply to {key_of(forecast)}")
        if forecast.shares is not None or not is_anchored(forecast):
            return forecast
        raw_bars = [bar.raw or bar for bar in forecast.bars]
        states = self._states(forecast)
        whole = all(tuple(bar.close_quantiles) == QUANTILE_LEVELS for bar in raw_bars)
        if not whole or not states:
            return forecast
        as_of = np.full(len(raw_bars), np.datetime64(forecast.as_of, "s"))
        experts, scale = expert_quantiles(bars, as_of, np.array([bar.step for bar in raw_bars]))
        if not (np.isfinite(scale) & (scale > 0)).all():
            return forecast
        prices = np.array([list(bar.close_quantiles.values()) for bar in raw_bars])
        model = np.log(prices / forecast.last_close)
        logs, weights = [], []
        for at, state in enumerate(states):
            row = slice(at, at + 1)
            rival_quantiles = _rival_quantiles(state, forecast, at, rivals or {})
            all_experts = np.concatenate([experts[row], rival_quantiles], axis=1)
            logs.append(combine(state, model[row], all_experts))
            weights.append(_named(state, shares(state, all_experts)[0]))
        prices = np.exp(np.concatenate(logs)) * forecast.last_close
        if not (np.isfinite(prices) & (prices > 0)).all():
            return forecast
        until = max(str(state.until)[:10] for state in states)
        return replace(
            forecast,
            bars=tuple(
                _combined(bar, forecast.last_close, quantiles)
                for bar, quantiles in zip(forecast.bars, prices.tolist(), strict=True)
            ),
            calibration=f"combined until {until}, n={min(used.forecasts for used in states)}",
            shares=mean_shares(weights),
        )

    def _states(self, forecast: Forecast) -> list[State] | None:
        """Return each bar's state, or None if one of the bars has no usable state."""
        found = [self._state(forecast, bar.step) for bar in forecast.bars]
        states = [state for state in found if state is not None]
        return states if len(states) == len(found) else None

    def _state(self, forecast: Forecast, step: int) -> State | None:
        """Return the state of the smallest pool with enough outcomes.

        Return None if there is no such pool, or if its state includes sessions from `as_of` on.
        """
        made = np.datetime64(forecast.as_of, "s")
        for pool in pools_for(asset_class(forecast.symbol), step):
            state = self.pools.get(pool)
            if state is not None and suffices(state):
                return state if state.until is not None and state.until < made else None
        return None


def _standing(name: str, states: list[State]) -> str:
    earned = sum(name in [rival.name for rival in state.rivals] for state in states)
    trials = [trial for state in states for trial in state.trials if trial.name == name]
    share = f"a share at {earned} of {len(states)} steps ahead" if earned else ""
    sessions = max((trial.sessions for trial in trials), default=0)
    shadow = f"in shadow, {sessions} sessions of trial" if trials else ""
    return ", else ".join(filter(None, [share, shadow]))


def forecasters_of(state: State) -> list[str]:
    """Return the forecasters in the order of a state's weights."""
    return [*FORECASTERS, *(rival.name for rival in state.rivals)]


def _named(state: State, weights: Floats) -> dict[str, float]:
    return dict(zip(forecasters_of(state), weights.tolist(), strict=True))


def _rival_quantiles(
    state: State, forecast: Forecast, at: int, rivals: Mapping[str, Forecast]
) -> Floats:
    """Return the challengers' quantiles for this bar. NaN for a challenger without a forecast.

    Shape (1, challengers, 19).
    """
    quantiles = np.full((1, len(state.challengers), len(QUANTILE_LEVELS)), np.nan)
    for place, name in enumerate(state.challengers):
        rival = rivals.get(name)
        if rival is None or not is_anchored(rival) or rival.as_of != forecast.as_of:
            continue
        if len(rival.bars) <= at or rival.bars[at].target_date != forecast.bars[at].target_date:
            continue
        bar = rival.bars[at].raw or rival.bars[at]
        if tuple(bar.close_quantiles) == QUANTILE_LEVELS:
            quantiles[0, place] = np.log(
                np.array([*bar.close_quantiles.values()]) / rival.last_close
            )
    return quantiles


def is_anchored(forecast: Forecast) -> bool:
    """Return whether the paths start from the last close.

    Other forecasts are evaluated separately, as another revision.
    """
    return (forecast.model_revision or "").endswith(ANCHORED)


def suffices(state: State) -> bool:
    """Return whether the state has learnt from enough outcomes for use in served forecasts."""
    return state.sessions >= MIN_SESSIONS and state.forecasts >= MIN_FORECASTS


def _combined(bar: ForecastBar, last_close: float, prices: list[float]) -> ForecastBar:
    quantiles = dict(zip(QUANTILE_LEVELS, prices, strict=True))
    return replace(
        bar,
        close_quantiles=quantiles,
        prob_up=prob_above(quantiles, last_close),
        raw=bar.raw or bar,
        calibrated=None if bar.raw is None else bar.close_quantiles,
    )
