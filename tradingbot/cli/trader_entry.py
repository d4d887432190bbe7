"""The process of `kronostraderbot`: signals are handled before anything slow is imported."""

from tradingbot.runtime.signals import exit_on_signals


def main() -> None:
    """Run the command. Its options are in `tradingbot.cli.trader`."""
    exit_on_signals()
    from tradingbot.cli.trader import command  # slow: Ctrl-C must be handled by now

    command()
