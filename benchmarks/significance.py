"""Error rates of the tests of docs/concepts/scores.md, and how often they find something.

    python -m benchmarks.significance            20,000 series for each size; some three minutes
    python -m benchmarks.significance --quick    a tenth of them

Prints Markdown. Each series is a moving sum of `h` independent numbers with mean 0. It models the
differences of h-step-ahead forecasts, made every session, neither of which is better. The test
suite does not run this; it checks the size of the test in use with fewer series
(tests/unit/evaluation).
"""

import argparse
import math
import sys

import numpy as np
from numpy.typing import NDArray

from benchmarks._support import say, table
from tradingbot.evaluation.sequential_testing import anytime_skill_interval
from tradingbot.evaluation.significance import diebold_mariano, student_p_value

Floats = NDArray[np.float64]
LENGTHS = (30, 60, 120, 250)
YEARS = 504  # sessions in two years


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the series")
    series = 2000 if parser.parse_args().quick else 20_000
    print(f"Wrong at 5 %, {series:,} series each\n")
    rows = []
    for kind in ("normal", "heavy tails", "skewed"):
        for h in (1, 5):
            say(f"{kind}, {h} ahead")
            made = [differences(kind, series, n, h) for n in LENGTHS]
            for name, p_value in {"used before (HLN)": hln, "in use": in_use}.items():
                wrong = [
                    np.mean([p_value(sample, h) < 0.05 for sample in of_size]) for of_size in made
                ]
                rows.append([kind, str(h), name, *(f"{100 * share:.1f} %" for share in wrong)])
    print(table(["numbers", "h", "procedure", *(f"n = {n}" for n in LENGTHS)], rows))
    print(f"\nSignificant in any weekly look within two years, {series // 20:,} series each\n")
    looks = range(30, YEARS + 1, 5)
    rows = []
    for h in (1, 5):
        say(f"looks, {h} ahead")
        records = differences("normal", series // 20, YEARS, h)
        tested = np.mean([any(in_use(record[:n], h) < 0.05 for n in looks) for record in records])
        missed = np.mean([any(excludes_none(record[:n], h) for n in looks) for record in records])
        rows.append([str(h), f"{100 * tested:.1f} %", f"{100 * missed:.1f} %"])
    print(table(["h", "the test", "the interval for every night"], rows))
    return 0


def differences(kind: str, count: int, n: int, h: int) -> Floats:
    """Return simulated differences, shape (count, n)."""
    random = np.random.default_rng(1)
    shape = (count, n + h)
    each = {
        "normal": lambda: random.standard_normal(shape),
        "heavy tails": lambda: random.standard_t(5, shape),
        "skewed": lambda: random.gamma(2, 1, shape) - 2,
    }[kind]()
    sums = np.cumsum(each, axis=1)
    return sums[:, h:] - sums[:, :-h]


def in_use(worse: Floats, h: int) -> float:
    p_value = diebold_mariano(worse, h)[1]
    return 1.0 if p_value is None else p_value


def hln(worse: Floats, h: int) -> float:
    """Return the p-value of Harvey, Leybourne and Newbold (1997); equal or Bartlett weights."""
    n, deviation = len(worse), worse - worse.mean()
    lags = [float(deviation[lag:] @ deviation[: n - lag]) / n for lag in range(h)]
    variance = lags[0] + 2 * sum(lags[1:])
    if variance <= 0:
        variance = lags[0] + 2 * sum((1 - i / h) * lags[i] for i in range(1, h))
    correction = (n + 1 - 2 * h + h * (h - 1) / n) / n
    return student_p_value(worse.mean() / math.sqrt(variance / n) * math.sqrt(correction), n - 1)


def excludes_none(worse: Floats, h: int) -> bool:
    """Return whether the interval excludes zero skill."""
    baseline = np.full(len(worse), 10.0 * math.sqrt(h))
    found = anytime_skill_interval(baseline + worse, baseline, h)
    return found is not None and not found[0] <= 0 <= found[1]


if __name__ == "__main__":
    sys.exit(main())
