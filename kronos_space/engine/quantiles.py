"""Quantiles of sample paths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def path_quantiles(values: NDArray[Any], levels: Sequence[float]) -> NDArray[np.float64]:
    """Return median-unbiased quantiles over the first axis: (paths, …) -> (levels, …).

    For any number of paths, an estimate is as likely to be above the true quantile of the paths'
    distribution as below. numpy's default interpolates linearly between the smallest and the
    largest path. Then the ends of a band (an interval between two quantiles) are too close to each
    other: an 80 % band of 20 paths holds 72 % of the distribution.

    Source: definition 8 of Hyndman and Fan (1996), "Sample quantiles in statistical packages".
    """
    found: NDArray[np.float64] = np.quantile(values, levels, axis=0, method="median_unbiased")
    return found
