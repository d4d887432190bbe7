"""Transactions that outlast a database which is away for a while."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from tradingbot.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds that a database may be away, as while it restarts or another takes over
BACKOFF = 0.25  # seconds before the second attempt, then more
LONGEST_PAUSE = 5.0
PATIENCE_AT_START = 3.0  # the same before the Space is woken: a wrong address shall be told soon
Result = TypeVar("Result")


def retried(work: Callable[[], Result], *, patience: float | None = None) -> Result:
    """What `work`, a whole transaction, returns; it is done again while the database is away.

    `work` must be harmless when it is done twice: a connection that is lost during a commit does
    not tell whether it was done. DatabaseUnavailable after `patience` seconds (60), what will not
    pass at once.
    """
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    pause = BACKOFF
    while True:
        try:
            return work()
        except DatabaseUnavailable as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            if pause == BACKOFF:
                logger.warning("%s; trying again for up to %.0f s", error, left)
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE)
