"""Every time-out and back-off of the job and the client, and the one set of them in force."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Every time-out and back-off of the job, in seconds.

    `Settings.timeouts` has them, and the maker of a collaborator passes them on:
    `HubSpace(repo, token, timeouts=settings.timeouts)`. What is made without them takes
    `default_timeouts()`.
    """

    # A Space, over HTTP
    space_connect: float = 10.0
    space_health: float = 10.0
    space_answer: float = 300.0  # one batch of forecasts
    space_backoff: float = 0.5  # before the second attempt, then twice as long each time
    challenger: float = 1800.0  # for all forecasts of one challenger in a night
    space_retry_after: float = 60.0  # a Space that asks for a longer pause is asked again sooner

    # The Hub. A pause after a signal takes at most hub_pause_after_signal, one answer and one
    # connection: less than the 30 s that Kubernetes gives.
    hub_connect: float = 5.0
    hub_answer: float = 10.0  # one call; huggingface_hub itself has no time-out
    hub_backoff: float = 1.0  # before the second attempt or look, then more
    hub_retry_after: float = 60.0  # a Hub that asks for a longer wait is asked again sooner
    hub_stale_stage: float = 60.0  # after a restart an old error stage may show for so long
    hub_pause_shown: float = 10.0  # for the Hub to show a pause, per attempt
    hub_pause: float = 120.0  # in which a pause is tried again
    hub_pause_after_signal: float = 10.0  # the same once a signal has come
    space_lock_regained: float = 30.0  # a run is likely to store a batch, and renew its lock

    # The run's lock: a server may show that of a process that was killed for so long
    run_lock: float = 30.0
    run_lock_poll: float = 0.2
    run_begun: float = 600.0  # a run that has the lock has its row in run_logs by then
    run_idle: float = 3600.0  # without a transaction: the run that holds a lock does nothing

    # A Space on this machine
    local_space_stop: float = 10.0  # from SIGTERM to SIGKILL

    # The database
    database_connect: int = 10  # whole seconds: libpq's
    database_lock: int = 60  # for another process that writes (SQLite) or upgrades
    database_greeting: float = 10.0  # for an answer while connecting
    database_answer: float = 90.0  # no statement takes that long, nor waits so for a lock
    database_answer_after_signal: float = 3.0
    database_retry: float = 60.0  # it may be away so long, as while it restarts
    database_retry_briefly: float = 3.0  # before the Space is woken, and after a run that failed
    database_backoff: float = 0.25  # before the second attempt, then twice as long each time
    database_longest_backoff: float = 5.0

    # A source of candles
    data_answer: float = 10.0  # Yahoo's; yfinance gives its cookie 30
    data_backoff: float = 1.0  # after a refusal, then twice as long each time
    data_longest_backoff: float = 30.0
    data_limit: float = 90.0  # of waiting, or of failures without an answer: it is given up
    data_fast_failure: float = 5.0  # a failure within this time is no time-out
    data_rest: float = 300.0  # it is left alone once given up; after that trouble is forgotten

    # A language model, and an agent that waits
    ai_request: float = 120.0  # one request to the model's provider
    ai_retries: int = 2  # of a request that failed; a number, not seconds
    ai_answer: float = 600.0  # for an answer of the model, what its client tries again included
    ai_tool: float = 180.0  # for a tool; a Space that wakes takes most of that
    ai_space: float = 120.0  # for a forecast of the Space, which an agent waits for

    # A notification; of two attempts, each ends within that
    notify: float = 5.0
    notify_backoff: float = 1.0  # before the second

    track_record_rest: float = 300.0  # a database out of reach is left alone by who asks for it

    signal_noticed: float = 0.5  # waits look this often whether a signal has come


_default_timeouts = Timeouts()


def default_timeouts() -> Timeouts:
    """The time-outs of what is made without any of its own."""
    return _default_timeouts


@contextmanager
def use_timeouts(timeouts: Timeouts) -> Iterator[None]:
    """Make `timeouts` the default of the whole process, all its threads, for this block.

    For an entry point or a test that wants others everywhere. Database engines keep those that
    they were made with.
    """
    global _default_timeouts
    before, _default_timeouts = _default_timeouts, timeouts
    try:
        yield
    finally:
        _default_timeouts = before
