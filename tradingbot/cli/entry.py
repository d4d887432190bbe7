"""The process of `kronosbot`: signals are handled before anything slow is imported."""

import sys
from functools import partial

from tradingbot.environment import environment
from tradingbot.runtime.logs import likely_log_format, log_line
from tradingbot.runtime.signals import exit_on_signals, ignore_signals


def main() -> None:
    """Run the command. Its subcommands are in `tradingbot.cli.main`."""
    in_json = likely_log_format(sys.argv[1:], environment()) == "json"
    exit_on_signals(partial(log_line, "ERROR") if in_json else str)
    from tradingbot.cli.main import command  # slow: Ctrl-C must be handled by now

    try:
        command()
    finally:
        ignore_signals()
