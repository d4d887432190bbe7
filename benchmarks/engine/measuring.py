"""Run forecasts of each side in a separate process, and record time and memory."""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._support import say
from kronos_space.verification.cases import made_up
from kronos_space.verification.reference import WORKER, ask

OURS = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Load:
    """The size of a forecast."""

    series: int
    bars: int
    steps: int
    paths: int

    def __str__(self) -> str:
        return f"{self.series} × {self.bars} × {self.steps} × {self.paths}"  # noqa: RUF001

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return self.series, self.bars, self.steps, self.paths

    def cases(self) -> list[dict[str, Any]]:
        walks = (
            made_up("walk", bars=self.bars, horizon=self.steps, seed=i) for i in range(self.series)
        )
        return [walk.as_json() for walk in walks]


@dataclass
class Measured:
    """The measurements of one side, load and dtype."""

    rounds: list[list[float]] = field(default_factory=list)  # seconds of each repetition
    shares: dict[str, float] = field(default_factory=dict)  # products, attention, rest
    loaded_mib: float = 0.0  # resident after imports and loading
    peak_mib: float = 0.0  # maximum resident

    def add(self, seconds: Sequence[float], loaded_mib: float, peak_mib: float) -> None:
        self.rounds.append(list(seconds))
        self.loaded_mib = max(self.loaded_mib, loaded_mib)
        self.peak_mib = max(self.peak_mib, peak_mib)

    @property
    def seconds(self) -> list[float]:
        return [second for round_ in self.rounds for second in round_]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def memory(self) -> str:
        """Return the peak in MiB, with the part that came after loading."""
        return f"{self.peak_mib:.0f} ({self.peak_mib - self.loaded_mib:.0f})"

    def per_series(self, load: Load) -> str:
        """Return milliseconds: the median, and the range."""
        return spread([1000 * second / load.series for second in self.seconds], 1)


def times_faster(ours: Measured, theirs: Measured) -> list[float]:
    """Return the ratio of medians for each round, in which both sides had the same machine load."""
    pairs = zip(ours.rounds, theirs.rounds, strict=True)
    return sorted(
        statistics.median(their_round) / statistics.median(our_round)
        for our_round, their_round in pairs
    )


def spread(numbers: Sequence[float], digits: int = 0) -> str:
    """Return the median, with the range if there are several numbers."""
    low, high = min(numbers), max(numbers)
    text = f" ({low:.{digits}f} to {high:.{digits}f})" if len(numbers) > 1 else ""
    return f"{statistics.median(numbers):.{digits}f}{text}"


@dataclass
class Bench:
    """The measurements so far."""

    folder: Path  # of the checkpoint
    threads: int
    at_least_s: float  # minimum time for repeating our side
    reference_python: Path | None
    ours: dict[tuple[Load, str], Measured] = field(default_factory=dict)
    reference: dict[Load, Measured] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)  # by dtype, operations/s

    def measure(self, load: Load, dtype: str = "float32") -> None:
        say(f"ours, {load}, {dtype}")
        answer = self.ask_ours(str(self.folder), load.cases(), load.paths, dtype, repeats=1)
        measured = self.ours.setdefault((load, dtype), Measured())
        measured.add(answer["seconds"], answer["loaded_mib"], answer["peak_mib"])
        measured.shares = answer["shares"]

    def measure_machine(self, dtypes: Sequence[str]) -> None:
        """Measure how fast the machine multiplies now."""
        say("the machine's matrix products")
        question = {"rates": list(dtypes), "threads": self.threads}
        for dtype, rate in ask(Path(sys.executable), OURS, question).items():
            self.rates.setdefault(dtype, []).append(rate)

    def ask_ours(
        self,
        checkpoint: str,
        series: list[dict[str, Any]],
        samples: int,
        dtype: str,
        *,
        repeats: int = 0,
        seed: int = 0,
    ) -> dict[str, Any]:
        question = {
            "checkpoint": checkpoint,
            "series": series,
            "samples": samples,
            "dtype": dtype,
            "repeats": repeats,
            "at_least_s": self.at_least_s if repeats else 0,
            "seed": seed,
            "threads": self.threads,
        }
        return dict(ask(Path(sys.executable), OURS, question))

    def measure_reference(self, load: Load) -> None:
        if self.reference_python is None:
            return
        say(f"reference, {load}")
        question = {
            "model": str(self.folder / "model"),
            "tokenizer": str(self.folder / "tokenizer"),
            "max_context": 2048,
            "threads": self.threads,
            "record": False,
            "calls": [{"series": load.cases(), "samples": load.paths, "top_k": 0, "top_p": 0.9}],
        }
        answer = ask(self.reference_python, WORKER, question)
        seconds = [call["seconds"] for call in answer["calls"]]
        measured = self.reference.setdefault(load, Measured())
        measured.add(seconds, answer["loaded_mib"], answer["peak_mib"])
