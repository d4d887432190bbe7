"""The weights (shares) of Kronos and the other forecasters in combined quantiles."""

from collections.abc import Mapping, Sequence

import numpy as np

KRONOS = "kronos"  # names of forecasters in `Forecast.shares`
RANDOM_WALK, EWMA_WALK, RANGE_WALK = "random walk", "ewma walk", "range walk"
RAW = "raw"  # calibration: the model's own bands
CONFORMAL = "conformal"  # calibration: the model's bands, scaled to the coverage of past forecasts


def mean_shares(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean shares of several forecasts (at least one)."""
    names = dict.fromkeys(name for of_forecast in shares for name in of_forecast)
    return {
        name: sum(of_forecast.get(name, 0.0) for of_forecast in shares) / len(shares)
        for name in names
    }


def rivals_of(shares: Mapping[str, float]) -> list[str]:
    """Return the names of the challenger models that have a share."""
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
    # round so that the sum is 100
    whole[np.argsort(whole - exact, kind="stable")[: round(100 - whole.sum())]] += 1
    return ", ".join(f"{of:.0f} % {name}" for of, (name, _) in zip(whole, ordered, strict=True))


def describe_bands(calibration: str, shares: Mapping[str, float] | None) -> str:
    """Describe the post-processing of the quantiles."""
    if calibration == RAW:
        return "raw, as the model gives them"
    if shares is None:
        return f"calibrated: {calibration}"
    return f"{describe_shares(shares)} ({calibration})"
