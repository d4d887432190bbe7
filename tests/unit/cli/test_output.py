"""The output of the commands on terminals and in pipes."""

from io import StringIO

from rich.console import Console

from tradingbot.cli.output import plain_table, print_table


def test_a_table_wider_than_the_terminal_is_printed_in_full() -> None:
    table = plain_table("Ticker", "Close", left=["Ticker"])
    table.add_row("BTC-USD", "61234.50")
    out = StringIO()
    console = Console(file=out, width=10)
    print_table(console, table)
    assert out.getvalue().splitlines() == ["Ticker      Close", "BTC-USD  61234.50"]
    assert console.width == 10
