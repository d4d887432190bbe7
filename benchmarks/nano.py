"""Train kronos-nano on: `make nano`, with the candles that may be given away with its weights.

They are the daily candles of AAPL, GOOG, IBM and MSFT (2000 to 2013, package bokeh-sampledata) and
of the S&P 500 and the NASDAQ (1999 to 2018, package arch). All series are divided by one date, so
that no index tells how the market moved on a day that a share is judged on. The verdict is on the
indices from 2016 on, which today's weights have not seen either.

Candles and weights lie in build/nano. A run that was stopped goes on; about ten minutes on a core.
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
    parser.add_argument("--steps", type=int, default=300, help="at most (%(default)s)")
    options = parser.parse_args()
    write_candles(PLACE / "candles")
    command = [sys.executable, "-m", "kronos_space.deployment.commands", "finetune"]
    command += ["--source", f"csv:{PLACE / 'candles'}", "--base", "kronos-nano", "--until", UNTIL]
    command += ["--steps", str(options.steps), "--out", str(PLACE / "kronos-nano")]
    status = subprocess.run(command, check=False).returncode
    say(f"kronos_space/checkpoints stays as it is; what was trained is in {PLACE / 'kronos-nano'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
