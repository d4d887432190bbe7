"""Speed and memory of the engine, compared with the reference implementation.

    python -m benchmarks.engine            everything; about ten minutes on 2 cores
    python -m benchmarks.engine --quick    small shapes, one minute; not for publication

Prints Markdown to stdout and progress to stderr.

Both sides use the same weights (the shape of Kronos-mini with synthetic weights), the same
histories and the same number of threads. They use float32 unless the table says otherwise, and
sample with top_p 0.9 at temperature 1. Each measurement runs in a separate process. A time is from
candles in memory to a summary of the paths. The reference uses its own batching
(`KronosPredictor.predict_batch`, which averages over the samples), and our engine returns
quantiles. The two sides take turns, and the machine's rate of matrix products is measured before,
between and after. A noisy machine therefore shows as a wide range, and favours neither side.
"""

# ruff: noqa: RUF001 (the multiplication sign is intended)
import argparse
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks._support import cpu, say, table
from benchmarks.engine.measuring import Bench, Load, spread, times_faster
from kronos_space.verification.cases import Case, made_up, real
from kronos_space.verification.reference import (
    ENVIRONMENT,
    PACKAGE,
    VERSION,
    ComparisonError,
    reference_python,
)
from kronos_space.verification.synthetic_weights import write_checkpoint
from kronos_space.weights.checkpoint import Checkpoint, load_checkpoint

ROUNDS = 2
FLOATS = ("float32", "bfloat16")
DTYPES = (*FLOATS, "int8")


@dataclass(frozen=True)
class Plan:
    """The loads to measure."""

    compared: tuple[Load, ...]  # compared with the reference, in every dtype
    scaling: tuple[Load, ...]  # our engine only, float32
    at_least_s: float  # minimum time for repeating our side, used twice

    @property
    def main(self) -> Load:
        return self.compared[0]


FULL = Plan(
    compared=(Load(16, 500, 5, 20), Load(1, 500, 5, 20)),
    scaling=(
        Load(4, 500, 5, 20),
        Load(64, 500, 5, 20),
        Load(16, 500, 5, 40),
        Load(16, 500, 10, 20),
        Load(256, 500, 5, 20),
    ),
    at_least_s=5,
)
QUICK = Plan(
    compared=(Load(4, 200, 5, 5), Load(1, 200, 5, 5)),
    scaling=(Load(8, 200, 5, 5), Load(4, 200, 5, 10), Load(4, 200, 10, 5)),
    at_least_s=1,
)


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parser().parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the service sets it; for both sides
    busy = os.getloadavg()[0]  # load before the benchmark starts
    if busy > 0.5:
        say(f"something else is running here (load {busy:.1f}); times will be long and scattered")
    plan = QUICK if options.quick else FULL
    try:
        python = None if options.no_reference else reference_python(options.environment)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = load_checkpoint(str(write_checkpoint(Path(folder) / "mini")))
            bench = Bench(Path(folder) / "mini", options.threads, plan.at_least_s, python)
            run(bench, plan)
        sections = [
            about(bench, busy),
            comparison(bench, plan),
            scaling(bench, plan),
            roofline(bench, plan.main, checkpoint),
            precision(bench),
        ]
    except ComparisonError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    print("\n\n".join(sections))
    return 0


def run(bench: Bench, plan: Plan) -> None:
    """Measure time and memory in rounds, with the machine's rate in between."""
    bench.measure_machine(FLOATS)
    for load in plan.compared:
        for _ in range(ROUNDS):
            for dtype in DTYPES:
                bench.measure(load, dtype)
            bench.measure_reference(load)
            bench.measure_machine(FLOATS)
    for _ in range(2):
        for load in plan.scaling:
            bench.measure(load)


def about(bench: Bench, busy: float) -> str:
    """Return the line that describes the machine."""
    return (
        f"{cpu()}, {len(os.sched_getaffinity(0))} cores, {bench.threads} threads; "
        f"Python {platform.python_version()}, torch {torch.__version__}; "
        f"reference: {PACKAGE} {VERSION}; load of the machine before the start {busy:.1f}. "
        "Weights: the shape of Kronos-mini. Times are medians (lowest to highest); memory is the "
        "process's peak, and in brackets what of it came after imports and loading."
    )


def comparison(bench: Bench, plan: Plan) -> str:
    """Return a table that compares both sides."""
    head = ["series", "bars", "steps", "paths", "dtype", "ours, ms per series"]
    if bench.reference:
        head += ["reference, ms per series", "times faster"]
    head += ["ours, peak MiB"]
    if bench.reference:
        head += ["reference, peak MiB", "ours ÷ reference"]
    rows = []
    for load in plan.compared:
        reference = bench.reference.get(load)
        for dtype in DTYPES:
            ours = bench.ours[load, dtype]
            row = [*load.sizes, dtype, ours.per_series(load)]
            if reference:
                faster = spread(times_faster(ours, reference))
                row += [reference.per_series(load), f"**{faster}**"]
            row += [ours.memory()]
            if reference:
                row += [reference.memory(), f"{ours.peak_mib / reference.peak_mib:.2f}"]
            rows.append(row)
    return table(head, rows)


def scaling(bench: Bench, plan: Plan) -> str:
    """Return a table of our engine's costs for more series, paths or steps."""
    main = bench.ours[plan.main, "float32"].median / plan.main.series
    loads = sorted({*plan.compared, *plan.scaling}, key=lambda load: load.sizes[::-1])
    rows = []
    for load in loads:
        ours = bench.ours[load, "float32"]
        cost = ours.median / load.series / main
        rows.append([*load.sizes, ours.per_series(load), f"{cost:.2f}", ours.memory()])
    head = ["series", "bars", "steps", "paths", "ms per series", f"÷ {plan.main}", "peak MiB"]
    return table(head, rows)


def roofline(bench: Bench, load: Load, checkpoint: Checkpoint) -> str:
    """Return the shares of the time, and its ratio to the time of the matrix products alone."""
    work, explained = context_work(load, checkpoint)
    rows = []
    for dtype in FLOATS:
        ours, rates = bench.ours[load, dtype], bench.rates[dtype]
        limit = work / statistics.median(rates)
        row = [dtype, *(f"{ours.shares[kind]:.0%}" for kind in ("products", "attention", "rest"))]
        row += [spread([rate / 1e9 for rate in rates]), f"{1000 * limit / load.series:.1f}"]
        row += [ours.per_series(load), f"**{ours.median / limit:.2f}**"]
        row += [f"{limit / ours.median:.0%}"]
        rows.append(row)
    head = ["dtype", "products", "attention", "everything else", "machine, Gflop/s"]
    head += ["limit, ms per series", "time, ms per series", "time ÷ limit", "share of the rate"]
    return f"Roofline, {load}. {explained}\n\n{table(head, rows)}"


def context_work(load: Load, checkpoint: Checkpoint) -> tuple[float, str]:
    """Return the number of operations for a load's contexts, and how they were counted."""
    tokenizer, model = checkpoint.tokenizer, checkpoint.model
    blocks = [*tokenizer.encoder, *model.transformer, *tokenizer.decoder]
    widths = [tokenizer.config.d_model] * len(tokenizer.encoder)
    widths += [model.config.d_model] * len(model.transformer)
    widths += [tokenizer.config.d_model] * len(tokenizer.decoder)
    weights = sum(p.numel() for block in blocks for p in block.parameters() if p.dim() == 2)
    products = load.series * load.bars * 2 * weights
    attention = load.series * 2 * load.bars * (load.bars + 1) * sum(widths)
    return products + attention, (
        "Shares are of the operations' own times on one thread, by the profiler; attention is its "
        "two batched products and the softmax. The machine's rate is that of a product of two "
        "4096 × 4096 matrices, measured between the rounds. The limit is what is counted at that "
        "rate: "
        f"2 × {weights:,} weights of encoder, model and decoder blocks × {load.series} × "
        f"{load.bars} context bars = {products / 1e9:.1f} Gflop; attention's two products, each "
        f"bar with itself and those before it, 2 × {load.bars} × {load.bars + 1} × "
        f"{sum(widths):,} (d_model, summed over the blocks) × {load.series} = "
        f"{attention / 1e9:.1f} Gflop. Not counted: all that is done for the paths. Of the last "
        "decoder block the engine computes only keys, values and queries for the context, so a "
        "fourteenth of what is counted need not be done."
    )


def precision(bench: Bench) -> str:
    """Compare the faster types' quantiles with float32's, for trained weights and real candles."""
    cases: list[Case] = []
    for symbol in ("AAPL", "GOOG", "IBM", "MSFT"):
        for ahead in (0, 200, 400, 600):
            cases += real(symbol, bars=200, horizon=5, ahead=ahead)
    kind = "real" if cases else "synthetic"
    cases = cases or [made_up("walk", bars=200, horizon=5, seed=i) for i in range(16)]
    series = [case.as_json() for case in cases]
    say(f"all types, kronos-nano, {len(series)} series")
    exact, half, eight, other = (
        np.array(bench.ask_ours("kronos-nano", series, 20, dtype, seed=seed)["quantiles"])
        for dtype, seed in (("float32", 0), ("bfloat16", 0), ("int8", 0), ("float32", 1000))
    )
    return (
        f"kronos-nano, {len(series)} series of 200 {kind} daily candles, 5 steps, 20 paths, same "
        "seeds: the quantiles 0.1 to 0.9 of close differ from float32's by "
        f"**{relative(half, exact):.2%}** on average in bfloat16 and by "
        f"**{relative(eight, exact):.2%}** in int8 (another seed, float32: "
        f"{relative(other, exact):.2%})."
    )


def relative(values: np.ndarray, exact: np.ndarray) -> float:
    return float((np.abs(values - exact) / exact).mean())


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--quick", action="store_true", help="small shapes, about a minute")
    result.add_argument("--threads", type=int, default=2, help="on both sides (default: 2)")
    result.add_argument("--no-reference", action="store_true", help="measure ours alone")
    result.add_argument(
        "--environment",
        type=Path,
        default=ENVIRONMENT,
        metavar="FOLDER",
        help="where the reference is installed, or will be (default: %(default)s)",
    )
    return result
