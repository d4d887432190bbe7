"""Ways to smooth the half-widths of a forecast's bands, to compare with the chosen one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from tradingbot.postprocessing import conformal
from tradingbot.typing import Floats

HalfWidths = Callable[[Floats], tuple[Floats, Floats, Floats]]  # median, below and above it
SMALLEST = 1e-9  # of a half-width, so that a score is a number


def each_on_its_own(quantiles: Floats) -> tuple[Floats, Floats, Floats]:
    logs = np.log(quantiles)
    median = logs[:, [conformal._MEDIAN]]
    lower, upper = median - logs[:, conformal._LOWER], logs[:, conformal._UPPER] - median
    return median, np.maximum(lower, SMALLEST), np.maximum(upper, SMALLEST)


def one_for_both_sides(quantiles: Floats) -> tuple[Floats, Floats, Floats]:
    median, lower, upper = chosen(quantiles)
    return median, (lower + upper) / 2, (lower + upper) / 2


chosen: HalfWidths = conformal._half_widths
WAYS: Mapping[str, HalfWidths] = {
    "one width per side (chosen)": chosen,
    "one width for both sides": one_for_both_sides,
    "each quantile by itself": each_on_its_own,
}


@contextmanager
def smoothed(way: HalfWidths) -> Iterator[None]:
    """Calibrate in this way."""
    conformal._half_widths = way  # type: ignore[assignment]
    try:
        yield
    finally:
        conformal._half_widths = chosen  # type: ignore[assignment]
