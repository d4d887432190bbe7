"""Quantiles of sample paths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def path_quantiles(values: NDArray[Any], levels: Sequence[float]) -> NDArray[np.float64]:
    """Median-unbiased quantiles over the first axis: (paths, …) -> (levels, …).

    As often above as below the quantile of the distribution that the paths are drawn from, however
    few they are. Linear interpolation between the smallest and the largest path, numpy's default,
    puts the ends of a band too far inside: with 20 paths an 80 % band then holds 72 %.

    Source: definition 8 of Hyndman and Fan (1996), "Sample quantiles in statistical packages".
    """
    found: NDArray[np.float64] = np.quantile(values, levels, axis=0, method="median_unbiased")
    return found
