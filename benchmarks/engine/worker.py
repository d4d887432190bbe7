"""Forecasts by our engine with their times, in a separate process.

`measuring.py` starts it. It reads and writes JSON, as does the reference's counterpart,
`kronos_space/verification/reference_worker.py`.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from kronos_space.engine.engine import Engine
from kronos_space.engine.quantiles import path_quantiles
from kronos_space.engine.sampling import SamplingParams
from kronos_space.forecasting.candles import Floats, History
from kronos_space.forecasting.timestamps import Times
from kronos_space.verification.cases import Case, prompt_for
from kronos_space.verification.memory import memory_mib
from kronos_space.weights.checkpoint import load_checkpoint

LEVELS = tuple(level / 10 for level in range(1, 10))
MATRIX = 4096  # rows and columns of the matrices that measure the machine
OPERATIONS = {
    "products": ("aten::mm", "aten::addmm", "mkldnn::_linear_pointwise"),
    "attention": ("aten::bmm", "aten::_softmax"),
}


def main() -> None:
    question = json.load(sys.stdin)
    if "rates" in question:
        torch.set_num_threads(question["threads"])
        rates = {name: matrix_product_rate(getattr(torch, name)) for name in question["rates"]}
        json.dump(rates, sys.stdout)
        return
    options = {} if question["dtype"] == "float32" else {"dtype": question["dtype"]}
    checkpoint = load_checkpoint(question["checkpoint"])
    engine = Engine(checkpoint, threads=question["threads"], **options)
    loaded = memory_mib("VmRSS")
    series = [Case("", case["history"], case["targets"]).parsed() for case in question["series"]]
    sampling = SamplingParams(samples=question["samples"], top_p=0.9)
    seconds: list[float] = []
    # The first repetition warms up. Short ones are repeated more often, for a stable median.
    while len(seconds) <= question["repeats"] or sum(seconds) < question["at_least_s"]:
        start = time.perf_counter()
        quantiles = forecast(engine, series, sampling, question["seed"])
        seconds.append(time.perf_counter() - start)
    answer: dict[str, Any] = {
        "loaded_mib": loaded,
        "peak_mib": memory_mib("VmHWM"),
        "seconds": seconds[1:],
        "quantiles": quantiles.tolist(),
    }
    if question["repeats"]:
        alone = Engine(
            checkpoint, threads=1, **options
        )  # the profiler sees the calling thread only
        answer["shares"] = shares(lambda: forecast(alone, series, sampling, question["seed"]))
    json.dump(answer, sys.stdout)


def forecast(
    engine: Engine, series: list[tuple[History, Times]], sampling: SamplingParams, seed: int
) -> Floats:
    """Return quantiles of the close, (series, levels, horizon)."""
    prompts, scales = zip(
        *(prompt_for(*case, sampling, seed + i) for i, case in enumerate(series)), strict=True
    )
    paths = engine.generate(prompts)
    closes = [
        scale.restore(continuation.bars)[..., 3]
        for scale, continuation in zip(scales, paths, strict=True)
    ]
    return np.stack([path_quantiles(close, LEVELS) for close in closes])


def shares(run: Callable[[], object]) -> dict[str, float]:
    """Return the shares of the operations' time spent on products, attention and the rest."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        run()
    times = dict.fromkeys([*OPERATIONS, "rest"], 0.0)
    for event in profiler.key_averages():
        kind = next((k for k, names in OPERATIONS.items() if event.key in names), "rest")
        times[kind] += event.self_cpu_time_total
    return {kind: time / sum(times.values()) for kind, time in times.items()}


def matrix_product_rate(dtype: torch.dtype) -> float:
    """Return the operations per second of a large matrix product, with the threads in use."""
    a, b = torch.randn(2, MATRIX, MATRIX).to(dtype)
    out = torch.empty_like(a)
    torch.mm(a, b, out=out)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        seconds.append(time.perf_counter() - start)
    return 2 * MATRIX**3 / statistics.median(seconds)


if __name__ == "__main__":
    main()
