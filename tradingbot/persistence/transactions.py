"""Transactions that outlast a database which is away for a while."""

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
    """Return what `work`, a whole transaction, returns; repeat it while the database is away.

    `work` must be harmless when it is done twice: a connection that is lost during a commit does
    not tell whether it was done.

    Raises:
        DatabaseUnavailable: After `patience` seconds, by default `timeouts.database_retry`.
        DatabaseError: At once, if it will not pass.
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
