"""The overhead of HTTP over the bare engine, and the behaviour of the service under overload.

    python -m benchmarks.serving                   overhead, concurrency and start; two minutes
    python -m benchmarks.serving --overload 600    also ten minutes of overload

Prints Markdown to stdout and progress to stderr. The service runs in its own process with synthetic
weights in the shape of Kronos-mini. So does the bare engine, which is given the same requests. The
clients run in this process. Engine and service take turns, so that a machine of varying speed
favours neither.
"""

# ruff: noqa: RUF001 (the multiplication sign is intended)
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from benchmarks._overload import Overload
from benchmarks._support import ROOT, cpu, say, service, table, timed
from kronos_space.forecasting.forecaster import Forecaster
from kronos_space.schemas import read_request
from kronos_space.settings import Settings
from kronos_space.verification.cases import made_up
from kronos_space.verification.synthetic_weights import write_checkpoint
from kronos_space.weights.checkpoint import load_checkpoint

SERIES, BARS, STEPS, PATHS = 16, 500, 5, 20


def main() -> int:
    """Run the benchmark. Return 1 if a response under overload had an unexpected status."""
    options = parser().parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the service sets it; also for the engine
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(write_checkpoint(Path(folder) / "mini"))
        series = [request_of(seed) for seed in range(SERIES)]
        with service(checkpoint) as (url, pid, start_s), engine(checkpoint, series) as bare:
            print(
                f"{cpu()}, {len(os.sched_getaffinity(0))} cores. "
                f"{SERIES} × {BARS} bars × {STEPS} ahead × {PATHS} paths, float32.\n"
            )
            print(overhead(url, series, bare, options.rounds, start_s))
            if not options.overload:
                return 0
            load = Overload(url, pid, options.overload)
            load.run(series)
    print("\n" + load.report())
    return 1 if load.has_unexpected_status() else 0


def overhead(
    url: str,
    series: Sequence[dict[str, Any]],
    bare: Callable[[], float],
    rounds: int,
    start_s: float,
) -> str:
    """Measure the engine alone, one batch over HTTP, and one client per ticker, in turn."""
    batch = json.dumps({"requests": series}).encode()
    singles = [json.dumps(request).encode() for request in series]
    sessions = [requests.Session() for _ in range(SERIES)]
    times: dict[str, list[float]] = {"engine": [], "batch": [], "clients": []}
    with ThreadPoolExecutor(SERIES) as pool:
        for turn in range(rounds + 1):  # the first round is a warm-up
            say(f"round {turn} of {rounds}")
            taken = {
                "engine": bare(),
                "batch": timed(lambda: post(sessions[0], f"{url}/predict/batch", batch)),
                "clients": timed(
                    lambda: list(
                        pool.map(lambda s, b: post(s, f"{url}/predict", b), sessions, singles)
                    )
                ),
            }
            if turn:
                for name, seconds in taken.items():
                    times[name].append(seconds)
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    paired = [b / e - 1 for b, e in zip(times["batch"], times["engine"], strict=True)]
    throughput = [b / c for b, c in zip(times["batch"], times["clients"], strict=True)]
    return table(
        ["", "median", "lowest to highest", "target"],
        [
            ["bare engine, s", f"{median['engine']:.2f}", span(times["engine"]), ""],
            ["one batch over HTTP, s", f"{median['batch']:.2f}", span(times["batch"]), ""],
            [
                "HTTP on top of the engine",
                f"**{statistics.median(paired):.0%}**",
                span(paired, "%"),
                "≤ 15 %",
            ],
            [
                f"{SERIES} clients with one ticker each, s",
                f"{median['clients']:.2f}",
                span(times["clients"]),
                "",
            ],
            [
                "their throughput ÷ the batch's",
                f"**{statistics.median(throughput):.0%}**",
                span(throughput, "%"),
                "≥ 80 %",
            ],
            ["process start to /health ok, s", f"**{start_s:.1f}**", "", "≤ 8 s"],
        ],
    )


@contextmanager
def engine(checkpoint: str, series: Sequence[dict[str, Any]]) -> Iterator[Callable[[], float]]:
    """Run the bare engine in its own process.

    Yield a function that computes one batch and returns its seconds.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving", "--bare", checkpoint],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin
    assert process.stdout
    print(json.dumps(list(series)), file=process.stdin)

    def once() -> float:
        assert process.stdin
        assert process.stdout
        print("go", file=process.stdin)
        return float(process.stdout.readline())

    try:
        yield once
    finally:
        process.stdin.close()
        process.wait()


def bare_engine(checkpoint: str) -> None:
    """Run in the process that `engine` starts: compute a batch for each line on stdin."""
    settings = Settings()
    forecaster = Forecaster(load_checkpoint(checkpoint), settings)
    requested = json.loads(sys.stdin.readline())
    prompts = [forecaster.prepare(read_request(body, settings)).prompt for body in requested]
    for _ in sys.stdin:
        print(timed(lambda: forecaster.generate(prompts)), flush=True)


def request_of(seed: int) -> dict[str, Any]:
    case = made_up("walk", bars=BARS, horizon=STEPS, seed=seed).as_json()
    history = case["history"]
    rows = [dict(zip(history, row, strict=True)) for row in zip(*history.values(), strict=True)]
    return {
        "symbol": f"T{seed}",
        "horizon": STEPS,
        "ohlcv": rows,
        "target_timestamps": case["targets"],
        "samples": PATHS,
        "seed": seed,
    }


def post(session: requests.Session, url: str, body: bytes) -> None:
    answer = session.post(url, data=body, timeout=300)
    answer.raise_for_status()
    answer.json()


def span(values: Sequence[float], unit: str = "s") -> str:
    kind = ".0%" if unit == "%" else ".2f"
    return f"{min(values):{kind}} to {max(values):{kind}}"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--rounds", type=int, default=9, help="rounds of each measurement (%(default)s)"
    )
    made.add_argument(
        "--overload",
        type=float,
        default=0,
        metavar="SECONDS",
        help="seconds of overload afterwards",
    )
    made.add_argument("--bare", metavar="CHECKPOINT", help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    chosen = parser().parse_args()
    if chosen.bare:
        bare_engine(chosen.bare)
    else:
        sys.exit(main())
