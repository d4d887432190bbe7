"""How far a figure of a record may be off: an interval from resampled sessions.

Forecasts of one session share that day's market, and those of neighbouring sessions look at almost
the same days, so forecasts are not independent. What is drawn anew, with replacement, are blocks
of successive sessions, each with all its forecasts (the circular block bootstrap of Politis and
Romano, 1992).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_SESSIONS = 20  # fewer tell nothing about how far it may be off
DRAWS = 1000

Floats = NDArray[np.float64]


def resampled(sessions: NDArray[Any], values: Floats, *, block: int) -> tuple[Floats, Floats]:
    """Sums over all forecasts, as they are and in each of DRAWS draws of the sessions.

    sessions: (n,), the session of each forecast. values: (n, k). block: sessions at least that are
    drawn together, such as the horizon. Answers (k,) and (DRAWS, k), the latter (0, k) for fewer
    than MIN_SESSIONS sessions. The same input gives the same draws.
    """
    distinct, number = np.unique(sessions, return_inverse=True)
    count = len(distinct)
    by_session = np.zeros((count, values.shape[1]))
    np.add.at(by_session, number, values)
    draws = DRAWS if count >= MIN_SESSIONS else 0
    return by_session.sum(axis=0), _times_drawn(count, block, draws) @ by_session


def interval(drawn: Floats) -> tuple[Floats, Floats] | None:
    """The middle 95 % of figures that were made of each draw, (DRAWS, k); None without draws."""
    if not len(drawn):
        return None
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return low, high


def _times_drawn(count: int, block: int, draws: int) -> Floats:
    """(draws, count): how often each session is in each draw."""
    block = min(count, max(block, math.ceil(count ** (1 / 3))))
    blocks = math.ceil(count / block)
    starts = np.random.default_rng(0).integers(count, size=(draws, blocks, 1))
    drawn = ((starts + np.arange(block)) % count).reshape(draws, blocks * block)[:, :count]
    cells = drawn + count * np.arange(draws)[:, None]
    times = np.bincount(cells.ravel(), minlength=draws * count)
    return times.reshape(draws, count).astype("float64")
