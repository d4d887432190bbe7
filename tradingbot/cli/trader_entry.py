"""Entry point of `kronostraderbot`. Installs signal handlers before slow imports."""

from tradingbot.runtime.signals import exit_on_signals


def main() -> None:
    """Run the command. Its options are in `tradingbot.cli.trader`."""
    exit_on_signals()
    from tradingbot.cli.trader import command  # slow import; from here on Ctrl-C is handled

    command()
