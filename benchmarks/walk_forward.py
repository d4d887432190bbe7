"""How much of a backtest's time is the engine's.

    python -m benchmarks.walk_forward               the shape of Kronos-mini, and kronos-nano

Prints markdown on stdout, and what it is doing on stderr; about a minute and a half.

The Space is a process of its own on this machine, and the backtest the command `kronosbot
backtest` over the four tickers of the sample: 500 bars of history, 5 days ahead, 50 paths. Its time
is from the first request to the last answer in the file; the engine's is what the Space counts
meanwhile. The rest is writing and reading JSON, checking it, and the CSV.
"""

# ruff: noqa: RUF001 (the multiplication sign is meant)
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._support import cpu, engine_seconds, say, service, table
from kronos_space.verification.synthetic_weights import write_checkpoint

TICKERS, BARS, STEPS, PATHS = 4, 500, 5, 50
WINDOWS = {"the shape of Kronos-mini": 24, "kronos-nano": 80}  # of each ticker


def main() -> int:
    """The exit status."""
    options = parser().parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the service sets it
    print(
        f"{cpu()}, {len(os.sched_getaffinity(0))} cores. {TICKERS} tickers × {BARS} bars × "
        f"{STEPS} ahead × {PATHS} paths, float32; {options.rounds} rounds.\n"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        mini = str(write_checkpoint(Path(folder) / "mini"))
        for name, windows in WINDOWS.items():
            with service("kronos-nano" if name == "kronos-nano" else mini) as (url, _, _):
                measured = []
                for turn in range(options.rounds + 1):  # the first one warms up
                    say(f"{name}, backtest {turn} of {options.rounds}")
                    measured.append(backtest(url, windows))
            rows.append(row(name, TICKERS * windows, measured[1:]))
    head = ["", "windows", "backtest, s", "windows a second", "the engine's share", "target"]
    print(table(head, rows))
    return 0


def backtest(url: str, windows: int) -> tuple[float, float]:
    """Seconds of one backtest, and those of them that the engine worked."""
    command = [sys.executable, "-m", "tradingbot.kronosbot", "backtest", "--source", "sample"]
    command += ["--windows", str(windows), "--context", str(BARS), "--horizon", str(STEPS)]
    command += ["--samples", str(PATHS), "--json"]
    busy = engine_seconds(url)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"KRONOS_SPACE_URL": url},
            stdout=subprocess.PIPE,
            check=True,
        )
    told = json.loads(done.stdout)
    assert told["made"] == TICKERS * windows, told
    return told["seconds"], engine_seconds(url) - busy


def row(name: str, windows: int, measured: list[tuple[float, float]]) -> list[str]:
    shares = [busy / took for took, busy in measured]
    took = statistics.median(took for took, _ in measured)
    share = f"**{statistics.median(shares):.0%}** ({min(shares):.0%} to {max(shares):.0%})"
    return [name, str(windows), f"{took:.2f}", f"{windows / took:.1f}", share, "≥ 85 %"]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=3, help="of each (%(default)s)")
    return made


if __name__ == "__main__":
    sys.exit(main())
