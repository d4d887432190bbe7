"""All time-outs and back-offs of the job and the client, and the process-wide default."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """All time-outs and back-offs of the job, in seconds.

    `Settings.timeouts` holds the time-outs of the job. The job passes them to the objects that it
    uses, such as `HubSpace(repo, token, timeouts=settings.timeouts)`. An object without this
    argument uses `default_timeouts()`.
    """

    # A Space, over HTTP
    space_connect: float = 10.0
    space_health: float = 10.0
    space_answer: float = 300.0  # one batch of forecasts
    space_backoff: float = 0.5  # before the second attempt, then twice as long each time
    challenger: float = 1800.0  # for all forecasts of one challenger in a night
    space_retry_after: float = 60.0  # longest wait that the Space's header Retry-After can cause

    # The Hub. After a signal, pausing the Space takes at most hub_pause_after_signal + hub_answer +
    # hub_connect. The sum is less than the 30 s that Kubernetes waits before it kills a process.
    hub_connect: float = 5.0
    hub_answer: float = 10.0  # one call; huggingface_hub itself has no time-out
    hub_backoff: float = 1.0  # before the second attempt, then twice as long each time
    hub_retry_after: float = 60.0  # longest wait between two attempts
    hub_stale_stage: float = 60.0  # after a restart, the Hub may show an old error this long
    hub_pause_shown: float = 10.0  # wait for the Hub to show the Space as paused, per attempt
    hub_pause: float = 120.0  # total time for all attempts to pause the Space
    hub_pause_after_signal: float = 10.0  # the same total, counted from a signal to stop
    # Wait for other runs to take their locks again after a database restart. A working run stores
    # a batch of forecasts, and renews its lock, within this time.
    space_lock_regained: float = 30.0

    # The run's lock: a server may keep the lock of a killed process this long
    run_lock: float = 30.0
    run_lock_poll: float = 0.2
    run_begun: float = 600.0  # a run writes its row in run_logs this soon after taking the lock
    run_idle: float = 3600.0  # a run without a transaction for this long counts as stuck

    # A Space on this machine
    local_space_stop: float = 10.0  # from SIGTERM to SIGKILL

    # The database
    database_connect: int = 10  # whole seconds, because of libpq
    database_lock: int = 60  # Postgres: wait for another process that upgrades the schema
    # SQLite: wait for another process that writes to the file; signals are handled after the wait
    database_file_lock: float = 10.0
    database_greeting: float = 10.0  # for the server's response while connecting
    database_answer: float = 90.0  # for one statement, including its wait for a lock
    database_answer_after_signal: float = 3.0
    database_retry: float = 60.0  # total time of retries during an outage, such as a restart
    database_retry_briefly: float = 3.0  # the same before the Space is woken, or after a failed run
    database_backoff: float = 0.25  # before the second attempt, then twice as long each time
    database_longest_backoff: float = 5.0

    # A source of candles
    data_answer: float = 10.0  # for a response of Yahoo; yfinance waits 30 s for its cookie
    data_backoff: float = 1.0  # after the source refuses a request, then twice as long each time
    data_longest_backoff: float = 30.0
    # after this many seconds of waits, or of failures without a success, give up the source
    data_limit: float = 90.0
    data_fast_failure: float = 5.0  # a failure within this time is not a time-out
    # Send no request this long after giving up. Also forget failures older than this.
    data_rest: float = 300.0

    # A language model, and an agent that waits
    ai_request: float = 120.0  # one request to the model's provider
    ai_retries: int = 2  # retries of a failed request; a number, not seconds
    ai_answer: float = 600.0  # for an answer of the model, including the retries of its client
    ai_tool: float = 180.0  # for one call of a tool; waking a Space takes most of this time
    ai_space: float = 120.0  # for a forecast of the Space while an agent waits

    # A notification
    notify: float = 5.0  # for each of two attempts
    notify_backoff: float = 1.0  # before the second attempt

    track_record_rest: float = 300.0  # pause after a failed read of the track record

    signal_noticed: float = 0.5  # interval at which waits check for a signal


_default_timeouts = Timeouts()


def default_timeouts() -> Timeouts:
    """Return the process-wide default time-outs."""
    return _default_timeouts


@contextmanager
def use_timeouts(timeouts: Timeouts) -> Iterator[None]:
    """Make `timeouts` the default in this block, in all threads of the process.

    Use this in entry points and tests. Existing database engines keep their time-outs.
    """
    global _default_timeouts
    before, _default_timeouts = _default_timeouts, timeouts
    try:
        yield
    finally:
        _default_timeouts = before
