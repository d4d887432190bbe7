"""Entry point of `kronosbot`. Installs signal handlers before slow imports."""

import gc
import sys
from functools import partial

from tradingbot.environment import environment
from tradingbot.runtime.logs import likely_log_format, log_line
from tradingbot.runtime.signals import exit_on_signals, ignore_signals


def main() -> None:
    """Run the command. Its subcommands are in `tradingbot.cli.main`."""
    in_json = likely_log_format(sys.argv[1:], environment()) == "json"
    # Imports create a million objects and no garbage. With Python's threshold of 700, the garbage
    # collector spends 0.5 s on these objects at the start and at the end of the process.
    gc.set_threshold(50_000)
    exit_on_signals(partial(log_line, "ERROR") if in_json else str)
    from tradingbot.cli.main import command  # slow import; from here on Ctrl-C is handled

    try:
        command()
    finally:
        ignore_signals()
        gc.freeze()  # the garbage collector need not check any object before the process ends
