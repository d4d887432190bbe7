"""Whose the quantiles of a forecast are: Kronos', or those of several forecasters, in shares."""

from collections.abc import Mapping, Sequence

import numpy as np

KRONOS = "kronos"  # forecasters, in `Forecast.shares`
RANDOM_WALK, EWMA_WALK, RANGE_WALK = "random walk", "ewma walk", "range walk"
RAW = "raw"  # a calibration: the bands are the model's own
CONFORMAL = "conformal"  # a calibration: the bands are the model's, as wide as the record asks for


def mean_shares(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Those of several forecasts; at least one."""
    names = dict.fromkeys(name for one in shares for name in one)
    return {name: sum(one.get(name, 0.0) for one in shares) / len(shares) for name in names}


def rivals_of(shares: Mapping[str, float]) -> list[str]:
    """The challengers that have a share, by the names of their models."""
    own = (KRONOS, RANDOM_WALK, EWMA_WALK, RANGE_WALK)
    return [name for name, share in shares.items() if name not in own and share > 0]


def describe_shares(shares: Mapping[str, float]) -> str:
    """64 % volatility model, 21 % random walk, 15 % Kronos; the largest first."""
    kronos, walk, ewma, by_range = (
        shares.get(name, 0.0) for name in (KRONOS, RANDOM_WALK, EWMA_WALK, RANGE_WALK)
    )
    named = {"volatility model": ewma + by_range, "random walk": walk, "Kronos": kronos}
    named |= {model.rpartition("/")[2]: shares[model] for model in rivals_of(shares)}
    ordered = sorted(named.items(), key=lambda item: -item[1])
    exact = np.array([100 * share for _, share in ordered])
    whole = np.floor(exact)
    whole[np.argsort(whole - exact, kind="stable")[: round(100 - whole.sum())]] += 1  # up to 100
    return ", ".join(f"{of:.0f} % {name}" for of, (name, _) in zip(whole, ordered, strict=True))


def describe_bands(calibration: str, shares: Mapping[str, float] | None) -> str:
    """What made the quantiles, in words."""
    if calibration == RAW:
        return "raw, as the model gives them"
    if shares is None:
        return f"calibrated: {calibration}"
    return f"{describe_shares(shares)} ({calibration})"
