"""Asks each side for a forecast, in a process of its own, and keeps how long and how large."""

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
    """What is forecast."""

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
    """One side, one load, one dtype."""

    seconds: list[float] = field(default_factory=list)
    loaded_mib: float = 0.0  # resident once imported and loaded
    peak_mib: float = 0.0  # resident at most, in all

    def add(self, seconds: Sequence[float], loaded_mib: float, peak_mib: float) -> None:
        self.seconds += seconds
        self.loaded_mib = max(self.loaded_mib, loaded_mib)
        self.peak_mib = max(self.peak_mib, peak_mib)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def memory(self) -> str:
        """MiB: the peak, and what of it came after loading."""
        return f"{self.peak_mib:.0f} ({self.peak_mib - self.loaded_mib:.0f})"

    def per_series(self, load: Load) -> str:
        """Milliseconds: the median, and the range."""
        low, high = (1000 * t / load.series for t in (min(self.seconds), max(self.seconds)))
        spread = f" ({low:.1f} to {high:.1f})" if len(self.seconds) > 1 else ""
        return f"{1000 * self.median / load.series:.1f}{spread}"


@dataclass
class Bench:
    """The measurements, as they are made."""

    folder: Path  # of the checkpoint
    threads: int
    at_least_s: float  # how long ours is repeated, each time
    reference_python: Path | None
    ours: dict[tuple[Load, str], Measured] = field(default_factory=dict)
    reference: dict[Load, Measured] = field(default_factory=dict)
    machine_rates: list[float] = field(default_factory=list)

    def measure(self, load: Load, dtype: str = "float32", *, machine: bool = False) -> None:
        say(f"ours, {load}, {dtype}")
        answer = self.ask_ours(
            str(self.folder), load.cases(), load.paths, dtype, repeats=1, machine=machine
        )
        measured = self.ours.setdefault((load, dtype), Measured())
        measured.add(answer["seconds"], answer["loaded_mib"], answer["peak_mib"])
        if machine:
            self.machine_rates.append(answer["flop_per_second"])

    def ask_ours(
        self,
        checkpoint: str,
        series: list[dict[str, Any]],
        samples: int,
        dtype: str,
        *,
        repeats: int = 0,
        machine: bool = False,
        seed: int = 0,
    ) -> dict[str, Any]:
        question = {
            "checkpoint": checkpoint,
            "series": series,
            "samples": samples,
            "dtype": dtype,
            "repeats": repeats,
            "at_least_s": self.at_least_s if repeats else 0,
            "measure_machine": machine,
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
