"""What may be concluded from a record that is looked at every night.

A test at 5 % is wrong once in twenty if it is made once. Made each week on a growing record, it
calls a model without skill significant at least once in two years in a third of all cases. The
interval here may be looked at as often as one likes: the chance that it ever misses is 5 %.
"""

import math

import numpy as np

from tradingbot.evaluation.statistics import MIN_SESSIONS_TO_TEST, nearly_constant
from tradingbot.typing import Floats

ALPHA = 0.05  # the chance that the interval is wrong at any time at all
# The variance of the prior on the mean in standard deviations: (-2 ln a + ln(-2 ln a) + 1) ÷ 100
# with a = ALPHA makes the interval narrowest at 100 independent sessions.
PRIOR_VARIANCE = 0.088


def anytime_skill_interval(
    losses: Floats, yardstick: Floats, overlap: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of 1 - mean loss ÷ mean of the yardstick's, valid at all times.

    It holds each skill s for which the differences (1 - s) yardstick - losses do not speak against
    a mean of 0: their e-value is below 1 / ALPHA. Sessions whose forecasts overlap count as one
    independent session in `overlap`, each with the variance of a single one.

    Args:
        losses: (sessions,) in order of time, the mean over what was forecast of that session.
        yardstick: (sessions,) likewise, of the same forecasts.
        overlap: Sessions over which the errors are correlated, as in `diebold_mariano`.

    Returns:
        None while there are too few sessions, or nothing varies.

    Source: the e-process of the t-test is that of Lai (1976) and of Wang and Ramdas (2025,
    "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance"), the
    choice of the prior that of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024, "Time-uniform
    central limit theory and asymptotic confidence sequences"); e-values of score differences:
    Choe and Ramdas (2024), Henzi and Ziegel (2022).
    """
    [low], [high] = (
        found.tolist() for found in anytime_skill_intervals(losses[None], yardstick[None], overlap)
    )
    return None if math.isnan(low) else (low, high)


def anytime_skill_intervals(
    losses: Floats, yardstick: Floats, overlap: int
) -> tuple[Floats, Floats]:
    """Return `anytime_skill_interval` of each row of (series, sessions): its ends; NaN: None."""
    series, sessions = losses.shape
    most = _greatest_square(sessions / overlap)
    if sessions < max(MIN_SESSIONS_TO_TEST, 3 * overlap) or not math.isfinite(most):
        return np.full(series, np.nan), np.full(series, np.nan)
    independent = sessions / overlap
    ours, theirs = losses.mean(axis=1), yardstick.mean(axis=1)
    known = theirs > 0
    ratio = ours / np.where(known, theirs, 1)
    known &= ~nearly_constant(losses - ratio[:, None] * yardstick, scale=abs(theirs))
    # independent (r theirs - ours)² <= most var(r yardstick - losses), a quadratic in r = 1 - s
    off, its = losses - ours[:, None], yardstick - theirs[:, None]
    var_ours, covariance, var_theirs = (
        np.einsum("bi,bi->b", one, other) / (sessions - 1)
        for one, other in ((off, off), (off, its), (its, its))
    )
    square = independent * theirs**2 - most * var_theirs
    middle = independent * theirs * ours - most * covariance
    constant = independent * ours**2 - most * var_ours
    known &= square > 0
    half = np.sqrt(np.maximum(0.0, middle**2 - square * constant))
    low, high = (
        np.where(known, 1 - end / np.where(known, square, 1), np.nan)
        for end in (middle + half, middle - half)
    )
    return low, high


def mean_is_positive(total: float, squares: float, sessions: int, *, overlap: int) -> bool:
    """Whether a mean is surely above 0, by the e-value of `anytime_skill_interval`.

    Args:
        total: Sum over the sessions.
        squares: Sum of the squares.
        sessions: How many there are; at least one.
        overlap: As in `anytime_skill_interval`.
    """
    mean = total / sessions
    independent = sessions / overlap
    variance = squares / sessions - mean**2
    most = _greatest_square(independent)
    return mean > 0 and math.isfinite(most) and independent * mean**2 > most * variance


def _greatest_square(n: float) -> float:
    """The t² of `n` independent sessions from which on the e-value is 1 / ALPHA or more.

    e = r^(-1/2) ((1 + t² / (n - 1)) / (1 + t² / (r (n - 1))))^(n / 2) with r = 1 + n PRIOR_VARIANCE
    """
    r = 1 + n * PRIOR_VARIANCE
    quotient = (math.sqrt(r) / ALPHA) ** (2 / n)
    if n <= 1 or quotient >= r:
        return math.inf  # so few cannot speak against anything
    square: float = (n - 1) * (quotient - 1) / (1 - quotient / r)
    return square
