"""Retry transactions while the database is temporarily unavailable."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, retry_if_exception_type

from tradingbot.errors import DatabaseUnavailable
from tradingbot.runtime.retry import doubling, error_of, retry
from tradingbot.settings import Timeouts, default_timeouts

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def retried(
    work: Callable[[], Result],
    *,
    patience: float | None = None,
    timeouts: Timeouts | None = None,
) -> Result:
    """Return the result of `work`, a whole transaction. Retry while the database is unavailable.

    `work` must be idempotent: if a connection is lost during a commit, it is unknown whether the
    commit succeeded.

    Raises:
        DatabaseUnavailable: After `patience` seconds, by default `timeouts.database_retry`.
        DatabaseError: At once, if the error is permanent.
    """
    timeouts = timeouts or default_timeouts()
    limit = timeouts.database_retry if patience is None else patience
    deadline = time.monotonic() + limit
    backoff = doubling(timeouts.database_backoff, timeouts.database_longest_backoff)

    def left() -> float:
        return deadline - time.monotonic()

    def warn_once(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            logger.warning("%s; trying again for up to %.0f s", error_of(state), left())

    return retry(
        work,
        again=retry_if_exception_type(DatabaseUnavailable),
        wait=lambda state: min(backoff(state), max(left(), 0.0)),
        stop=lambda _: left() <= 0,
        before_sleep=warn_once,
    )
