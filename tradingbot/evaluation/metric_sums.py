"""The sums that the metrics are computed from, and the loss functions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tradingbot.evaluation.baselines import ewma_walk_quantiles, random_walk_quantiles
from tradingbot.evaluation.close_outcomes import LEVELS, ForecastOutcomes
from tradingbot.typing import Floats

BANDS = {50: (0.25, 0.75), 80: (0.1, 0.9), 90: (0.05, 0.95)}

# The columns of the sums.
SUMS = (
    "n", "error", "naive", "crps", "raw_crps", "actual", "compared", "compared_crps", "walk_crps",
    "ewma_crps", "moves", "hits",
    *(f"{kind}_{band}" for kind in ("in", "raw_in", "width") for band in BANDS),
)  # fmt: skip

_PLACES = {name: place for place, name in enumerate(SUMS)}


def crps(actual: Floats, quantiles: Floats) -> Floats:
    """Return the CRPS (n,) of outcomes (n,) and quantiles (n, 19) at LEVELS.

    The CRPS is approximated by twice the mean pinball loss.
    """
    levels = np.array(LEVELS)
    above = actual[:, None] - quantiles
    loss: Floats = 2 * np.maximum(levels * above, (levels - 1) * above).mean(axis=1)
    return loss


class Columns:
    """Access to sums by name. `values` has the shape (…, len(SUMS))."""

    def __init__(self, values: Floats) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[..., _PLACES[name]]


def walk_losses(outcomes: ForecastOutcomes) -> Floats:
    """Return the CRPS of the random walk and of the EWMA walk. Shape (n, 2)."""
    walks = (random_walk_quantiles, ewma_walk_quantiles)
    losses = [
        crps(outcomes.actual, walk(outcomes.past, outcomes.as_of, outcomes.step)) for walk in walks
    ]
    return np.column_stack(losses)


def by_key(
    keys: NDArray[np.int64], sums: Floats, origins: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Return the k distinct keys in ascending order, their sums and their newest origins.

    The sums have the shape (k, len(SUMS)).
    """
    if (np.diff(keys) > 0).all():
        return keys, sums, origins
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    added: Floats = np.add.reduceat(sums[order], starts)
    return keys[starts], added, np.maximum.reduceat(origins[order], starts)


def band_edges(bounds: tuple[float, float]) -> list[int]:
    """Return the indices of a band's lower and upper edge in LEVELS."""
    return [LEVELS.index(level) for level in bounds]
