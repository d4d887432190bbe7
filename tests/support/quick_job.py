"""Run `python -m tradingbot.kronosbot` with time-outs of tenths of seconds.

The command line, settings, output and exit codes are unchanged. Challengers' Spaces named as
owner/space are below the address in OTHER_SPACES if it is set, instead of under hf.space.
"""

import os
from dataclasses import replace

from tradingbot.kronosbot import main
from tradingbot.runtime.signals import exit_on_signals
from tradingbot.settings import Timeouts, use_timeouts

OTHER_SPACES = "TEST_OTHER_SPACES"
HURRIED = Timeouts(
    space_connect=2.0,
    space_health=1.5,
    space_answer=4.0,
    space_backoff=0.05,
    space_retry_after=0.2,
    run_lock=5.0,
    run_lock_poll=0.05,
    hub_connect=1.0,
    hub_answer=1.0,
    hub_backoff=0.05,
    hub_stale_stage=1.5,
    hub_pause_shown=0.5,
    hub_pause=8.0,
    hub_pause_after_signal=3.0,
    database_connect=2,
    database_lock=5,
    database_file_lock=5.0,
    database_greeting=2.0,
    database_answer=10.0,
    database_answer_after_signal=0.5,
    database_retry=6.0,
    database_backoff=0.05,
    signal_noticed=0.1,
)

# for tests on a busy machine in which nothing hangs
PATIENT = replace(
    HURRIED,
    space_connect=10.0,
    space_health=10.0,
    space_answer=60.0,
    hub_connect=10.0,
    hub_answer=20.0,
    database_greeting=20.0,
    database_answer=30.0,
)
PATIENTLY = "TEST_PATIENTLY"  # variable to use PATIENT

if __name__ == "__main__":
    exit_on_signals()
    # imported last: it takes long, and a signal may arrive meanwhile
    from tradingbot.space import client, connect

    assert client.BATCH_SERIES, "else its batches would stay as large as ever"
    client.BATCH_SERIES = 4
    if address := os.environ.get(OTHER_SPACES):
        connect.which_space = lambda url, repo: (url or f"{address}/{repo}", repo or "")
    with use_timeouts(PATIENT if PATIENTLY in os.environ else HURRIED):
        main()
