"""Compare the engine with the reference implementation.

    python -m kronos_space.verification.verify                            the bundled kronos-nano
    python -m kronos_space.verification.verify --checkpoint kronos-mini   downloaded from the Hub
    python -m kronos_space.verification.verify --checkpoint FOLDER
    python -m kronos_space.verification.verify --shape kronos-mini        its shape, random weights

Both forecast the same histories, greedily, in eval mode and float32. Every token must be equal.
Every value must agree within 1e-5 times the sum of its size and its column's standard deviation.
The exit status is 0 if they do, 1 if not, and 2 if the comparison could not be made.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kronos_space.engine.engine import Engine
from kronos_space.engine.sampling import SamplingParams
from kronos_space.forecasting.candles import EPSILON, Floats
from kronos_space.verification.cases import Case, made_up, prompt_for, real
from kronos_space.verification.reference import (
    ENVIRONMENT,
    PACKAGE,
    VERSION,
    WORKER,
    ComparisonError,
    ask,
    reference_python,
)
from kronos_space.verification.synthetic_weights import PUBLISHED_MODELS, write_checkpoint
from kronos_space.weights.catalogue import CATALOGUE
from kronos_space.weights.checkpoint import Checkpoint, CheckpointError, load_checkpoint

TOLERANCE = 1e-5
GREEDY = SamplingParams(samples=1, top_k=1, top_p=1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison. Return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        python = reference_python(options.environment)
        with _checkpoint(options) as checkpoint:
            comparisons = verify(checkpoint, cases(checkpoint.max_context), python)
    except (CheckpointError, ComparisonError) as error:
        print(f"verify: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(report(checkpoint.name, comparisons))  # noqa: T201
    return 0 if all(comparison.equal for comparison in comparisons) else 1


@dataclass(frozen=True)
class Answer:
    """One greedy forecast."""

    s1: list[int]  # one per future bar
    s2: list[int]
    values: Floats  # (horizon, 6), in prices and volumes


@dataclass(frozen=True)
class Comparison:
    """Difference between the engine and the reference in one case."""

    case: Case
    equal_tokens: int  # of 2 · horizon
    error: float  # the largest, relative to value and deviation
    margin: float  # smallest difference between the reference's two best logits

    @property
    def equal(self) -> bool:
        return self.equal_tokens == 2 * len(self.case.targets) and self.error <= TOLERANCE


def verify(checkpoint: Checkpoint, cases: Sequence[Case], python: Path) -> list[Comparison]:
    """Compare both on every case.

    Raises:
        ComparisonError: The reference cannot be run.
    """
    question = {
        "model": checkpoint.model.name_or_path,
        "tokenizer": checkpoint.tokenizer.name_or_path,
        "max_context": checkpoint.max_context,
        "threads": torch.get_num_threads(),
        "record": True,
        "calls": [
            {"series": [case.as_json()], "samples": 1, "top_k": 1, "top_p": 1.0} for case in cases
        ],
    }
    engine = Engine(checkpoint)
    return [
        compare(
            case,
            greedy(engine, case),
            Answer(answer["s1"][0], answer["s2"][0], np.array(answer["values"][0])),
            answer["margin"],
        )
        for case, answer in zip(cases, ask(python, WORKER, question)["calls"], strict=True)
    ]


def cases(max_context: int) -> list[Case]:
    """Return histories: short, long, full context; daily and hourly; with and without volume.

    Cases of real candles are included if the package of samples is installed.
    """
    wanted = [
        made_up("walk", bars=64, horizon=5),
        made_up("hourly walk", bars=120, horizon=24, hourly=True, volume=False),
        made_up("long walk", bars=500, horizon=5, seed=1),
        made_up("longest walk", bars=max_context, horizon=10, seed=2),
        *real("AAPL", bars=200, horizon=5),
        *real("MSFT", bars=300, horizon=12, volume=False),
        *real("IBM", bars=32, horizon=3),
    ]
    return [case.newest(max_context - len(case.targets)) for case in wanted]


def greedy(engine: Engine, case: Case) -> Answer:
    """Return the engine's greedy forecast."""
    prompt, scale = prompt_for(*case.parsed(), GREEDY, seed=0)
    [paths] = engine.generate([prompt])
    return Answer(paths.s1[0].tolist(), paths.s2[0].tolist(), scale.restore(paths.bars)[0])


def compare(case: Case, engine: Answer, reference: Answer, margin: float) -> Comparison:
    pairs = [*zip(engine.s1, reference.s1, strict=True), *zip(engine.s2, reference.s2, strict=True)]
    history, _ = case.parsed()
    # a constant column, such as a missing volume, is scaled by EPSILON
    deviation = history.values.std(axis=0) + EPSILON
    error = np.abs(engine.values - reference.values) / (np.abs(reference.values) + deviation)
    return Comparison(case, sum(a == b for a, b in pairs), float(error.max()), margin)


def report(name: str, comparisons: Sequence[Comparison]) -> str:
    """Print the table and the conclusion."""
    lines = [
        f"{name} against {PACKAGE} {VERSION}: greedy, float32, torch {torch.__version__}",
        f"{'history':<14}{'bars':>6}{'horizon':>9}{'volume':>8}{'equal tokens':>14}"
        f"{'largest error':>15}{'closest choice':>16}",
    ]
    for comparison in comparisons:
        bars, horizon = len(comparison.case.history["timestamp"]), len(comparison.case.targets)
        lines.append(
            f"{comparison.case.name:<14}{bars:>6}{horizon:>9}"
            f"{'yes' if 'volume' in comparison.case.history else 'no':>8}"
            f"{f'{comparison.equal_tokens} of {2 * horizon}':>14}"
            f"{comparison.error:>15.1e}{comparison.margin:>16.1e}"
            f"{'' if comparison.equal else '  DIFFERS'}"
        )
    differing = sum(not comparison.equal for comparison in comparisons)
    lines.append(
        f"{differing} of {len(comparisons)} differ"
        if differing
        else f"all {len(comparisons)} equal: every token, and values within {TOLERANCE:.0e}"
    )
    return "\n".join(lines)


@contextmanager
def _checkpoint(options: argparse.Namespace) -> Iterator[Checkpoint]:
    if options.shape is None:
        yield load_checkpoint(options.checkpoint)
        return
    with tempfile.TemporaryDirectory() as folder:
        context = CATALOGUE[options.shape].max_context
        write_checkpoint(Path(folder), options.shape, context)
        yield load_checkpoint(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kronos_space.verification.verify",
        description="Compare the engine's greedy forecasts with those of the reference "
        f"implementation, {PACKAGE} {VERSION}. Exit status: 0 equal, 1 different, 2 could not "
        "be compared.",
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--checkpoint",
        default="kronos-nano",
        metavar="NAME_OR_FOLDER",
        help="as KRONOS_MODEL: kronos-nano (bundled, the default), a published model, which is "
        "downloaded, or a checkpoint folder",
    )
    weights.add_argument(
        "--shape",
        choices=list(PUBLISHED_MODELS),
        help="the shape of a published model, filled with synthetic numbers: no download",
    )
    parser.add_argument(
        "--environment",
        type=Path,
        default=ENVIRONMENT,
        metavar="FOLDER",
        help="where the reference is installed, or will be (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
