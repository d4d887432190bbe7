"""Continue training kronos-nano with redistributable candles: `make nano`.

Uses the daily candles of AAPL, GOOG, IBM and MSFT (2000 to 2013, package bokeh-sampledata) and of
the S&P 500 and the NASDAQ (1999 to 2018, package arch). All series are split at the same date, so
that no index reveals the market's move on a day on which a share is tested. The final test is on
the indices from 2016 on, which the current weights have not seen either.

Candles and weights are written to build/nano. A stopped run is resumed. Takes about ten minutes on
one core.
"""

import argparse
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from benchmarks._support import ROOT, say
from benchmarks.sampling import packaged
from tradingbot.data.service import DataService
from tradingbot.runtime.clock import utcnow

PLACE = ROOT / "build" / "nano"
SHARES, INDICES = ("AAPL", "GOOG", "IBM", "MSFT"), ("^GSPC", "^IXIC")
SINCE = datetime(1999, 1, 1)
UNTIL = "2015-12-31"


def write_candles(folder: Path) -> None:
    """Write one CSV file for each series."""
    folder.mkdir(parents=True, exist_ok=True)
    sample, bars = DataService("sample", now=utcnow()), packaged(SINCE)
    bars |= {symbol: sample.bars(symbol, since=SINCE) for symbol in SHARES}
    for symbol in SHARES + INDICES:
        bars[symbol].to_csv(folder / f"{symbol}.csv", index_label="date")


def main() -> int:
    """Return the exit status of the fine-tuning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=300, help="maximum number of steps (%(default)s)"
    )
    options = parser.parse_args()
    write_candles(PLACE / "candles")
    command = [sys.executable, "-m", "kronos_space.deployment.commands", "finetune"]
    command += ["--source", f"csv:{PLACE / 'candles'}", "--base", "kronos-nano", "--until", UNTIL]
    command += ["--steps", str(options.steps), "--out", str(PLACE / "kronos-nano")]
    status = subprocess.run(command, check=False).returncode
    say(f"kronos_space/checkpoints is unchanged; the new weights are in {PLACE / 'kronos-nano'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
