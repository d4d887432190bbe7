"""Check for every calendar of exchange_calendars that hourly targets are the next real bars.

    python -m tests.support.hourly                    every calendar, 100 cuts each; a few minutes
    python -m tests.support.hourly XNYS XTAE --cuts 1000

The real hourly bars from 2015 to 2027 are cut at random, and the next 48 bars are requested. Each
must match the exchange, including half days, lunch breaks, holidays and clock changes.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.support.patterns import codes, market
from tradingbot.markets.intraday import next_bars

HOUR = np.timedelta64(3_600_000_000, "us")
BEFORE, AHEAD = 300, 48


def count_right(ticker: str, code: str, *, cuts: int, seed: int = 7) -> tuple[int, int]:
    """Return how many targets after random cuts are right, and how many there are.

    `ticker` is traded on the calendar `code`.
    """
    bars = market(code).hourly_utc.wall
    random = np.random.default_rng(seed)
    good = total = 0
    for cut in random.integers(BEFORE, len(bars) - AHEAD, cuts).tolist():
        found = next_bars(ticker, bars[cut - BEFORE : cut], HOUR, AHEAD)
        if found is not None:
            good += int((found == bars[cut : cut + AHEAD]).sum())
        total += AHEAD
    return good, total


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("codes", nargs="*", default=codes())
    parser.add_argument("--cuts", type=int, default=100)
    options = parser.parse_args(arguments)
    file = Path(tempfile.mkdtemp()) / "calendars"
    file.write_text("".join(f"ALL{n},{code}\n" for n, code in enumerate(options.codes)))
    os.environ["KRONOS_CALENDARS"] = str(file)
    good = total = 0
    for number, code in enumerate(options.codes):
        # its weekends differ from those of currencies, which have their own test
        if code == "24/5":
            continue
        try:
            counts = count_right(f"ALL{number}", code, cuts=options.cuts)
        except (ValueError, NotImplementedError) as error:
            # some calendars fail with newer versions of pandas
            print(f"{code:8} cannot be made: {str(error)[:60]} …", flush=True)
            continue
        good, total = good + counts[0], total + counts[1]
        print(f"{code:8} {100 * counts[0] / counts[1]:6.2f} %", flush=True)
    print(f"all      {100 * good / total:6.3f} % of {total}")


if __name__ == "__main__":
    main()
