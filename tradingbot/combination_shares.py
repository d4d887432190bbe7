"""The shares (weights) of the forecasters in combined quantiles.

Combined quantiles are a weighted mix of the quantiles of Kronos, of simple baselines such as the
random walk, and of challengers: other models that the job compares with Kronos.
"""

from collections.abc import Mapping, Sequence

import numpy as np

KRONOS = "kronos"  # names of forecasters in `Forecast.shares`
RANDOM_WALK, EWMA_WALK, RANGE_WALK = "random walk", "ewma walk", "range walk"
# Values of `Forecast.calibration`. A band is the range between two quantiles.
RAW = "raw"  # the model's own bands
CONFORMAL = "conformal"  # the model's bands, with a width fitted to past forecasts and closes


def mean_shares(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean shares of several forecasts (at least one)."""
    names = dict.fromkeys(name for of_forecast in shares for name in of_forecast)
    return {
        name: sum(of_forecast.get(name, 0.0) for of_forecast in shares) / len(shares)
        for name in names
    }


def rivals_of(shares: Mapping[str, float]) -> list[str]:
    """Return the names of the challenger models whose share is above 0."""
    built_in = (KRONOS, RANDOM_WALK, EWMA_WALK, RANGE_WALK)
    return [name for name, share in shares.items() if name not in built_in and share > 0]


def describe_shares(shares: Mapping[str, float]) -> str:
    """Describe shares, the largest first: 64 % volatility model, 21 % random walk, 15 % Kronos."""
    kronos, walk, ewma, by_range = (
        shares.get(name, 0.0) for name in (KRONOS, RANDOM_WALK, EWMA_WALK, RANGE_WALK)
    )
    named = {"volatility model": ewma + by_range, "random walk": walk, "Kronos": kronos}
    named |= {model.rpartition("/")[2]: shares[model] for model in rivals_of(shares)}
    ordered = sorted(named.items(), key=lambda item: -item[1])
    exact = np.array([100 * share for _, share in ordered])
    whole = np.floor(exact)
    # round the percentages so that their sum is 100
    whole[np.argsort(whole - exact, kind="stable")[: round(100 - whole.sum())]] += 1
    return ", ".join(f"{of:.0f} % {name}" for of, (name, _) in zip(whole, ordered, strict=True))


def describe_bands(calibration: str, shares: Mapping[str, float] | None) -> str:
    """Describe the post-processing of the quantiles."""
    if calibration == RAW:
        return "raw, as the model gives them"
    if shares is None:
        return f"calibrated: {calibration}"
    return f"{describe_shares(shares)} ({calibration})"
