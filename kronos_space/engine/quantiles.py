"""Quantiles of sample paths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def path_quantiles(values: NDArray[Any], levels: Sequence[float]) -> NDArray[np.float64]:
    """Return median-unbiased quantiles over the first axis: (paths, …) -> (levels, …).

    An estimate is as likely above as below the true quantile of the paths' distribution, for any
    number of paths. numpy's default, linear interpolation between the smallest and the largest
    path, puts the ends of a band too far inside: an 80 % band of 20 paths then holds 72 %.

    Source: definition 8 of Hyndman and Fan (1996), "Sample quantiles in statistical packages".
    """
    found: NDArray[np.float64] = np.quantile(values, levels, axis=0, method="median_unbiased")
    return found
