"""The nightly job: wake the Space, forecast every active ticker, store, pause, report.

`python -m tradingbot.kronosbot` and the command `kronosbot`. Exit codes: 0 enough tickers have a
forecast; 1 too few have one, or the Hub, the Space or the database is out of reach; 2 a setting
is wrong; 130 Ctrl-C; 143 SIGTERM; 129 the terminal was closed.
"""

from tradingbot.cli.entry import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
