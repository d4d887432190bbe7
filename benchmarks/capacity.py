"""Simulate how long a night takes with many tickers, shards and Space pods. Measures nothing.

    python -m benchmarks.capacity                        the table of the docs
    python -m benchmarks.capacity --series 0.045 --fetch 0.01    with times measured elsewhere

The inputs are measured times: the engine's time per series, and the time to fetch and store a
ticker (`make bench-job`, `make bench-ledger`). The simulation distributes batches as the job does:
each shard prepares its next batch while the Space computes the previous one, and a pod computes one
batch at a time. Prints Markdown to stdout.
"""

import argparse
import heapq
from itertools import product

from benchmarks._support import table

BATCH = 16  # tickers in each request of the job
START = 60.0  # seconds of a night for everything else: starting pods, waking, scoring, pausing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--series", type=float, default=0.1, help="engine seconds per series")
    parser.add_argument("--fetch", type=float, default=0.011, help="seconds to fetch a ticker")
    parser.add_argument("--store", type=float, default=0.004, help="seconds to store a ticker")
    asked = parser.parse_args()
    rows = []
    for tickers, (shards, pods) in product(
        (100, 1_000, 10_000, 100_000), ((1, 1), (4, 4), (16, 16), (64, 64), (16, 64))
    ):
        if tickers < shards * BATCH:
            continue
        seconds, busy = night(tickers, shards, pods, asked.series, asked.fetch, asked.store)
        rows.append([f"{tickers:,}", shards, pods, _time(START + seconds), f"{busy:.0%}"])
    print(table(["tickers", "shards", "Space pods", "a night", "the pods' engines at work"], rows))


def night(
    tickers: int, shards: int, pods: int, series: float, fetch: float, store: float
) -> tuple[float, float]:
    """Return the seconds from the first fetch to the last row, and a pod's share of them."""
    left = [len(range(shard, tickers, shards)) for shard in range(shards)]
    free = [0.0] * pods  # when each pod becomes free
    heapq.heapify(free)
    # when each shard has its next batch ready; it sends a batch when the previous one is back
    ready = [(min(BATCH, left[shard]) * fetch, shard) for shard in range(shards)]
    heapq.heapify(ready)
    end = worked = 0.0
    while ready:
        at, shard = heapq.heappop(ready)
        batch = min(BATCH, left[shard])
        left[shard] -= batch
        back = max(at, heapq.heappop(free)) + batch * series
        worked += batch * series
        heapq.heappush(free, back)
        end = max(end, back + batch * store)
        if left[shard]:
            prepared = at + min(BATCH, left[shard]) * (fetch + store)
            heapq.heappush(ready, (max(back, prepared), shard))
    return end, worked / (end * pods)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    main()
