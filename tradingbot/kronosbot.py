"""The nightly job: wake the Space, forecast every active ticker, store, pause, report.

`python -m tradingbot.kronosbot` and the command `kronosbot`. Exit codes: 0 enough tickers have a
forecast; 1 too few have one, or the Hub, the Space or the database is out of reach; 2 a setting
is wrong; 130 Ctrl-C; 143 SIGTERM; 129 the terminal was closed.
"""

import sys
from functools import partial

from tradingbot.runtime.logs import likely_log_format, log_line
from tradingbot.runtime.signals import exit_on_signals, ignore_signals


def main() -> None:
    """The command. What it does is in `tradingbot.cli.main` and `job`."""
    in_json = likely_log_format(sys.argv[1:]) == "json"
    exit_on_signals(partial(log_line, "ERROR") if in_json else str)
    from tradingbot.cli.main import command  # takes a while, in which Ctrl-C should not be odd

    try:
        command()
    finally:
        ignore_signals()


if __name__ == "__main__":
    main()
