"""Tests and intervals that stay valid when a growing record is checked every night.

A single test at the 5 % level calls a model without skill significant in one of twenty cases. If
the test is repeated weekly for two years on a growing record, it does so in a third of all cases.
The interval of this module may be checked at any time: the probability that it ever misses the
true value is 5 %.
"""

import math

import numpy as np

from tradingbot.evaluation.significance import MIN_SESSIONS_TO_TEST, nearly_constant
from tradingbot.typing import Floats

ALPHA = 0.05  # probability that the interval ever misses the true value
# Variance of the prior on the mean, which is measured in standard deviations. The value
# (-2 ln a + ln(-2 ln a) + 1) ÷ 100 with a = ALPHA makes the interval narrowest at 100 independent
# sessions.
PRIOR_VARIANCE = 0.088


def anytime_skill_interval(
    losses: Floats, baseline: Floats, overlap: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of 1 - mean loss ÷ mean baseline loss, valid at all times.

    The interval contains each skill s for which the differences (1 - s) baseline - losses are
    compatible with a mean of 0, that is, have an e-value below 1 / ALPHA. If forecasts overlap,
    `overlap` sessions count as one independent session with the variance of a single session.

    Args:
        losses: (sessions,) in order of time: the mean loss of the forecasts of each session.
        baseline: (sessions,) the baseline's losses for the same forecasts.
        overlap: Sessions over which the errors are correlated, as in `diebold_mariano`.

    Returns:
        None if there are too few sessions, or the losses do not vary.

    Sources: e-process of the t-test: Lai (1976), and Wang and Ramdas (2025), "Anytime-valid t-tests
    and confidence sequences for Gaussian means with unknown variance"; choice of the prior:
    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), "Time-uniform central limit theory and
    asymptotic confidence sequences"; e-values of score differences: Choe and Ramdas (2024), Henzi
    and Ziegel (2022).
    """
    [low], [high] = (
        found.tolist() for found in anytime_skill_intervals(losses[None], baseline[None], overlap)
    )
    return None if math.isnan(low) else (low, high)


def anytime_skill_intervals(
    losses: Floats, baseline: Floats, overlap: int
) -> tuple[Floats, Floats]:
    """Return lower and upper ends of `anytime_skill_interval` of each row; NaN instead of None.

    `losses` and `baseline` have the shape (series, sessions).
    """
    series, sessions = losses.shape
    limit = _greatest_square(sessions / overlap)
    if sessions < max(MIN_SESSIONS_TO_TEST, 3 * overlap) or not math.isfinite(limit):
        return np.full(series, np.nan), np.full(series, np.nan)
    independent = sessions / overlap
    ours, theirs = losses.mean(axis=1), baseline.mean(axis=1)
    known = theirs > 0
    ratio = ours / np.where(known, theirs, 1)
    known &= ~nearly_constant(losses - ratio[:, None] * baseline, scale=abs(theirs))
    # independent (r theirs - ours)² <= most var(r baseline - losses), a quadratic in r = 1 - s
    off, its = losses - ours[:, None], baseline - theirs[:, None]
    var_ours, covariance, var_theirs = (
        np.einsum("bi,bi->b", first, second) / (sessions - 1)
        for first, second in ((off, off), (off, its), (its, its))
    )
    square = independent * theirs**2 - limit * var_theirs
    middle = independent * theirs * ours - limit * covariance
    constant = independent * ours**2 - limit * var_ours
    known &= square > 0
    half = np.sqrt(np.maximum(0.0, middle**2 - square * constant))
    low, high = (
        np.where(known, 1 - end / np.where(known, square, 1), np.nan)
        for end in (middle + half, middle - half)
    )
    return low, high


def mean_is_positive(total: float, squares: float, sessions: int, *, overlap: int) -> bool:
    """Return whether the e-value of `anytime_skill_interval` shows that a mean is above 0.

    Args:
        total: Sum of the values, one value per session.
        squares: Sum of their squares.
        sessions: Number of sessions; at least one.
        overlap: As in `anytime_skill_interval`.
    """
    mean = total / sessions
    independent = sessions / overlap
    variance = squares / sessions - mean**2
    limit = _greatest_square(independent)
    return mean > 0 and math.isfinite(limit) and independent * mean**2 > limit * variance


def _greatest_square(n: float) -> float:
    """Return the t² at which the e-value of `n` independent sessions reaches 1 / ALPHA.

    e = r^(-1/2) ((1 + t² / (n - 1)) / (1 + t² / (r (n - 1))))^(n / 2) with r = 1 + n PRIOR_VARIANCE
    """
    r = 1 + n * PRIOR_VARIANCE
    quotient = (math.sqrt(r) / ALPHA) ** (2 / n)
    if n <= 1 or quotient >= r:
        return math.inf  # too few sessions for any evidence
    square: float = (n - 1) * (quotient - 1) / (1 - quotient / r)
    return square
