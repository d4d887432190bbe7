"""Take the lock of a run, wait for it, or leave it to a run in progress."""

import time
from datetime import timedelta
from functools import partial

from tenacity import RetryCallState, wait_fixed

from tradingbot.errors import RunStuck
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.sharding import Shard
from tradingbot.persistence.runs import is_unfinished
from tradingbot.persistence.transactions import retried
from tradingbot.runtime.clock import now
from tradingbot.runtime.lock_interface import Holder, Lock
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.retry import poll
from tradingbot.settings import Settings, Timeouts


def await_lock(lock: Lock, reporter: ProgressReporter, timeouts: Timeouts) -> Holder | None:
    """Take the run's lock.

    Return its holder if another run keeps it for `timeouts.run_lock` seconds.

    After a run was killed, the database server keeps the run's lock for a moment. The pod that
    replaces the killed run starts at once. If the new pod did not wait for the lock, it would end
    and leave the Space running.
    """
    limit = timeouts.run_lock
    at_start = partial(retried, patience=timeouts.database_retry_briefly, timeouts=timeouts)

    def tell_once(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            holder = at_start(lock.held_by)
            reporter.say(f"Waiting up to {limit:.0f} s for another run to end: {holder}")

    taken = poll(
        lambda: at_start(lock.try_exclusive) or None,
        until=time.monotonic() + limit,
        wait=wait_fixed(timeouts.run_lock_poll),
        before_sleep=tell_once,
    )
    return None if taken else at_start(lock.held_by)


def check_at_work(holder: Holder, database: JobDatabase, shard: Shard, settings: Settings) -> None:
    """Raise RunStuck unless the run that holds the lock seems to be working.

    A working run has an unfinished row in run_logs, and each of its transactions counts as
    activity.
    """
    timeouts = settings.timeouts
    if holder.since is None or now() - holder.since < timedelta(seconds=timeouts.run_begun):
        return  # the other run may be about to write its row
    idle = holder.idle(now()) or 0.0

    def has_row() -> bool:
        with database.sessions() as session:
            return is_unfinished(session, str(shard))

    if idle < settings.wake_timeout + timeouts.run_idle and retried(
        has_row, patience=timeouts.database_retry_briefly, timeouts=timeouts
    ):
        return
    raise RunStuck(
        f"another run holds the lock and does nothing, {holder}: end that process, "
        "or its session in the database, and start the job again"
    )
