"""The engine's share of the duration of a backtest.

    python -m benchmarks.walk_forward               the shape of Kronos-mini, and kronos-nano

Prints Markdown to stdout and progress to stderr. Takes about a minute and a half.

The Space is a process on this machine. The backtest is the command `kronosbot backtest` over the
four tickers of the sample: 500 bars of history, 5 days ahead, 50 paths. Its duration is from the
first request to the last forecast in the file. The engine's duration is what the Space reports for
that time. The rest is writing, reading and checking JSON, and writing the CSV.
"""

# ruff: noqa: RUF001 (the multiplication sign is intended)
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
WINDOWS = {"the shape of Kronos-mini": 24, "kronos-nano": 80}  # windows per ticker


def main() -> int:
    """Run the benchmark and return the exit status."""
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
                for turn in range(options.rounds + 1):  # the first round is a warm-up
                    say(f"{name}, backtest {turn} of {options.rounds}")
                    measured.append(backtest(url, windows))
            rows.append(row(name, TICKERS * windows, measured[1:]))
    head = ["", "windows", "backtest, s", "windows a second", "the engine's share", "target"]
    print(table(head, rows))
    return 0


def backtest(url: str, windows: int) -> tuple[float, float]:
    """Run a backtest. Return its seconds, and the engine's seconds within them."""
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
    document = json.loads(done.stdout)
    assert document["made"] == TICKERS * windows, document
    return document["seconds"], engine_seconds(url) - busy


def row(name: str, windows: int, measured: list[tuple[float, float]]) -> list[str]:
    shares = [busy / took for took, busy in measured]
    took = statistics.median(took for took, _ in measured)
    share = f"**{statistics.median(shares):.0%}** ({min(shares):.0%} to {max(shares):.0%})"
    return [name, str(windows), f"{took:.2f}", f"{windows / took:.1f}", share, "≥ 85 %"]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=3, help="rounds per model (%(default)s)")
    return made


if __name__ == "__main__":
    sys.exit(main())
